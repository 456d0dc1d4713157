"""The embedded model: what is shipped is what its script made."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tina_plugins.models.nano import folder

TOOL = Path(__file__).resolve().parent.parent / "tools" / "make_nano.py"


@pytest.fixture(scope="module")
def loaded():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoTokenizer.from_pretrained(folder()), AutoModelForCausalLM.from_pretrained(folder())


def test_ids_text_and_logits_are_those_from_before_it_was_packaged(loaded):
    import torch

    tokenizer, model = loaded
    for probe in json.loads((folder() / "recipe.json").read_text())["probes"]:
        ids = tokenizer(probe["text"])["input_ids"]
        assert ids == probe["ids"]
        assert tokenizer.decode(ids) == probe["decoded"] == probe["text"]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1, :8].tolist()
        assert logits == pytest.approx(probe["last_logits"], abs=1e-4)


def test_any_text_goes_through_the_tokenizer_unchanged(loaded):
    tokenizer, _ = loaded
    for text in ("a\n\n b  c", "Grüße, λ ≤ 3 ∞ 🎲", "<think>\\boxed{1}</think>", ""):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_it_is_a_qwen2_of_at_most_two_megabytes(loaded):
    _, model = loaded
    assert model.config.model_type == "qwen2"
    assert sum(p.stat().st_size for p in folder().iterdir()) <= 2_000_000


def test_recipe_and_files_belong_together_and_a_change_is_noticed(tmp_path):
    def check(place):
        return subprocess.run(
            [sys.executable, TOOL, "--check", place], capture_output=True, text=True, check=False
        )

    assert check(folder()).returncode == 0
    recorded = shutil.copytree(folder(), tmp_path / "recorded") / "recipe.json"
    recorded.write_text(recorded.read_text().replace('"seed": 7', '"seed": 8'))
    assert check(recorded.parent).returncode == 1
    copy = shutil.copytree(folder(), tmp_path / "copy")
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    done = check(copy)
    assert done.returncode == 1
    assert "model.safetensors is not the file that the recipe made" in done.stdout


def test_a_changed_generator_is_noticed(tmp_path):
    root = TOOL.parent.parent
    shutil.copytree(root / "tools", tmp_path / "tools")
    shutil.copytree(root / "plugins", tmp_path / "plugins")
    generator = tmp_path / "plugins" / "tina_plugins" / "arithmetic.py"
    generator.write_text(generator.read_text().replace("range(100)", "range(50)", 1))
    command = [sys.executable, tmp_path / "tools" / "make_nano.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "arithmetic.py was changed" in done.stdout
