"""Checkpoints are sealed by the checksums of their files: what was cut, changed or not finished is told."""

from __future__ import annotations

import json
from pathlib import Path

from tina_harness.errors import RunError
from tina_harness.files import safetensors_header, sha256, write_json

CHECKSUMS = "checksums.json"


def seal(folder: Path) -> None:
    """Write the checksums of a folder's files, the last of them: a folder without them was not finished."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != CHECKSUMS]
    write_json(folder / CHECKSUMS, {str(p.relative_to(folder)): sha256(p) for p in files})


def damaged(folder: Path) -> str:
    """What is wrong with a sealed folder, in a few words; "" where nothing is."""
    try:
        sums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        for name, digest in sums.items():
            if sha256(folder / name) != digest:
                return f"{name} has changed"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing ({error.strerror})"
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return str(error) or type(error).__name__
    return ""


def check_whole(folder: Path) -> None:
    """Raise RunError where a folder was sealed and is not as it was then, or an adapter holds no numbers.

    A folder without a seal, such as an adapter from elsewhere, may have any files.
    """
    damage = damaged(folder) if (folder / CHECKSUMS).exists() else ""
    if damage := damage or not_finite(folder):
        raise RunError(
            f"the checkpoint {folder} is damaged: {damage}",
            "its numbers would be those of another model; use another checkpoint, or train it again",
        )


def not_finite(folder: Path) -> str:
    """Which tensor of an adapter has values that are no numbers (NaN or infinite), in words; "" for none."""
    import numpy as np

    path = folder / "adapter_model.safetensors"
    try:
        header, begin = safetensors_header(path)
        data = np.memmap(path, dtype=np.uint8, mode="r", offset=begin)
        for name, entry in header.items():
            if entry["dtype"] in _EXPONENT:
                kind, mask = _EXPONENT[entry["dtype"]]
                start, end = entry["data_offsets"]
                bits = np.frombuffer(data[start:end].tobytes(), dtype=kind)
                if bool(((bits & mask) == mask).any()):
                    return f"{name} has values that are not finite"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError):
        return ""  # not an adapter, or one that `check_adapter` refuses with the reason
    return ""


# The bits of a float's exponent, all set where it is infinite or NaN, by safetensors' name of its type.
_EXPONENT = {
    "F64": ("<u8", 0x7FF0000000000000),
    "F32": ("<u4", 0x7F800000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}
