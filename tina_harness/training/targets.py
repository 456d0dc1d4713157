"""Whether the modules that `lora.targets` names are there, and can be trained with an adapter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tina_harness.errors import TinaError

Modules = Mapping[str, int | None]  # name -> dimensions of its weight; 0: none, None: not known
HEADS = ("lm_head", "embed_out")  # what output layers are called
_NO_ADAPTER = (0, 1)  # dimensions that peft has no adapter for: containers, norms
_BEGINNINGS = ("model.", "transformer.", "gpt_neox.", "backbone.")  # of layers' names in a causal model


def check_targets(wanted: Sequence[str] | str | None, modules: Modules, heads: Sequence[str] = HEADS) -> None:
    """Raise TinaError where peft or the trainer would refuse one of the wanted modules.

    wanted: names, of which the ends count, or a regular expression for whole names, as peft takes them.
    """
    if wanted is None or wanted == "all-linear":
        return
    for pattern in [wanted] if isinstance(wanted, str) else wanted:
        matches = _matcher(pattern, isinstance(wanted, str))
        if head := next((name for name in heads if matches(name)), None):
            raise TinaError(
                f"lora.targets names {head}, the output layer: a training takes log-probabilities from its "
                "own weight, so that an adapter on it would never be trained",
                "leave it out; --set lora.targets=all-linear takes every linear layer but that one",
            )
        found = [name for name in modules if matches(name)]
        if not found and ("." not in pattern or any(name.startswith(_BEGINNINGS) for name in modules)):
            raise TinaError(f"the model has no module '{pattern}' to adapt", _it_has(modules))
        if wrong := next((name for name in found if modules[name] in _NO_ADAPTER), None):
            raise TinaError(
                f"lora.targets names {wrong}, which is neither a linear layer nor an embedding",
                _it_has(modules),
            )


def modules_of(tensors: Mapping[str, Sequence[int]]) -> dict[str, int | None]:
    """The modules that the names of a model's tensors tell of; files may leave out their beginnings."""
    found: dict[str, int | None] = {}
    for tensor, shape in tensors.items():
        module, _, kind = tensor.rpartition(".")
        if kind == "weight" or module not in found:
            found[module] = len(shape) if kind == "weight" else None
    for module in list(found):
        while module := module.rpartition(".")[0]:
            if found.get(module) is None:
                found[module] = 0
    return found


def modules_in(model: Any) -> dict[str, int | None]:
    """The modules of a loaded model."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    known = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv1D)
    found: dict[str, int | None] = {}
    for name, module in model.named_modules():
        quantized = hasattr(module, "qweight") or hasattr(module, "weight_packed")
        found[name] = module.weight.dim() if isinstance(module, known) else None if quantized else 0
    return found


def _matcher(pattern: str, expression: bool) -> Any:
    if expression:
        return re.compile(pattern).fullmatch
    return lambda name: name == pattern or name.endswith(f".{pattern}")


def _it_has(modules: Modules) -> str:
    layers = {
        n.rpartition(".")[2] for n, d in modules.items() if d not in _NO_ADAPTER and re.search(r"\d", n)
    }
    names = ", ".join(f'"{n}"' for n in sorted(layers))
    return f"it has: --set 'lora.targets=[{names}]'; or all-linear, or a regular expression for whole names"
