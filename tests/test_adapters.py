"""Adapters of one's own: evaluated beside the base, and refused where they do not fit it."""

import json
import subprocess

import pytest

from tina_harness import Sampling, TinaError
from tina_harness.evaluation.adapters import check_adapter
from tina_plugins.engines.transformers import Session
from tina_plugins.models.nano import folder

EVAL = ("eval", "tina-nano", "--bench", "arithmetic-heldout", "--limit", "5", "--samples", "2", "--json")


def write_adapter(path, rank=4, targets=("q_proj",), spread=0.5):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder()), LoraConfig(r=rank, target_modules=list(targets))
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=spread)
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return write_adapter(tmp_path_factory.mktemp("here") / "mine", targets=("q_proj", "down_proj"))


def test_an_adapter_is_evaluated_on_its_model(adapter, tina):
    (base,) = json.loads(tina(*EVAL).stdout)
    done = tina(*EVAL, "--adapter", adapter, "--base")
    assert done.returncode == 0, done.stderr
    found, beside = sorted(json.loads(done.stdout), key=lambda r: r["checkpoint"])
    assert (beside["pass@1"], beside["reused"]) == (base["pass@1"], 10)
    assert (found["checkpoint"], found["label"]) == ("adapter mine", "tina-nano + mine")
    assert found["pass@1"] < base["pass@1"]
    assert tina("compare", found["run"], base["run"]).returncode == 0


def test_adapters_are_switched_in_place(adapter, tmp_path):
    """In one session each gives what a session of its own gives, whatever was used before."""
    other = write_adapter(tmp_path / "other", rank=8, targets=("v_proj",))
    greedy = Sampling(0.0, 1.0, 12)

    def texts(session, which):
        found = dict(session.generate(["2 + 3 =", "What is 7 - 4?"], [0, 1], greedy, which))
        return [found[i].text for i in range(2)]

    alone = {}
    for which in (None, adapter, other):
        alone[which] = texts(Session(folder(), "float32", 64, 0), which)
    assert len({tuple(found) for found in alone.values()}) == 3
    session = Session(folder(), "float32", 64, 8)
    for which in (None, adapter, other, None, adapter, None, other):
        assert texts(session, which) == alone[which]
    session.close()


def test_the_rank_is_read_and_an_adapter_of_another_model_is_refused(adapter, tina, tmp_path):
    assert check_adapter(adapter, folder()) == 4
    (tmp_path / "smaller").mkdir()
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(folder() / "model.safetensors")
    save_file(
        {n: w[..., : w.shape[-1] // 2].contiguous() for n, w in weights.items()},
        tmp_path / "smaller" / "model.safetensors",
    )
    with pytest.raises(TinaError, match=r"does not fit .*smaller: it changes .*_proj, \[") as caught:
        check_adapter(adapter, tmp_path / "smaller")
    assert "its configuration says" in caught.value.hint
    save_file({"other.weight": torch.zeros(2)}, tmp_path / "smaller" / "model.safetensors")
    with pytest.raises(TinaError, match="which the model has not"):
        check_adapter(adapter, tmp_path / "smaller")
    done = tina(*EVAL, "--adapter", tmp_path / "smaller")
    assert done.returncode == 2
    assert "holds no LoRA adapter" in done.stderr


def test_an_adapter_with_a_run_says_how_a_checkpoint_is_named(adapter, tina, tmp_path):
    (found,) = json.loads(tina(*EVAL).stdout)
    done = tina("eval", found["run"], "--bench", "arithmetic-heldout", "--adapter", adapter)
    assert done.returncode == 2
    assert f"tina eval {found['run']}@STEP" in done.stderr


def test_a_full_disk_ends_an_evaluation_with_a_sentence_and_its_samples_kept(tina, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    words = ("eval", "tina-nano", "--bench", "arithmetic-heldout", "--samples", "4", "--runs-dir", str(small))
    try:
        done = tina(*words)
        assert done.returncode == 1, done.stderr
        assert "full" in done.stderr
        assert "Traceback" not in done.stderr + done.stdout
        kept = sum(p.read_bytes().count(b"\n") for p in small.glob(".samples/*.jsonl"))
        assert kept > 20
        subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
        again = tina(*words, "--json")
        assert json.loads(again.stdout)[0]["reused"] == kept
    finally:
        subprocess.run(["umount", str(small)], check=False)
