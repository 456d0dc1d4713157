"""Whether an adapter fits a model, from the headers of their files."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tina_harness.errors import TinaError
from tina_harness.files import safetensors_header

Shapes = Mapping[str, list[int]]
_WHOLE = ("token_adapter.trainable_tokens_delta",)  # of no shape that a header could be compared with


def check_adapter(adapter: Path, model: Path) -> int:
    """The largest rank in a LoRA adapter of peft's format. Raises TinaError where it is none, or of another
    model.

    Only headers are read. Each pair of LoRA matrices, (rank, in) and (out, rank), has to match a weight of
    the model: (out, in), (in, out) of a Conv1D such as GPT-2's, or (tokens, dimension) of an embedding. Each
    tensor that the adapter holds whole has to match the one that it replaces.
    """
    settings, tensors = _settings(adapter), _tensors(adapter)
    pairs = {name.partition(".lora_")[0] for name in tensors if ".lora_" in name}
    if not pairs:
        raise _no_adapter(adapter, "its file has no LoRA matrices under names that peft knows")
    weights = model_shapes(model)
    ranks = [int(settings.get("r") or 0)]
    for module in sorted(pairs):
        found = _pair(tensors, module)
        if found is None:
            raise _misfit(adapter, model, settings, f"{module}, which is not a pair of matrices")
        rank, wanted = found
        ranks.append(rank)
        has = _weight(module, weights, model) if weights else wanted
        if wanted != has and not (wanted[::-1] == has and _transposed(module, weights)):
            raise _misfit(adapter, model, settings, f"{module}, {wanted}, {_where(has)}")
    for name, shape in tensors.items() if weights else ():
        if ".lora_" not in name and not name.endswith(_WHOLE):
            module, _, kind = name.replace(".base_layer.", ".").rpartition(".")
            has = _weight(module, weights, model, kind)
            if shape != has:
                raise _misfit(adapter, model, settings, f"{name}, {shape}, {_where(has)}")
    return max(ranks)


def model_shapes(model: Path) -> Shapes:
    """Tensor name -> shape of a model's safetensors files, one or several; empty where it has others."""
    return {
        name: shape for file in sorted(model.glob("*.safetensors")) for name, shape in _shapes(file).items()
    }


def _settings(adapter: Path) -> dict[str, Any]:
    try:
        settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        kind = settings["peft_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_adapter(adapter, f"{type(error).__name__}: {error}") from error
    if kind != "LORA":
        raise TinaError(
            f"{adapter} holds an adapter of the kind {kind}, and only LoRA is evaluated and merged",
            "merge it into its model with peft, and evaluate that: tina eval FOLDER",
        )
    return dict(settings)


def _tensors(adapter: Path) -> Shapes:
    """Tensor name, less what peft puts before it -> shape."""
    file = adapter / "adapter_model.safetensors"
    if not file.exists() and (adapter / "adapter_model.bin").exists():
        raise TinaError(
            f"{adapter}/adapter_model.bin is a pickle, which could run anything, and is not opened",
            "where you trust it: load it with peft and save it again, as adapter_model.safetensors",
        )
    try:
        return {name.removeprefix("base_model.model."): shape for name, shape in _shapes(file).items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_adapter(adapter, f"{type(error).__name__}: {error}") from error


def _pair(tensors: Shapes, module: str) -> tuple[int, list[int]] | None:
    """(rank, shape of the weight that a module's two LoRA matrices change); None where they are no pair."""
    down, up = (tensors.get(f"{module}.lora_{side}.weight", []) for side in "AB")
    table, back = (tensors.get(f"{module}.lora_embedding_{side}", []) for side in "AB")
    if len(table) == len(back) == 2 and table[0] == back[1]:
        return table[0], [table[1], back[0]]
    if len(down) == len(up) >= 2 and down[0] == up[1]:
        return down[0], [up[0], *down[1:]]
    return None


def _weight(module: str, weights: Shapes, model: Path, kind: str = "weight") -> list[int] | None:
    """The shape of a module's weight; None where the model has no such module.

    Files may leave out the beginning of a name (GPT-2's have `h.0` for `transformer.h.0`). They do not hold
    the output layer of a model where it is tied to its embedding.
    """
    parts = [*module.split("."), kind]
    for start in range(len(parts) - 1):
        if (shape := weights.get(".".join(parts[start:]))) is not None:
            return shape
    if kind == "weight" and not any(part.isdigit() for part in parts):
        return _tied_embedding(weights, model)
    return None


def _tied_embedding(weights: Shapes, model: Path) -> list[int] | None:
    """The shape of the embedding that is the output layer too; None where the configuration unties them."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    if not config.get("tie_word_embeddings", True):
        return None
    rows = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    return next((s for s in weights.values() if len(s) == 2 and s[0] == rows), None)


def _transposed(module: str, weights: Shapes) -> bool:
    """Whether a module keeps its weight as (in, out): a Conv1D's bias is as long as its weight is wide."""
    parts = module.split(".")
    names = (".".join(parts[start:]) for start in range(len(parts)))
    name = next((n for n in names if f"{n}.weight" in weights), "")
    return name != "" and weights.get(f"{name}.bias") == weights[f"{name}.weight"][1:]


def _where(shape: list[int] | None) -> str:
    return "which the model has not" if shape is None else f"where the model has {shape}"


def _misfit(adapter: Path, model: Path, settings: Mapping[str, Any], what: str) -> TinaError:
    base = settings.get("base_model_name_or_path") or "not said"
    return TinaError(
        f"the adapter {adapter} does not fit {model}: it changes {what}",
        f"evaluate it with the model that it was trained from (its configuration says: {base})",
    )


def _no_adapter(adapter: Path, why: str) -> TinaError:
    hint = "a folder with adapter_config.json and adapter_model.safetensors is one"
    return TinaError(f"{adapter} holds no LoRA adapter: {why}", hint)


# Settings of LoRA that say where its matrices are and how large; and what peft notes besides.
MATRICES = frozenset((
    "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform",
    "layers_pattern", "fan_in_fan_out", "use_rslora", "peft_type", "task_type", "auto_mapping",
    "base_model_name_or_path", "revision", "inference_mode", "peft_version", "megatron_core",
    "qalora_group_size", "eva_config",
))  # fmt: skip
# Values of other settings that change nothing. Initialisations not named here (PiSSA, OLoRA, CorDA, LoftQ)
# subtract the adapter from the model's weights when it is loaded.
PLAIN = {
    "bias": ("none",),
    "init_lora_weights": (True, "gaussian", "eva", "orthogonal"),
}


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


def beyond_matrices(adapter: Path, allowed: Collection[str] = ()) -> list[str]:
    """What an adapter is besides LoRA matrices beside the model's weights, such as ["bias=all"].

    [] for an adapter that comes off whole when it is switched off. allowed: settings that may be anything.
    Tensors count as well as settings: peft puts those that are not its own into the model. Raises TinaError
    where it is no LoRA adapter.
    """
    settings = {n: v for n, v in _settings(adapter).items() if n not in MATRICES and n not in allowed}
    other = {n: v for n, v in settings.items() if v and v not in PLAIN.get(n, ())}
    found = [f"{n}={v}" if isinstance(v, str) else n for n, v in other.items()]
    return found or [f"the tensor {n}" for n in _tensors(adapter) if ".lora_" not in n][:1]


def _shapes(file: Path) -> dict[str, list[int]]:
    """Tensor name -> shape, from the header of a safetensors file."""
    header, _ = safetensors_header(file)
    return {name: entry["shape"] for name, entry in header.items()}
