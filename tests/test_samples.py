"""Samples are durable, reused where nothing changed, and never confused with others."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import score

from tina_harness import Completion, Sampling, TinaError, registry
from tina_harness.data.mirror import digest
from tina_harness.evaluation.proof import Adapters
from tina_harness.evaluation.samples import SampleStore, earlier_identity, identity
from tina_harness.evaluation.sessions import Sessions
from tina_harness.runs.samples import scores_by_problem
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
    return {k: found[k] for k in ("metrics", "tokens", "counts", "identity")}


def test_a_second_evaluation_uses_the_samples_of_the_first_and_says_so(tina):
    first = result(tina(*EVAL, "--limit", "10"))
    again = tina(*EVAL, "--limit", "10")
    assert "loading the evaluation engine" not in again.stderr
    assert "everything was evaluated before with the same settings" in again.stderr
    assert result(again) == first
    assert [p.parent.name for p in Path("runs").glob("*/manifest.json")] == [first["run"]]
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


def test_an_entry_that_turns_out_to_be_damaged_when_it_is_read_is_told_and_sampled_again(store):
    one = store.open()
    for seed in range(3):
        one.add("p", seed, Completion("a text", 1, "stop"))
    one.path.write_bytes(one.path.read_bytes().replace(b"a text", b"a\xfftext", 2))
    found = store.open()
    assert store.said == []
    assert [found.get("p", s) is not None for s in range(3)] == [False, False, True]
    assert store.said == [f"1 samples in {one.path} are damaged; they are not used"] * 2
    found.add("p", 0, Completion("again", 1, "stop"))
    assert store.open().get("p", 0).text == "again"


@pytest.mark.parametrize("cut", [20, 60, 75, 90, 120, 400_000, 699_990])
def test_an_entry_behind_one_that_is_cut_is_found_and_so_are_those_around_it(store, cut):
    one = store.open()
    text = '\\frac{1}{2} {"prompt": "' + "x" * 700_000  # longer than is read at once
    for seed in (0, 7, 2**63 - 1, -5):
        one.add("p", seed, Completion(text, 1, "stop"))
    lines = one.path.read_bytes().splitlines(keepends=True)
    one.path.write_bytes(lines[0] + lines[1][:cut] + lines[2] + lines[3])
    found = store.open()
    assert [found.get("p", s) is not None for s in (0, 7, 2**63 - 1, -5)] == [True, False, True, True]
    assert found.get("p", -5).text == text
    assert store.said == []


@pytest.mark.parametrize(
    "line",
    [
        b"x" * 200,
        b"\0" * 200,
        b"\n",
        b'{"prompt": "' + b"0" * 80 + b'"}',
        b'{"prompt": "' + b"0" * 24,
        b"[1]",
    ],
)
def test_lines_that_hold_no_entry_are_counted_wherever_they_are(store, line):
    one = store.open()
    for seed in range(6):
        one.add("p", seed, Completion("t" * 90_000, 1, "stop"))
    lines = one.path.read_bytes().splitlines(keepends=True)
    for at in (0, 3, 5):
        one.path.write_bytes(b"".join([*lines[:at], line + b"\n", *lines[at:]]))
        assert all(store.open().get("p", s) for s in range(6))
        assert one.path.read_bytes() == b"".join(lines) or line == b"\n"
    assert len(store.said) == (0 if line == b"\n" else 3)
    assert all(said.startswith("1 samples in") for said in store.said)


def test_the_newest_of_several_whole_samples_of_a_place_is_given(store):
    one = store.open()
    for text in ("first", "second", "third"):
        one.add("p", 1, Completion(text, 1, "stop"))
    assert store.open().get("p", 1).text == "third"
    one.path.write_bytes(one.path.read_bytes().replace(b"third", b"\xff"))
    assert store.open().get("p", 1).text == "second"


WRITER = """
import sys
from pathlib import Path
from tina_harness import Completion
from tina_harness.evaluation.samples import SampleStore
who, cut = sys.argv[1], eval(sys.argv[2])
for i in range(200):
    if i % 5 == 0:
        store = SampleStore(Path("samples"), {"what": "a"}, print)
    store.add(who, i, Completion("t" * 100, 1, "stop"))
    if i % 20 == 7:
        with open(store.path, "ab") as file:
            file.write(cut)
"""


@pytest.mark.parametrize("cut", [b'{"prompt": "148de9", "se', b'{"pro', bytes(5), b"garbage\n"])
def test_processes_that_open_and_add_at_once_lose_nothing_where_lines_are_cut(cut, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, who, repr(cut)]) for who in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    found = SampleStore(tmp_path / "samples", {"what": "a"}, print)
    assert all(found.get(who, i) for who in "abc" for i in range(200))


def test_a_store_says_what_it_holds_in_a_file_beside_it(tmp_path):
    store = SampleStore(tmp_path, {"dtype": "float32"}, print, label="tina-nano + mine")
    store.add("p", 1, Completion("t", 1, "stop"))
    about = json.loads(store.path.with_suffix(".json").read_text())
    assert about == {"of": "tina-nano + mine", "identity": {"dtype": "float32"}}


SAMPLING = Sampling(0.6, 0.95, 8)


def depends_on(model, adapter=None, sampling=SAMPLING, device="cpu", engine="transformers"):
    engine = registry.load().get(Engine, engine)
    return identity(model, adapter, engine, "float32", sampling, digest, device)


def test_what_samples_depend_on_is_the_content_of_model_and_adapter_and_not_their_path(tmp_path):
    copy = Path(shutil.copytree(folder(), tmp_path / "copy"))
    assert depends_on(copy) == depends_on(folder())
    assert depends_on(copy, sampling=SAMPLING._replace(temperature=0.7)) != depends_on(copy)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"one")
    first = depends_on(copy, adapter)
    assert first != depends_on(copy)
    (adapter / "adapter_model.safetensors").write_bytes(b"two")
    assert depends_on(copy, adapter) != first
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert depends_on(copy) != depends_on(folder())


INPUTS = [
    *(
        "model-00002-of-00002.safetensors",
        "pytorch_model.bin",
        "model.pt",
        "model.pth",
        "consolidated.00.pth",
    ),
    *("modeling_mine.py", "configuration_mine.py", "config.json", "generation_config.json", "quant.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "tokenizer.json"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json"),
    "additional_chat_templates/tool.jinja",
]


@pytest.mark.parametrize("name", INPUTS)
def test_any_file_that_an_engine_may_read_makes_other_samples(name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    without = depends_on(tmp_path)
    path.write_bytes(b"one")
    first = depends_on(tmp_path)
    path.write_bytes(b"two")
    assert len({json.dumps(d) for d in (without, first, depends_on(tmp_path))}) == 3


def test_documents_and_the_state_of_a_training_make_no_other_samples(tmp_path):
    before = depends_on(tmp_path)
    training = ("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "trainer_state.json", "training_args.bin")
    for name in ("README.md", "LICENSE", "figure.png", ".gitattributes", "tina-mirror.json", *training):
        (tmp_path / name).write_bytes(b"one")
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5" / "model.safetensors").write_bytes(b"one")
    assert depends_on(tmp_path) == before


def test_another_device_or_version_of_a_library_makes_other_samples(monkeypatch):
    found = depends_on(folder())
    assert depends_on(folder(), device="NVIDIA H100 80GB HBM3") != found
    known = metadata.version
    for library in ("torch", "transformers", "peft"):
        monkeypatch.setattr(metadata, "version", lambda m, new=library: "99" if m == new else known(m))
        assert depends_on(folder()) != found


def test_the_libraries_of_this_machine_say_nothing_about_the_samples_of_a_server(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://there/v1")
    found = depends_on(folder(), engine="openai")
    monkeypatch.setattr(metadata, "version", lambda _: "99")
    assert depends_on(folder(), device="another", engine="openai") | {"version": ""} == found | {
        "version": ""
    }


def test_a_file_that_is_rewritten_with_its_size_and_time_kept_is_another_one(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"0000")
    times = weights.stat().st_atime_ns, weights.stat().st_mtime_ns

    def rewrite(content):
        weights.write_bytes(content)
        os.utime(weights, ns=times)
        return digest(weights)

    assert len({rewrite(b"%04d" % i) for i in range(100)}) == 100  # within one tick of the file system
    time.sleep(3.1)  # from here on it is remembered
    assert digest(weights) == digest(weights) == hashlib.sha256(b"0099").hexdigest()
    assert rewrite(b"0100") == hashlib.sha256(b"0100").hexdigest()
    copy = tmp_path / "copy"
    copy.write_bytes(b"0101")
    os.utime(copy, ns=times)
    copy.replace(weights)
    assert digest(weights) == hashlib.sha256(b"0101").hexdigest()


def test_adapters_whose_settings_say_the_same_have_the_same_samples(tmp_path):
    def of(**settings):
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
        return depends_on(folder(), tmp_path)["adapter"]

    one = of(r=4, target_modules=["q_proj", "k_proj"], modules_to_save=["a", "b"], revision=None)
    assert one == of(modules_to_save=["b", "a"], r=4, target_modules=["k_proj", "q_proj"])
    assert one == of(r=4, target_modules=["k_proj", "q_proj"], modules_to_save=["a", "b"], use_dora=False,
                     base_model_name_or_path="/elsewhere", inference_mode=True, peft_version="9")  # fmt: skip
    others = [
        of(r=4, target_modules=["k_proj"], modules_to_save=["a", "b"]),
        of(r=4, target_modules=["q_proj", "k_proj"], modules_to_save=["a", "b"], use_dora=True),
        of(r=4, target_modules=["q_proj", "k_proj"], modules_to_save=["a", "b"], layers_to_transform=0),
        of(r=4, rank_pattern={"q_proj": 8, ".*": 2}),
        of(r=4, rank_pattern={".*": 2, "q_proj": 8}),  # the first that fits decides
    ]
    assert len({json.dumps(other) for other in [one, *others]}) == 6


def test_samples_that_version_0_1_kept_are_found(tmp_path):
    model, adapter, kept = tmp_path / "model", tmp_path / "adapter", tmp_path / "samples"
    for made in (model, adapter, kept):
        made.mkdir()
    (model / "model.safetensors").write_text("weights")
    (model / "merges.txt").write_text("a b")
    (model / "tokenizer.json").write_text("{}")
    (model / "config.json").write_text("{}")
    (adapter / "adapter_config.json").write_text('{"r": 4}')
    (adapter / "adapter_model.safetensors").write_text("adapter")
    # What version 0.1 wrote for these files; its last line is cut.
    earlier = kept / "2c06184efda4f1e713b37e83.jsonl"
    earlier.write_text(
        '{"prompt": "148de9c5a7a44d19e56cd9ae", "seed": 1, "text": "t", "tokens": 1, "stop_reason": "stop"}\n'
        '{"prompt": "148de9c5a7'
    )
    before = earlier.read_bytes()
    engine = Engine(name="e", summary="s", source="x", open=print, identity=lambda: "there")
    known = (model, adapter, engine, "float32", SAMPLING, digest)
    store = SampleStore(kept, identity(*known, "cpu"), print, earlier_identity(*known))
    assert store.get("p", 1) == Completion("t", 1, "stop")
    assert (store.get("p", 2), store.earlier_used) == (None, 1)
    store.add("p", 2, Completion("t", 1, "stop"))
    assert earlier.read_bytes() == before
    store.forget()
    assert store.get("p", 1) is None


def test_an_evaluation_that_uses_samples_of_version_0_1_says_so_in_a_line(tina):
    first = result(tina(*EVAL, "--limit", "10"))
    (new,) = Path("runs/.samples").glob("*.jsonl")
    engine = registry.load().get(Engine, "transformers")
    found = earlier_identity(folder(), None, engine, "float32", Sampling(0.6, 0.95, 64), digest)
    earlier = SampleStore(Path("runs/.samples"), found, print).path
    new.rename(earlier)
    again = tina(*EVAL, "--limit", "12")
    assert "40 of them are of an earlier version, which did not record" in again.stderr
    assert (result(again)["reused"], first["reused"]) == (40, 0)
    assert (earlier.read_bytes().count(b"\n"), new.read_bytes().count(b"\n")) == (40, 8)


def test_scores_by_problem_are_the_means_of_the_samples_that_count(tmp_path):
    rows = {
        "problem_id": ["b", "a", "b", "a", "c", "b", "d"],
        "verdict": ["correct", "no_answer", "incorrect", "bad_gold", "error", "timeout", "correct"],
    }
    path = tmp_path / "samples.parquet"
    pq.write_table(pa.table(rows), path)  # as version 0.1.0 wrote it
    assert scores_by_problem(path) == {"b": pytest.approx(1 / 3), "a": 0.0, "d": 1.0}
    pq.write_table(pa.table({**rows, "score": [0.5, 0.43, 1.0, None, None, 0.0, 7.0]}), path)
    assert scores_by_problem(path) == {"b": 0.5, "a": 0.43, "d": 7.0}
    pq.write_table(pa.table({**rows, "score": pa.array([None] * 7, pa.float64())}), path)
    assert scores_by_problem(path) == {}


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
    adapters = Adapters(Path(), (), (), said.append)
    return Sessions(engine, Path(), "float32", 8, adapters, said.append, said.append), said


def test_an_engine_that_dies_is_started_once_more_and_loses_no_sample():
    sessions, said = sessions_of(engine_that_dies(1))
    found = dict(sessions.generate(list("abcdef"), range(6), Sampling(1, 1, 1), None))
    assert {i: c.text for i, c in found.items()} == dict(enumerate("abcdef"))
    assert "the engine 'mortal' died and is started again: RuntimeError: out of memory" in said


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
    with pytest.raises(TinaError, match=r"the engine 'odd'.*SystemExit: no license"):
        list(sessions.generate(["p"], [1], Sampling(1, 1, 8), None))


@pytest.mark.parametrize(
    ("server", "said"), [(fails, "SystemExit: no license"), (lambda: {"a": 1}, "gave a value of type dict")]
)
def test_an_engine_whose_identity_cannot_be_had_is_named(server, said):
    engine = Engine(name="odd", summary="s", source="x", open=fails, identity=server)
    with pytest.raises(TinaError, match=f"the engine 'odd': identity .*{said}"):
        identity(folder(), None, engine, "float32", Sampling(1, 1, 8), digest, "cpu")


@pytest.fixture
def evaluated(tina):
    """Two evaluations of one model, with other seeds."""
    first = result(tina(*EVAL, "--limit", "12"))
    second = result(tina(*EVAL, "--limit", "12", "--seed", "7"))
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
    scores = {r["checkpoint"]: score(r) for r in results if r["checkpoint"] != "base"}
    assert set(scores) == {"step 3", "step 6"}
    best = max(scores, key=lambda c: (scores[c], -int(c.split()[1])))
    again = tina("eval", f"{run}@best", *words, "--no-cache")
    assert f"{best.split()[1]} " in again.stdout
    assert again.stdout.count("20/20 samples") == 1
    assert tina("eval", f"{run}@base", *words).returncode == 0
    done = tina("eval", f"{run}@4", *words)
    assert "has no checkpoint '4'" in done.stderr
    assert "it has steps 3, 6; or base, best, transition, all" in done.stderr
