"""An adapter merged into its model's weights."""

from __future__ import annotations

import shutil
from pathlib import Path


def merge(model: Path, adapter: Path, destination: Path) -> None:
    """Write `model` with a LoRA adapter merged in (W + scale B A), in the model's own dtype.

    The folder appears whole, with the model's tokenizer and chat template.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload(safe_merge=True)
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
