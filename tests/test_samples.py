"""Samples are durable, reused where nothing changed, and never confused with others."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from tina_harness import Completion, Sampling, TinaError, registry
from tina_harness.data.mirror import digest
from tina_harness.evaluation.samples import SampleStore, identity
from tina_harness.evaluation.sessions import Sessions
from tina_harness.specs import Engine
from tina_plugins.models.nano import folder

EVAL = ("eval", "tina-nano", "--bench", "arithmetic-heldout", "--samples", "4", "--json")


def result(done):
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    return found


def samples(run):
    (path,) = run.glob("evals/*/samples.parquet")
    return pq.read_table(path, columns=["problem_id", "sample", "completion", "verdict", "seed"]).to_pylist()


def the_run(found):
    return Path("runs") / found["run"]


def scores(found):
    return {k: found[k] for k in ("pass@1", "ci95", "pass@2", "pass@4", "maj@4", "tokens", "verdicts", "key")}


def test_a_second_evaluation_uses_the_samples_of_the_first_and_says_so(tina):
    first = result(tina(*EVAL, "--limit", "10"))
    again = tina(*EVAL, "--limit", "10")
    assert "loading the evaluation engine" not in again.stderr
    assert "40 of 40 samples were here already" in again.stderr
    assert scores(result(again)) == scores(first)
    more = result(tina(*EVAL, "--limit", "12"))
    assert more["reused"] == 40
    fresh = result(tina(*EVAL, "--limit", "10", "--no-cache"))
    assert fresh["reused"] == 0
    assert scores(fresh) == scores(first)
    assert result(tina(*EVAL, "--limit", "10", "--temperature", "0.9"))["reused"] == 0


@pytest.mark.slow
def test_after_a_kill_the_same_command_finishes_the_rest_and_gives_the_same_table(tina, tmp_path):
    command = [sys.executable, "-m", "tina_harness", *EVAL, "--limit", "100"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    store = Path("runs") / ".samples"
    for _ in range(1200):
        if sum(p.read_bytes().count(b"\n") for p in store.glob("*.jsonl")) >= 100:
            break
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = sum(p.read_bytes().count(b"\n") for p in store.glob("*.jsonl"))
    assert 100 <= kept < 400
    resumed = result(tina(*EVAL, "--limit", "100"))
    assert resumed["reused"] == kept
    whole = result(tina(*EVAL, "--limit", "100", "--runs-dir", "other"))
    assert whole["reused"] == 0
    assert scores(resumed) == scores(whole)
    assert samples(the_run(resumed)) == samples(Path("other") / whole["run"])


@pytest.fixture
def store(tmp_path):
    said = []
    opened = SimpleNamespace(said=said)
    opened.open = lambda what="a": SampleStore(tmp_path / "samples", {"what": what}, said.append)
    return opened


def test_a_store_gives_back_what_was_added_for_its_prompt_and_seed_only(store):
    one = store.open()
    one.add("p", 1, Completion("text \ud800 \x00", 3, "stop"))
    again = store.open()
    assert again.get("p", 1) == Completion("text \ud800 \x00", 3, "stop")
    assert again.get("p", 2) is None
    assert again.get("q", 1) is None
    assert store.open("b").get("p", 1) is None


def test_a_cut_last_line_is_sampled_again_and_a_damaged_file_is_set_aside_and_named(store):
    one = store.open()
    for seed in range(3):
        one.add("p", seed, Completion("t", 1, "stop"))
    whole = one.path.read_bytes()
    one.path.write_bytes(whole[:-5])
    cut = store.open()
    assert [cut.get("p", s) is not None for s in range(3)] == [True, True, False]
    assert store.said == []
    cut.add("p", 2, Completion("t", 1, "stop"))
    assert all(store.open().get("p", s) for s in range(3))
    one.path.write_bytes(b"garbage\n" + whole)
    damaged = store.open()
    assert all(damaged.get("p", s) for s in range(3))
    assert one.path.with_suffix(".damaged").exists()
    assert "1 samples in" in store.said[0]


def test_what_samples_depend_on_is_the_content_of_model_and_adapter_and_not_their_path(tmp_path):
    engine = registry.load().get(Engine, "transformers")
    sampling = Sampling(0.6, 0.95, 8)

    def of(model, adapter=None, setting=sampling):
        return identity(model, adapter, engine, "float32", setting, digest)

    copy = Path(shutil.copytree(folder(), tmp_path / "copy"))
    assert of(copy) == of(folder())
    assert of(copy, setting=sampling._replace(temperature=0.7)) != of(copy)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"one")
    first = of(copy, adapter)
    assert first != of(copy)
    time.sleep(0.01)
    (adapter / "adapter_model.safetensors").write_bytes(b"two")
    assert of(copy, adapter) != first
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert of(copy) != of(folder())


def engine_that_dies(times):
    """An engine whose sessions die after two samples, so often."""
    opened = []

    class Session:
        def generate(self, prompts, seeds, sampling, adapter):
            for index in reversed(range(len(prompts))):
                if len(opened) <= times and index < len(prompts) - 2:
                    raise RuntimeError("out of memory")
                yield index, Completion(prompts[index], 1, "stop")

        def close(self):
            pass

    def open_session(*_):
        opened.append(1)
        return Session()

    return Engine(name="mortal", summary="s", source="x", open=open_session)


def sessions_of(engine):
    said = []
    return Sessions(engine, Path(), "float32", 8, 0, said.append, said.append), said


def test_an_engine_that_dies_is_started_once_more_and_loses_no_sample():
    sessions, said = sessions_of(engine_that_dies(1))
    found = dict(sessions.generate(list("abcdef"), range(6), Sampling(1, 1, 1), None))
    assert {i: c.text for i, c in found.items()} == dict(enumerate("abcdef"))
    assert "the engine mortal died and is started again: RuntimeError: out of memory" in said


def test_an_engine_that_dies_twice_is_a_clear_error_and_keeps_what_it_gave():
    sessions, _ = sessions_of(engine_that_dies(2))
    found = []
    with pytest.raises(TinaError, match="died twice, with 2 samples to go: RuntimeError: out of memory"):
        found.extend(sessions.generate(list("abcdef"), range(6), Sampling(1, 1, 1), None))
    assert len(found) == 4


def engine_that_yields(*answers):
    """An engine whose sessions yield these, whatever they are asked."""

    class Session:
        def generate(self, prompts, seeds, sampling, adapter):
            yield from answers

        def close(self):
            pass

    return Engine(name="odd", summary="s", source="x", open=lambda *_: Session()).offered_by("tina-odd 1.0")


GOOD = [(i, Completion("text", 1, "stop")) for i in range(3)]


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([], "generate ended with 3 of 3 prompts without a completion"),
        (GOOD[:2], "generate ended with 1 of 3 prompts without a completion"),
        ([*GOOD[:2], GOOD[1]], "generate gave prompt 1 twice"),
        ([*GOOD, GOOD[0]], "generate gave prompt 0 twice"),
        ([(3, GOOD[0][1])], "generate gave 3: expected an index from 0 to 2"),
        ([(-1, GOOD[0][1])], "generate gave -1: expected an index from 0 to 2"),
        ([("0", GOOD[0][1])], "generate gave the text '0': expected an index from 0 to 2"),
        ([(0, ("text", 1, "stop"))], "for prompt 0, gave a value of type tuple: expected a Completion"),
        ([GOOD[0][1]], "generate gave a value of type Completion: expected (index, Completion)"),
        ([None], "generate gave None: expected (index, Completion)"),
        ([(0, Completion(b"text", 1, "stop"))], "gave a value of type bytes: expected a completion's text"),
        ([(0, Completion("text", -1, "stop"))], "gave -1: expected a number of tokens, 0 or more"),
        ([(0, Completion("text", 1.5, "stop"))], "gave 1.5: expected a number of tokens, 0 or more"),
        ([(0, Completion("text", None, "stop"))], "gave None: expected a number of tokens, 0 or more"),
        ([(0, Completion("text", 1, "eos"))], "gave the text 'eos': expected 'stop' or 'length' as the"),
        ([(0, Completion("text", 1, None))], "gave None: expected 'stop' or 'length' as the stop reason"),
    ],
)
def test_an_engine_that_does_not_answer_what_was_asked_is_named_and_what_it_did_is_said(answers, said):
    sessions, _ = sessions_of(engine_that_yields(*answers))
    with pytest.raises(TinaError) as caught:
        list(sessions.generate(["p", "q", "r"], [1, 2, 3], Sampling(1, 1, 8), None))
    assert str(caught.value).startswith("the engine 'odd' of tina-odd 1.0: generate")
    assert said in str(caught.value)


def test_numbers_of_other_libraries_are_indices_and_token_counts():
    numpy = pytest.importorskip("numpy")
    answers = [(numpy.int64(i), Completion("t", numpy.int32(2), "length")) for i in (1, 0)]
    sessions, _ = sessions_of(engine_that_yields(*answers))
    found = list(sessions.generate(["p", "q"], [1, 2], Sampling(1, 1, 8), None))
    assert found == [(1, Completion("t", 2, "length")), (0, Completion("t", 2, "length"))]
    assert json.dumps(found)


def fails(*_):
    raise SystemExit("no license")


@pytest.mark.parametrize(
    "session",
    [fails, lambda *_: SimpleNamespace(generate=fails, close=lambda: None)],
    ids=["open", "generate"],
)
def test_an_engine_that_exits_is_named(session):
    sessions, _ = sessions_of(Engine(name="odd", summary="s", source="x", open=session))
    with pytest.raises(TinaError, match=r"the engine '?odd'?.*SystemExit: no license"):
        list(sessions.generate(["p"], [1], Sampling(1, 1, 8), None))


@pytest.mark.parametrize(
    ("server", "said"), [(fails, "SystemExit: no license"), (lambda: {"a": 1}, "gave a value of type dict")]
)
def test_an_engine_whose_identity_cannot_be_had_is_named(server, said):
    engine = Engine(name="odd", summary="s", source="x", open=fails, identity=server)
    with pytest.raises(TinaError, match=f"the engine 'odd': identity .*{said}"):
        identity(folder(), None, engine, "float32", Sampling(1, 1, 8), digest)


@pytest.fixture
def evaluated(tina):
    """Two evaluations of one model under different settings."""
    first = result(tina(*EVAL, "--limit", "12"))
    second = result(tina(*EVAL, "--limit", "12", "--temperature", "0"))
    return first["run"], second["run"]


def test_two_evaluations_are_compared_problem_by_problem_and_in_words(tina, evaluated):
    (row,) = json.loads(tina("compare", *evaluated, "--json").stdout)
    assert row["problems"] == 12
    assert row["B - A"] == pytest.approx(row["B"] - row["A"])
    assert 0 < row["p"] <= 1
    assert "arithmetic-heldout: " in tina("compare", *evaluated).stdout
    same = json.loads(tina("compare", evaluated[0], evaluated[0], "--json").stdout)[0]
    assert "cannot tell them apart" in same["verdict"]
    for words, message in (
        (("nothing", evaluated[0]), "nothing"),
        ((f"{evaluated[0]}@9", evaluated[1]), "has no evaluation of step 9"),
        ((*evaluated, "--bench", "aime24"), "not evaluated: aime24"),
    ):
        done = tina("compare", *words)
        assert done.returncode != 0
        assert message in done.stderr


def test_samples_are_shown_with_gold_answer_and_verdict_and_folded_thinking(tina, evaluated):
    done = tina("samples", evaluated[0], "--wrong")
    rows = json.loads(tina("samples", evaluated[0], "--wrong", "--json").stdout)
    assert 0 < len(rows) < 48
    assert all(row["verdict"] != "correct" for row in rows)
    assert {"problem_id", "prompt", "completion", "tokens", "answer", "gold", "verdict", "seed",
            "stop_reason", "seconds"} <= rows[0].keys()  # fmt: skip
    assert f"1/{len(rows)}  base-arithmetic-heldout" in done.stdout
    assert "<think>" not in tina("samples", evaluated[0], "--right").stdout
    assert "<think>" in tina("samples", evaluated[0], "--right", "--full").stdout
    assert "has no evaluation on aime24" in tina("samples", evaluated[0], "--bench", "aime24").stderr
    assert os.path.exists("runs")


@pytest.mark.slow
def test_all_checkpoints_of_a_run_are_evaluated_in_one_load_and_the_best_is_found(tina):
    done = tina(
        "run", "--max-steps", "6", "--limit", "4", "--samples", "1", "--set", "train.save_every=3", "--json"
    )
    run = json.loads(done.stdout)["run"]
    words = ("--bench", "arithmetic-heldout", "--limit", "10", "--samples", "2")
    done = tina("eval", f"{run}@all", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("loading the evaluation engine") == 1
    results = json.loads(tina("eval", f"{run}@all", *words, "--json").stdout)
    scores = {r["checkpoint"]: r["pass@1"] for r in results if r["checkpoint"] != "base"}
    assert set(scores) == {"step 3", "step 6"}
    best = max(scores, key=lambda c: (scores[c], -int(c.split()[1])))
    again = tina("eval", f"{run}@best", *words, "--no-cache")
    assert f"{best.split()[1]} " in again.stdout
    assert again.stdout.count("20/20 samples") == 1
    assert tina("eval", f"{run}@base", *words).returncode == 0
    done = tina("eval", f"{run}@4", *words)
    assert "has no checkpoint '4'" in done.stderr
    assert "it has steps 3, 6; or all, base, best" in done.stderr
