"""A row's columns on their way through a training, and what completions/ keeps of each rollout."""

import json
import pickle
import shutil
from pathlib import Path
from statistics import mean, stdev

import pyarrow.parquet as pq
import pytest

from tina_harness import Dataset, Problem, TinaError
from tina_harness.data import load_problems
from tina_harness.data.audit import audit
from tina_harness.grading import Grader, Item

ROWS = [
    {"problem": "p0", "answer": "(A)", "level": 3, "tags": ["x", "y"]},
    {"problem": "p1", "answer": "B", "level": 2.5, "tags": []},
    {"problem": "p2", "answer": "C", "level": None, "tags": None},
]


def spec(**fields):
    return Dataset(**{"name": "mine", "summary": "s", "source": "x", "rows": lambda seed: ROWS, **fields})


def extras(loaded):
    return [dict(p.extra) for p in loaded.problems]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"parse": lambda row: (row["problem"], row["answer"])},
        {"parse": lambda row: (row["problem"], row["answer"]), "columns": ("problem", "level")},
    ],
)
def test_the_columns_that_a_source_names_come_with_each_problem_as_they_are(fields):
    loaded = load_problems(spec(extra=("level", "tags"), answer_kind="choice", **fields), {})
    assert extras(loaded) == [{k: row[k] for k in ("level", "tags")} for row in ROWS]
    assert [type(e["level"]) for e in extras(loaded)] == [int, float, type(None)]
    plain = load_problems(spec(answer_kind="choice", **fields), {})
    assert extras(plain) == [{}, {}, {}]
    assert (plain.fingerprint, plain.order_print) == (loaded.fingerprint, loaded.order_print)


@pytest.mark.parametrize("form", ["jsonl", "parquet", "csv"])
def test_the_columns_of_a_file_may_also_be_those_of_problem_and_answer(form, tmp_path):
    import pyarrow as pa
    import pyarrow.csv

    path, rows = tmp_path / f"mine.{form}", [{**row, "tags": "x"} for row in ROWS]
    if form == "jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    else:
        {"parquet": pq.write_table, "csv": pa.csv.write_csv}[form](pa.Table.from_pylist(rows), path)
    loaded = load_problems(spec(rows=None, files=str(path), extra=("answer", "level")), {})
    assert [e["answer"] for e in extras(loaded)] == ["(A)", "B", "C"]
    assert extras(loaded)[1]["level"] == ("2.5" if form == "csv" else 2.5)


def test_a_column_that_is_not_there_is_named(tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"problem": "p", "answer": "1"}\n', encoding="utf-8")
    for fields in ({}, {"rows": None, "files": str(tmp_path / "mine.jsonl")}):
        with pytest.raises(TinaError, match="has no column 'dificulty'"):
            load_problems(spec(extra=("dificulty",), **fields), {})


def test_a_problem_has_no_further_columns_by_default_and_can_be_pickled_and_hashed():
    bare = Problem("id0", "p", "1", "math", "mine")
    assert dict(bare.extra) == {}
    with pytest.raises(TypeError):
        bare.extra["level"] = 3
    loaded = load_problems(spec(extra=("tags",), answer_kind="choice"), {})
    for problem in (bare, *loaded.problems):
        assert pickle.loads(pickle.dumps(problem)) == problem
        assert problem in {problem}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"answer_kind": "choise"}, r"the dataset 'mine' has answer_kind='choise', which does not exist"),
        ({"answer_policy": "strict"}, "answer_policy='strict', which does not exist"),
    ],
)
def test_an_unknown_kind_or_policy_is_named_before_anything_is_trained(fields, said):
    with pytest.raises(TinaError, match=said) as caught:
        load_problems(spec(**fields), {})
    assert caught.value.hint


@pytest.mark.parametrize(
    ("kind", "golds", "bad"),
    [
        ("choice", ["A", "(b)", "C. Paris", "Paris", "3"], {"Paris", "3"}),
        ("text", ["Paris", "New York!", "x^{+}"], set()),
        ("equation", ["y = 2x", "2x"], {"2x"}),
        ("math", ["1", "x+x", "\\frac{1"], {"\\frac{1"}),
    ],
)
def test_golds_are_set_aside_by_the_kind_of_their_dataset(kind, golds, bad):
    rows = [{"problem": f"p{n}", "answer": gold} for n, gold in enumerate(golds)]
    loaded = load_problems(spec(rows=lambda seed: rows, answer_kind=kind), {})
    assert {s.gold for s in loaded.set_aside} == bad
    assert {p.kind for p in loaded.problems} == {kind}
    with Grader(1) as grader:
        own = [Item(g, f"\\boxed{{{g}}}", kind) for g in golds if g not in bad]
        assert all(v.correct for v in grader.grade(own))
    if kind != "math":
        assert audit("mine", loaded).kinds == {kind: len(golds) - len(bad)}


def test_different_letters_of_one_question_contradict_each_other():
    rows = [{"problem": "p", "answer": "A"}, {"problem": "p", "answer": "B"}, {"problem": "q", "answer": "A"}]
    rows.append({"problem": "q", "answer": "(A)"})
    loaded = load_problems(spec(rows=lambda seed: rows, answer_kind="choice"), {})
    assert [p.problem for p in loaded.problems] == ["q", "q"]


# ---------------------------------------------------------------------------------------------------------
# Whole trainings

PLUGIN = """
    from tina_harness import Algorithm, Dataset, Reward, hookimpl
    from tina_harness.specs import Problem

    def written(number):
        return "".join("ABCDEFGHIJ"[int(digit)] for digit in str(number))

    ROWS = [
        {"question": f"What is {written(a + b)} - {written(a)}?", "letter": written(b), "level": b / 10}
        for a in range(41, 61) for b in range(1, 9)
    ]

    def build():
        def function(completions, golds, context):
            assert [p.gold for p in context.problems] == list(golds)
            assert [p.id for p in context.problems] == list(context.problem_ids)
            return [p.extra.get("level") for p in context.problems]  # a benchmark may have no such column
        return function

    @hookimpl
    def tina_datasets():
        yield Dataset(name="letters", summary="s", source="x", rows=lambda seed: ROWS, preset="embedded",
            problem="question", answer="letter", answer_kind="choice", extra=("level",))

    @hookimpl
    def tina_rewards():
        yield Reward(name="level", summary="s", source="x", build=build)

    @hookimpl
    def tina_algorithms():
        grpo = {"loss_type": "grpo", "scale_rewards": "group", "epsilon": 0.2}
        for name, more in {
            "once": {}, "again": {"steps_per_generation": 1}, "twice": {"num_iterations": 2}
        }.items():
            yield Algorithm(name=name, summary="s", source="x", settings={**grpo, **more})
"""
GROUP = 4


def rollouts(tina, *words):
    """The rollouts of each step of a short training, as rows."""
    done = tina("run", "--bench", "arithmetic-heldout", "--limit", "1", "--samples", "1", *words)
    assert done.returncode == 0, done.stderr
    return [pq.read_table(path).to_pylist() for path in sorted(Path("runs").glob("*/completions/*"))]


@pytest.fixture
def lettered(tmp_path):
    """tina-nano, whose tokenizer calls the digits A to J, so that it answers by letters."""
    from tina_plugins.models.nano import folder

    copy = tmp_path / "lettered"
    shutil.copytree(folder(), copy)
    tokenizer = json.loads((copy / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    for digit, letter in zip("0123456789", "ABCDEFGHIJ", strict=True):
        vocabulary[digit], vocabulary[letter] = vocabulary[letter], vocabulary[digit]
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return copy


@pytest.mark.slow
def test_a_multiple_choice_set_is_trained_on_and_graded_by_its_letters(plugin, tina, lettered):
    plugin("mine", PLUGIN, "tina-mine")
    words = ("--dataset", "letters", "--model", lettered, "--max-steps", "2")
    steps = rollouts(tina, *words, "--set", "rewards.level.weight=0.5")
    assert len(steps) == 2
    rows = [row for step in steps for row in step]
    with Grader(1) as grader:
        verdicts = grader.grade(Item(r["gold"], r["completion"], "choice", "tina", r["prompt"]) for r in rows)
    assert [r["score"] for r in rows] == [r["accuracy"] for r in rows] == [float(v.correct) for v in verdicts]
    assert {0.0, 1.0} == {r["score"] for r in rows}
    by_id = {p.id: p for p in load_problems_of("letters")}
    assert all(by_id[r["problem_id"]].gold == r["gold"] for r in rows)
    assert all(by_id[r["problem_id"]].problem in r["prompt"] for r in rows)
    assert all(by_id[r["problem_id"]].extra["level"] == pytest.approx(r["level"]) for r in rows)


def load_problems_of(name):
    from tina_harness import registry

    known = registry.load()
    return load_problems(known.get(Dataset, name), known.catalogue).problems


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "generations"), [("once", 1), ("again", 2), ("twice", 1)])
def test_each_rollout_has_its_own_advantage(plugin, tina, algorithm, generations):
    plugin("mine", PLUGIN, "tina-mine")
    settings = ("train.batch=4", "train.accumulate=2", f"train.group={GROUP}", "train.temperature=1.2")
    words = [word for setting in settings for word in ("--set", setting)]
    steps = rollouts(tina, "--algo", algorithm, "--max-steps", "4", *words)
    assert len(steps) == 4
    seen = set()
    for rows in steps:
        assert len(rows) == 8, "batch x accumulate, in one generation or in two"
        for group in (rows[n : n + GROUP] for n in range(0, len(rows), GROUP)):
            assert len({row["problem_id"] for row in group}) == 1
            rewards = [row["format"] + 2 * row["accuracy"] for row in group]
            for row, reward in zip(group, rewards, strict=True):
                wanted = (reward - mean(rewards)) / (stdev(rewards) + 1e-4)
                assert row["advantage"] == pytest.approx(wanted, abs=1e-4)
                seen.add(round(row["advantage"], 3))
    assert len(seen) > 2
    if algorithm == "twice":
        assert steps[0] == steps[1] != steps[2] == steps[3]
