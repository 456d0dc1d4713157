"""Adapters of one's own: evaluated beside the base, and refused where they do not fit it."""

import json
import subprocess

import pytest
from conftest import score

from tina_harness import Engine, Sampling, TinaError, registry
from tina_harness.evaluation.adapters import check_adapter
from tina_plugins.engines.transformers import Session
from tina_plugins.models.nano import folder

EVAL = ("eval", "tina-nano", "--bench", "arithmetic-heldout", "--limit", "5", "--samples", "2", "--json")


def write_adapter(path, rank=4, targets=("q_proj",), spread=0.5, **settings):
    """An adapter all of whose trained tensors differ from what they were before the training."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    wanted = LoraConfig(r=rank, target_modules=list(targets), **settings)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder()), wanted)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=spread)
        elif parameter.requires_grad and "lora_A" not in name:
            parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(path)
    return path


def texts(session, which):
    """Greedy and sampled completions with an adapter."""
    found = {}
    for sampling in (Sampling(0.0, 1.0, 12), Sampling(1.0, 0.95, 12)):
        some = session.generate(["2 + 3 =", "What is 7 - 4?"], [0, 1], sampling, which)
        found |= {(sampling, i): completion.text for i, completion in some}
    return found


def alone(which):
    """The same, in a session of its own."""
    session = Session(folder(), "float32", 64, 8)
    try:
        return texts(session, which)
    finally:
        session.close()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return write_adapter(tmp_path_factory.mktemp("here") / "mine", targets=("q_proj", "down_proj"))


def test_an_adapter_is_evaluated_on_its_model(adapter, tina):
    (base,) = json.loads(tina(*EVAL).stdout)
    done = tina(*EVAL, "--adapter", adapter, "--base")
    assert done.returncode == 0, done.stderr
    found, beside = sorted(json.loads(done.stdout), key=lambda r: r["checkpoint"])
    assert (score(beside), beside["reused"]) == (score(base), 10)
    assert (found["checkpoint"], found["label"]) == ("adapter mine", "tina-nano + mine")
    assert score(found) < score(base)
    assert tina("compare", found["run"], base["run"]).returncode == 0


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return write_adapter(tmp_path_factory.mktemp("there") / "other", rank=8, targets=("v_proj",))


KINDS = {
    "plain": {},
    "bias all": {"bias": "all"},
    "bias lora_only": {"bias": "lora_only"},
    "modules_to_save": {"modules_to_save": ["norm", "lm_head"]},
    "dora": {"use_dora": True},
    "rank_pattern": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 32}},
    "lora_bias": {"lora_bias": True},
    "trained tokens": {"trainable_token_indices": list(range(1, 30))},
    "embeddings": {"targets": ("embed_tokens", "lm_head")},
    "tied": {"targets": ("embed_tokens",), "ensure_weight_tying": True},
    "pissa": {"init_lora_weights": "pissa"},
    "more layers": {"layer_replication": [[0, 2], [1, 2]]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_leaves_nothing_behind(kind, other, tmp_path):
    """In one session each gives what a session of its own gives, whatever was used before."""
    mine = write_adapter(tmp_path / "mine", **KINDS[kind])
    expected = {which: alone(which) for which in (None, mine, other)}
    assert len({str(found) for found in expected.values()}) == 3
    session = Session(folder(), "float32", 64, 8)
    for which in (None, mine, None, other, mine, mine, other, None):
        assert texts(session, which) == expected[which]
    session.close()


@pytest.mark.slow
def test_two_adapters_with_biases_are_evaluated_beside_the_base(adapter, tina, tmp_path):
    one = write_adapter(tmp_path / "one", bias="all")
    two = write_adapter(tmp_path / "two", bias="lora_only", targets=("v_proj",))
    done = tina(*EVAL, "--adapter", one, "--adapter", two, "--base")
    assert done.returncode == 0, done.stderr
    together = {r["checkpoint"]: score(r) for r in json.loads(done.stdout)}
    for words in (("--adapter", one), ("--adapter", two), ()):
        (found,) = json.loads(tina(*EVAL, *words, "--runs-dir", "apart").stdout)
        assert score(found) == together[found["checkpoint"]]


def test_vllm_refuses_an_adapter_that_is_more_than_lora_matrices(adapter, tmp_path):
    check = registry.load().get(Engine, "vllm").check_adapter
    check(adapter)
    for kind, name in (("bias all", "bias=all"), ("dora", "use_dora"), ("modules_to_save", "modules_to_save"),
                       ("rank_pattern", "rank_pattern"), ("pissa", "init_lora_weights=pissa")):  # fmt: skip
        with pytest.raises(TinaError, match=f"LoRA matrices only, and the adapter .* has more: .*{name}"):
            check(write_adapter(tmp_path / kind, **KINDS[kind]))


def test_an_engine_refuses_an_adapter_before_it_is_loaded(adapter, tina, tmp_path):
    activated = write_adapter(tmp_path / "activated", alora_invocation_tokens=[1, 2])
    done = tina(*EVAL, "--adapter", activated, "--base")
    assert done.returncode == 2
    assert "it is switched on by tokens of the prompt" in done.stderr
    assert "loading the evaluation engine" not in done.stderr


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
