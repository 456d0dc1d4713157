"""An adapter merged into its model's weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any


def merge(model: Path, adapter: Path, destination: Path) -> None:
    """Write `model` with a LoRA adapter merged in (W + scale B A), in the model's own dtype.

    The folder appears whole, with the model's tokenizer and chat template. Where the adapter changes one of
    two tied weights (the embedding, the output layer), the merged model holds both.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
    tied = _untie(base)
    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload(safe_merge=True)
    if tied:
        _tie_again(merged)
    temporary = destination.with_name(f".{destination.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    merged.save_pretrained(temporary)
    for pattern in ("tokenizer*", "*.jinja", "special_tokens_map.json", "vocab.*", "merges.txt"):
        for file in model.glob(pattern):
            shutil.copy2(file, temporary / file.name)
    if destination.exists():
        destination.rmdir()
    temporary.replace(destination)


def _untie(model: Any) -> bool:
    """Give the output layer a copy of the embedding's weight where they share it, and say whether they did.

    An adapter changes what one of the two does; merged into a shared weight it would change both.
    """
    from torch.nn import Parameter

    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is not embedding.weight:
        return False
    head.weight = Parameter(head.weight.detach().clone(), requires_grad=False)
    model.config.tie_word_embeddings = False
    return True


def _tie_again(model: Any) -> None:
    """Share the weight once more where the adapter left both alone."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head.weight.equal(embedding.weight):
        head.weight = embedding.weight
        model.config.tie_word_embeddings = True
