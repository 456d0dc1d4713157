"""Checkpoints are sealed by the checksums of their files: what was cut, changed or not finished is told."""

from __future__ import annotations

import json
from pathlib import Path

from tina_harness.errors import RunError
from tina_harness.files import sha256, write_json

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
                return f"{name} has changed since it was written"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return str(error) or type(error).__name__
    return ""


def check_seal(folder: Path) -> None:
    """Raise RunError where a folder was sealed and is not as it was then. One without a seal passes."""
    if (folder / CHECKSUMS).exists() and (damage := damaged(folder)):
        raise RunError(
            f"the checkpoint {folder} is damaged: {damage}",
            "its numbers would be those of another model; use another checkpoint, or train it again",
        )
