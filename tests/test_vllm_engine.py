"""The vllm engine on a real model, beside transformers. Needs vLLM, so an environment of its own."""

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tina_harness import Engine, Sampling, TinaError

REPO = "HuggingFaceTB/SmolLM2-135M-Instruct"
GREEDY = Sampling(0.0, 1.0, 48)
SEEDED = Sampling(0.7, 0.95, 32)


def prompts(count):
    asked = "<|im_start|>user\nWhat is {} plus {}? Explain{}.<|im_end|>\n<|im_start|>assistant\n"
    return [asked.format(n, 3 * n + 1, " step by step" * (n % 5)) for n in range(count)]


@pytest.fixture(scope="module")
def real_model():
    pytest.importorskip("vllm", reason="needs vLLM: docs/evaluation.md says how to install it for a CPU")
    for folder in os.environ.get("TINA_MIRROR", "").split(os.pathsep):
        if folder and os.path.exists(os.path.join(folder, REPO, "config.json")):
            return os.path.join(folder, REPO)
    pytest.skip(f"needs the real model: a mirror with {REPO}")


@pytest.fixture(scope="module")
def adapters(real_model, tmp_path_factory):
    """Two adapters that change what the model says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    places = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(real_model, dtype=torch.float32)
        model = get_peft_model(model, LoraConfig(r=8, lora_alpha=32, target_modules=["q_proj", "down_proj"]))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        places.append(tmp_path_factory.mktemp(f"adapter{seed}"))
        model.save_pretrained(places[-1])
    return places


@pytest.fixture(scope="module")
def vllm(real_model):
    from tina_plugins.engines import vllm

    session = vllm.Session(real_model, "float32", 256, 8)
    yield session
    session.close()


@pytest.fixture(scope="module")
def transformers(real_model):
    from tina_plugins.engines import transformers

    return transformers.Session(real_model, "float32", 256, 8)


def sampled(session, texts, sampling, adapter=None, seeds=None):
    found = dict(session.generate(texts, seeds or range(len(texts)), sampling, adapter))
    assert sorted(found) == list(range(len(texts)))
    return [found[i] for i in range(len(texts))]


def margin(session, prompt, one, other):
    """How far apart, in logits, the two best tokens are where two completions part."""
    import torch

    ids = [session.tokenizer(prompt + text, add_special_tokens=False)["input_ids"] for text in (one, other)]
    shared = next((i for i, (a, b) in enumerate(zip(*ids, strict=False)) if a != b), min(map(len, ids)))
    with torch.inference_mode():
        logits = session.model(torch.tensor([ids[0][:shared]])).logits[0, -1]
    best = logits.topk(2).values
    return float(best[0] - best[1])


@pytest.mark.slow
def test_greedy_completions_are_those_of_transformers_but_for_ties(vllm, transformers):
    texts = prompts(64)
    one, other = sampled(vllm, texts, GREEDY), sampled(transformers, texts, GREEDY)
    differ = [i for i in range(64) if one[i] != other[i]]
    assert len(differ) <= 3
    for i in differ:
        assert margin(transformers, texts[i], one[i].text, other[i].text) < 1e-2
    assert {c.stop_reason for c in one} == {"stop", "length"}


@pytest.mark.slow
def test_adapters_are_served_side_by_side_and_leave_the_base_alone(vllm, transformers, adapters):
    texts = prompts(16)
    base = sampled(vllm, texts, GREEDY)
    first, second = (sampled(vllm, texts, GREEDY, a) for a in adapters)
    for i, adapter in enumerate(adapters):
        mine = (first, second)[i]
        theirs = sampled(transformers, texts, GREEDY, adapter)
        assert sum(a == b for a, b in zip(mine, theirs, strict=True)) >= 15
    assert sampled(vllm, texts, GREEDY) == base
    assert sum(a == b for a, b in zip(first, base, strict=True)) < 8
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 8


@pytest.mark.slow
def test_its_log_probabilities_prove_adapters_and_show_one_that_is_ignored_or_swapped(
    real_model, vllm, transformers, adapters
):
    from tina_harness.evaluation.proof import Adapters

    ids = transformers.tokenizer(prompts(8), add_special_tokens=False)["input_ids"]
    some = [row[:16] for row in ids[:2]]
    for adapter in (None, *adapters):
        theirs = transformers.logprobs(some, adapter)
        for one, other in zip(vllm.logprobs(some, adapter), theirs, strict=True):
            assert one == pytest.approx(other, abs=5e-3)
    said = []
    engine = Engine(name="vllm", summary="s", source="x", open=lambda *words: vllm)
    known = Adapters(Path(real_model), adapters, ids, said.append)
    known.prepare(engine)
    known.check(engine, vllm)
    assert [known.record(a)["said"] for a in adapters] == ["proven", "proven"]
    other = {adapters[0]: adapters[1], adapters[1]: adapters[0], None: None}
    wrong = {"ignores the adapter": lambda a: None, "in the place of the adapter": other.get}
    for message, instead in wrong.items():
        session = SimpleNamespace(logprobs=lambda rows, a, instead=instead: vllm.logprobs(rows, instead(a)))
        with pytest.raises(TinaError, match=message):
            known.check(engine, session)


@pytest.mark.slow
def test_a_sample_is_that_of_its_seed_whatever_else_is_asked(vllm):
    texts = prompts(32)
    together = sampled(vllm, texts, SEEDED)
    backwards = sampled(vllm, texts[::-1], SEEDED, seeds=range(31, -1, -1))[::-1]
    assert sum(a == b for a, b in zip(together, backwards, strict=True)) >= 31
    others = sampled(vllm, texts, SEEDED, seeds=range(100, 132))
    assert sum(a == b for a, b in zip(together, others, strict=True)) < 4


@pytest.mark.slow
def test_leaving_early_cancels_the_rest(vllm):
    stream = vllm.generate(prompts(64), range(64), GREEDY, None)
    next(stream)
    stream.close()
    assert len(sampled(vllm, prompts(2), GREEDY)) == 2


@pytest.mark.slow
def test_two_benchmarks_and_a_long_prompt_in_one_engine_load(real_model, tina):
    done = tina(
        *("eval", REPO, "--engine", "vllm", "--bench", "aime24", "--bench", "math500"),
        *("--limit", "3", "--samples", "2", "--max-new-tokens", "16", "--json"),
    )
    assert done.returncode == 0, done.stderr
    assert [r["benchmark"] for r in json.loads(done.stdout)] == ["aime24", "math500"]
    assert len(re.findall("loading the evaluation engine", done.stderr)) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("devices", "tensor", "expected"), [(1, "", (1, 1)), (4, "", (1, 4)), (4, "2", (2, 2)), (1, "2", (2, 1))]
)
def test_each_device_holds_a_model_unless_one_is_spread(devices, tensor, expected, monkeypatch):
    from tina_plugins.engines.vllm import parallel

    monkeypatch.setenv("TINA_VLLM_TENSOR_PARALLEL", tensor or "1")
    assert parallel(devices) == expected


@pytest.mark.parametrize("tensor", ["3", "x", "0"])
def test_a_tensor_parallel_size_that_does_not_fit_is_said(tensor, monkeypatch):
    from tina_plugins.engines.vllm import parallel

    monkeypatch.setenv("TINA_VLLM_TENSOR_PARALLEL", tensor)
    with pytest.raises(TinaError, match="does not divide the 4 devices"):
        parallel(4)


@pytest.mark.parametrize(("available", "expected"), [(30, 4), (9, 3), (2, 1)])
def test_the_cache_on_a_cpu_fits_the_free_memory(available, expected, monkeypatch):
    psutil = pytest.importorskip("psutil")
    from tina_plugins.engines.vllm import cache_gib

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=available * 2**30))
    assert cache_gib() == expected
