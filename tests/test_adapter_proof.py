"""An engine that does not answer with the adapter that it was given is stopped before its first sample."""

import json
import os
import textwrap
from pathlib import Path

import numpy as np
import pytest

from tina_harness import Engine, Sampling, TinaError
from tina_harness.data import ChatTokenizer
from tina_harness.evaluation.proof import Adapters, compare
from tina_harness.evaluation.sessions import Sessions
from tina_plugins.engines.transformers import Session
from tina_plugins.models.nano import folder

PROMPTS = [f"What is {n} + {7 * n + 2}?" for n in range(24)]


def write_adapter(path, seed, spread, alpha=8):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    lora = LoraConfig(r=4, lora_alpha=alpha, target_modules=["q_proj", "down_proj"])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder()), lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=spread)
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """Two that change what the model says, one that is barely trained, and one that is not."""
    place = tmp_path_factory.mktemp("adapters")
    spreads = {"one": (1, 0.05), "two": (2, 0.05), "barely": (3, 1e-5), "fresh": (4, 0.0)}
    return {name: write_adapter(place / name, *how) for name, how in spreads.items()}


class Ignoring(Session):
    def _use(self, adapter):
        super()._use(None)


class Swapping(Session):
    """Answers with the neighbour of the adapter that was asked for."""

    def _use(self, adapter):
        other = {"one": "two", "two": "one"}
        super()._use(adapter and adapter.parent / other.get(adapter.name, adapter.name))


class FirstForAll(Session):
    """Answers with the adapter that came first, whichever is asked for."""

    first = None

    def _use(self, adapter):
        self.first = self.first or adapter
        super()._use(adapter and self.first)


class HalfScale(Session):
    def _use(self, adapter):
        before = set(self.adapters)
        super()._use(adapter)
        if adapter and str(adapter) not in before:
            for module in self.adapted.modules():
                if hasattr(module, "lora_A") and self.adapters[str(adapter)] in module.lora_A:
                    module.scaling[self.adapters[str(adapter)]] *= 0.5


class Sticking(Session):
    """Leaves an adapter on for the model itself."""

    def _use(self, adapter):
        if adapter or self.adapted is None:
            super()._use(adapter)


class Coarse(Session):
    """Computes as roughly as bfloat16 does."""

    def logprobs(self, sequences, adapter):
        noise = np.random.default_rng(len(str(adapter)))
        found = super().logprobs(sequences, adapter)
        return [list(np.asarray(row) + noise.normal(0, 0.02, len(row))) for row in found]


class Silent:
    """A session without `logprobs`."""

    def __init__(self, *words):
        self._session = Session(*words)
        self.generate, self.close = self._session.generate, self._session.close


class Short(Session):
    def logprobs(self, sequences, adapter):
        return [row[1:] for row in super().logprobs(sequences, adapter)]


def sampled(session, paths, **settings):
    """(what is known of each adapter, the lines for the user) after a sample with the last one."""
    said = []
    engine = Engine(name="mine", summary="s", source="x", open=session, **settings)
    known = Adapters(folder(), paths, ChatTokenizer(folder()).ids(PROMPTS), said.append)
    sessions = Sessions(engine, folder(), "float32", 96, known, said.append, said.append)
    try:
        assert len(list(sessions.generate(PROMPTS[:1], [0], Sampling(0.0, 1.0, 2), paths[-1]))) == 1
    finally:
        sessions.close()
    return {path.name: known.record(path) for path in paths}, said


def test_an_engine_that_uses_its_adapters_is_proven(adapters):
    found, said = sampled(Session, [adapters["one"], adapters["two"]])
    for record in found.values():
        assert record["said"] == "proven"
        assert record["engine"] == pytest.approx(record["expected"], rel=1e-3)
        assert record["expected"] > 0.05
    assert not any("unproven" in line or "too small" in line for line in said)


@pytest.mark.parametrize(
    ("session", "names", "message"),
    [
        (Ignoring, ("one",), "the engine mine ignores the adapter .*one"),
        (Ignoring, ("fresh", "barely", "two"), "ignores the adapter .*barely"),
        (Swapping, ("one", "two"), "answers with .*two in the place of the adapter .*one"),
        (Swapping, ("one",), "does not apply the adapter .*one|ignores the adapter .*one"),
        (FirstForAll, ("one", "two"), "answers with .*one in the place of the adapter .*two"),
        (FirstForAll, ("one", "fresh"), "answers with .*one in the place of the adapter .*fresh"),
        (HalfScale, ("one",), "(does not apply|ignores) the adapter .*one"),
        (Sticking, ("one",), "does not take adapters off again"),
    ],
)
def test_an_engine_that_does_not_is_stopped(adapters, session, names, message):
    with pytest.raises(TinaError, match=message) as caught:
        sampled(session, [adapters[name] for name in names])
    assert "nothing was sampled" in caught.value.hint


def test_a_change_below_the_engine_s_noise_is_too_small_to_tell(adapters):
    found, said = sampled(Coarse, [adapters["one"], adapters["barely"], adapters["fresh"]])
    assert [r["said"] for r in found.values()] == ["proven", "too small to tell", "too small to tell"]
    assert "too small to tell whether mine answers with it: barely, fresh" in said
    exact, _ = sampled(Session, [adapters["barely"], adapters["fresh"]])
    assert [r["said"] for r in exact.values()] == ["proven", "too small to tell"]


def test_what_cannot_be_asked_is_said_to_be_unproven(adapters):
    found, said = sampled(Silent, [adapters["one"]])
    assert found == {"one": {"said": "unproven"}}
    assert "mine: that the adapters are used is unproven (it gives no log-probabilities)" in said
    _, said = sampled(Session, [adapters["one"]], remote=True)
    assert "mine: that the adapters are used is unproven (a server)" in said


def test_log_probabilities_of_another_shape_name_the_engine(adapters):
    with pytest.raises(
        TinaError, match="the engine mine gives log-probabilities that are not one finite number"
    ):
        sampled(Short, [adapters["one"]])


def test_the_share_decides_where_the_noise_lets_it():
    random = np.random.default_rng(0)
    expected, noise = random.normal(0, 0.1, 256), random.normal(0, 0.01, 256)
    shares = {
        share: compare(share * expected + noise, expected, 0.01).said for share in (0, 0.5, 0.9, 1, 1.6)
    }
    assert shares == {0: "wrong", 0.5: "wrong", 0.9: "proven", 1: "proven", 1.6: "wrong"}
    assert compare(noise, 0.01 * expected, 0.01).said == "too small to tell"
    assert compare(expected, 0 * expected, 0.001).said == "wrong"


def test_the_outcome_is_in_the_results_and_an_ignored_adapter_leaves_none(adapters, tina, tmp_path):
    words = ("eval", "tina-nano", "--bench", "arithmetic-heldout", "--limit", "3", "--samples", "1", "--base")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "lazy.py").write_text(
        textwrap.dedent("""
        from tina_harness import Engine, hookimpl
        from tina_plugins.engines.transformers import Session
        class Lazy(Session):
            def _use(self, adapter):
                pass
        @hookimpl
        def tina_engines():
            yield Engine(name="lazy", summary="s", source="x", open=Lazy)
        """)
    )
    info = tmp_path / "site" / "lazy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lazy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tina_harness]\nlazy = lazy\n")
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    adapter = ("--adapter", adapters["one"])
    done = tina(*words, *adapter, "--engine", "lazy", env={"PYTHONPATH": path})
    assert done.returncode == 2
    assert "the engine lazy ignores the adapter" in done.stderr
    assert not list(Path("runs").glob("*/evals/*/results.json"))
    assert not list(Path("runs").glob(".samples/*"))
    done = tina(*words, *adapter, "--json")
    by_label = {r["label"]: r["adapter_check"] for r in json.loads(done.stdout)}
    assert by_label["tina-nano"] is None
    assert by_label["tina-nano + one"]["said"] == "proven"
    assert set(by_label["tina-nano + one"]) == {"said", "engine", "expected", "share", "doubt"}
