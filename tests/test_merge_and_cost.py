"""What a run is worth afterwards: its merged model, and its cost."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from conftest import tina_command

    place = tmp_path_factory.mktemp("run")
    words = ("run", "--max-steps", "3", "--limit", "4", "--samples", "1", "--set", "train.save_every=2")
    done = tina_command(*words, "--lr", "0.01", cwd=place)
    assert done.returncode == 0, done.stderr
    (path,) = place.glob("runs/*/manifest.json")
    return path.parent


def test_a_merged_model_has_the_logits_of_base_and_adapter_and_is_evaluated_as_one(run, tina, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tina_plugins.models.nano import folder

    done = tina("merge", run, "merged")
    assert (done.returncode, done.stderr) == (0, "")
    base = AutoModelForCausalLM.from_pretrained(folder()).eval()
    ids = AutoTokenizer.from_pretrained("merged")("What is 4 + 5?", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        before = base(ids).logits
        merged = AutoModelForCausalLM.from_pretrained("merged").eval()(ids).logits
        both = PeftModel.from_pretrained(base, run / "checkpoints" / "checkpoint-3").eval()(ids).logits
    assert torch.allclose(merged, both, atol=1e-4)
    assert not torch.allclose(merged, before, atol=1e-2)
    assert Path("merged/model.safetensors").exists()
    words = ("--bench", "arithmetic-heldout", "--limit", "2", "--samples", "1", "--json")
    assert tina("eval", "merged", *words).returncode == 0
    assert "not an empty folder" in tina("merge", run, "merged").stderr
    assert "it has steps 2, 3; or best" in tina("merge", f"{run}@7", "other").stderr
    assert not Path("other").exists()


def test_the_cost_is_the_ledger_s_by_phase_beside_published_ones(run, tina):
    found = json.loads(tina("cost", run, "--json").stdout)
    ledger = json.loads((run / "manifest.json").read_text())["seconds"]
    phases = {r["phase"]: r for r in found if "phase" in r}
    assert phases.keys() == {*ledger, "all"}
    assert phases["all"]["seconds"] == pytest.approx(sum(ledger.values()), abs=0.1)
    assert phases["all"]["usd"] == pytest.approx(0.10 * sum(ledger.values()) / 3600, abs=1e-5)
    published = {r["training"]: r for r in found if "training" in r}
    assert published["DeepScaleR-1.5B-Preview, full parameters"]["usd"] == 3629
    assert "at $0.10 an hour" in tina("cost", run).stdout
