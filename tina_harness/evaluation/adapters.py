"""Whether an adapter fits a model, from the headers of their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tina_harness.errors import TinaError


def check_adapter(adapter: Path, model: Path) -> int:
    """The rank of a LoRA adapter in peft's format. Raises TinaError where it is none, or of another model.

    Only headers are read: each pair of LoRA matrices, (rank, in) and (out, rank), has to match a weight
    (out, in) of the model.
    """
    try:
        settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        shapes = _shapes(adapter / "adapter_model.safetensors")
        rank = int(settings["r"])
    except (OSError, ValueError, KeyError) as error:
        raise TinaError(
            f"{adapter} holds no LoRA adapter: {type(error).__name__}: {error}",
            "a folder with adapter_config.json and adapter_model.safetensors is one",
        ) from error
    weights = {name: shape for file in model.glob("*.safetensors") for name, shape in _shapes(file).items()}
    pairs = {name.partition(".lora_")[0] for name in shapes if ".lora_A." in name or ".lora_B." in name}
    for pair in sorted(pairs) if weights else ():
        down, up = (shapes.get(f"{pair}.lora_{side}.weight", []) for side in "AB")
        weight = weights.get(pair.removeprefix("base_model.model.") + ".weight")
        if len(down) != 2 or len(up) != 2 or weight != [up[0], down[1]]:
            base = settings.get("base_model_name_or_path") or "not said"
            found = "which the model has not" if weight is None else f"where the model has {weight}"
            wanted = f"[{up[0]}, {down[1]}]" if len(down) == len(up) == 2 else "a pair of matrices"
            raise TinaError(
                f"the adapter {adapter} does not fit {model}: it changes {pair}, {wanted}, {found}",
                f"evaluate it with the model that it was trained from (its configuration says: {base})",
            )
    return rank


def adapter_settings(adapter: Path) -> dict[str, Any]:
    """An adapter's `adapter_config.json`. Raises TinaError where it cannot be read."""
    path = adapter / "adapter_config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        return {**settings}
    except (OSError, ValueError, TypeError) as error:
        raise TinaError(
            f"{path} cannot be read: {type(error).__name__}: {error}",
            "it is written beside the adapter's weights by peft's save_pretrained",
        ) from error


def _shapes(file: Path) -> dict[str, list[int]]:
    """Tensor name -> shape, from the header of a safetensors file."""
    with open(file, "rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        if not 0 < size < 100_000_000:
            raise ValueError(f"{file} is not a safetensors file")
        header = json.loads(opened.read(size))
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
