"""What plugins give and raise outside rewards: a sentence that names the plugin, and numbers shown right."""

import json
import math
from pathlib import Path
from random import random

import pytest
from conftest import score

from tina_harness import Benchmark, Completion, Dataset, Metric, Reward, Sampling, TinaError, registry
from tina_harness.config import RunConfig
from tina_harness.data import load_problems
from tina_harness.data.load import Problem
from tina_harness.evaluation import Subject, Task, bootstrap_mean, evaluate
from tina_harness.evaluation.evaluate import Settings
from tina_harness.evaluation.samples import SampleStore
from tina_harness.grading import Grader
from tina_harness.scoring import build_rewards
from tina_harness.statistics import compare


def raises(*_):
    raise KeyError("question")


def of_tina_odd(cls, **fields):
    return cls(**{"name": "odd", "summary": "s", "source": "x", **fields}).offered_by("tina-odd 1.0")


GENERATED = [{"problem": "1 + 1", "answer": "2"}, {"problem": "1 + 2", "answer": "3"}]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"parse": raises}, "parse of row 0 raised KeyError: 'question'"),
        ({"parse": lambda row: int("x")}, "parse of row 0 raised ValueError: invalid literal"),
        ({"parse": lambda row: None}, "parse of row 0 gave None: expected (problem, gold)"),
        ({"parse": lambda row: "ab"}, "parse of row 0 gave the text 'ab': expected (problem, gold)"),
        ({"parse": lambda row: ("a", "b", "c")}, "parse of row 0 gave a value of type tuple: expected"),
        ({"parse": lambda row: (None, "b")}, "parse of row 0 gave None: expected the problem as text"),
        ({"parse": lambda row: ("a", 7)}, "parse of row 0 gave 7: expected the gold as text, or None"),
        (
            {"parse": lambda row: ("a" if row is GENERATED[0] else row["x"], "7")},
            "parse of row 1 raised KeyError: 'x'",
        ),
        ({"rows": raises}, "rows raised KeyError: 'question'"),
        ({"rows": lambda seed: None}, "rows gave None: expected rows, each a mapping"),
        ({"rows": lambda seed: {"problem": "p"}}, "rows gave a value of type dict: expected rows"),
        ({"rows": lambda seed: [GENERATED[0], "x"]}, "row 1 of rows gave the text 'x': expected a mapping"),
        ({"rows": lambda seed: [GENERATED[0], None]}, "row 1 of rows gave None: expected a mapping"),
        ({"rows": lambda seed: [{"problem": "p"}]}, "row 0 of rows has no column 'answer'; it has problem"),
        ({"rows": lambda seed: (raises() for _ in "ab")}, "row 0 of rows raised KeyError: 'question'"),
    ],
)
def test_rows_that_cannot_be_had_or_read_are_named(fields, said):
    spec = of_tina_odd(Dataset, **{"rows": lambda seed: GENERATED, **fields})
    with pytest.raises(TinaError) as caught:
        load_problems(spec, {})
    assert str(caught.value).startswith(f"the dataset 'odd' of tina-odd 1.0: {said}")
    assert caught.value.exit_code == 1


def evaluated(tmp_path, benchmark, problems, completions, rewards=None):
    """The metrics and scores of completions (one a problem)."""
    known = registry.load()
    for spec in rewards or ():
        known.entries["reward"][spec.name] = [registry.Entry(spec, None)]
    table = {spec.name: {} for spec in rewards or ()}
    config = RunConfig.model_validate({"dataset": "d", "algo": "a", "rewards": table})
    sampling, built = Sampling(0.6, 0.95, 32), build_rewards(config, known, print)
    with Grader(1) as grader:
        found = evaluate(
            Subject("m", "m", None, None),
            Task(benchmark, problems, [p.problem for p in problems], "", "", "", {}, "all"),
            Settings(sampling, sampling, 1, 0, [known.get(Metric, "pass@1")], built),
            lambda prompts, *_: ((n, Completion(completions[p], 1, "stop")) for n, p in enumerate(prompts)),
            SampleStore(tmp_path / "samples", {"key": random()}, print),
            grader,
        )
    return found.metrics, found.scores


PROBLEMS = [Problem(f"id{n}", f"p{n}", gold, "math", "odd") for n, gold in enumerate(["1", "2", "3", "4"])]
COMPLETIONS = {"p0": "\\boxed{1}", "p1": "\\boxed{1}", "p2": "\\boxed{3}", "p3": "nothing"}
CHOICES = [Problem(f"id{n}", f"p{n}", gold, "choice", "odd") for n, gold in enumerate("ABCA")]


def rewarding(function):
    return of_tina_odd(Reward, name="mine", build=lambda: function)


def test_a_reward_gets_the_verdicts_of_what_it_asks_for_in_an_evaluation(tmp_path):
    answers = []

    def function(completions, golds, context):
        odd = [context.grade(completions[n:], golds[n:]) for n in (2, 0)]
        other = context.grade(["\\boxed{1}", "\\boxed{5}"], ["2", "5"])
        answers.append([[v.correct for v in verdicts] for verdicts in (*odd, other, context.grade([], []))])
        assert context.problem_ids == ["id0", "id1", "id2", "id3"]
        assert [p.extra.get("level") for p in context.problems] == [0, 1, 2, 3]
        return [float(v.correct) for v in odd[1]]

    problems = [p._replace(extra={"level": n}) for n, p in enumerate(PROBLEMS)]
    result, scores = evaluated(tmp_path, of_tina_odd(Benchmark), problems, COMPLETIONS, [rewarding(function)])
    assert answers == [[[True, False], [True, False, True, False], [False, True], []]]
    assert result["rewards/mine"].value == 0.5
    assert (result["pass@1"].value, result["pass@1"].unit) == (0.5, "share")
    assert [s.value for s in scores] == [1.0, 0.0, 1.0, 0.0]


def test_other_pairs_are_graded_by_the_kind_of_the_benchmark(tmp_path):
    def function(completions, golds, context):
        assert [v.correct for v in context.grade(["the answer is (C)"], ["C"])] == [True]
        return [1.0] * len(golds)

    completions = {f"p{n}": "Answer: B" for n in range(4)}
    benchmark = of_tina_odd(Benchmark, answer_kind="choice")
    result, _ = evaluated(tmp_path, benchmark, CHOICES, completions, [rewarding(function)])
    assert result["pass@1"].value == 0.25


def scoring(*values, name="points"):
    """A benchmark whose score of its problems is one value after another."""
    given = iter(values)
    return of_tina_odd(Benchmark, score=lambda problem, texts: {name: next(given)})


def test_a_benchmark_with_a_score_of_its_own_has_no_verdicts_for_rewards(tmp_path):
    def function(completions, golds, context):
        assert [v.correct for v in context.grade(completions[:3], golds[:3])] == [None] * 3
        return [None if v.correct is None else 1.0 for v in context.grade(completions, golds)]

    result, _ = evaluated(tmp_path, scoring(1, 0, 1, 1), PROBLEMS, COMPLETIONS, [rewarding(function)])
    assert result["rewards/mine"].value is None
    assert (next(iter(result)), result["points"].value, result["points"].unit) == ("points", 0.75, "share")


def test_scores_outside_0_to_1_are_numbers_with_the_interval_of_a_mean(tmp_path):
    result, scores = evaluated(tmp_path, scoring(250, 150, 0, 200), PROBLEMS, COMPLETIONS)
    points = result["points"]
    assert (points.unit, points.value, points.n) == ("number", 150, 4)
    assert 0 < points.low < 150 < points.high <= 250
    assert [s.value for s in scores] == [250, 150, 0, 200]
    one, _ = evaluated(tmp_path, scoring(250), PROBLEMS[:1], COMPLETIONS)
    assert one["points"] == (250, None, None, 1, "number")


def test_an_interval_of_numbers_is_not_that_of_shares():
    assert bootstrap_mean([1.0] * 8, share=False) == (1.0, 1.0, 1.0)
    assert bootstrap_mean([1.0], share=False) == (1.0, None, None)
    found = compare({"a": 100.0}, {"a": 250.0}, share=False)
    assert found.difference == (150.0, None, None)
    assert "+150," in found.verdict
    assert "points" not in found.verdict
    assert "points" in compare({"a": 0.0}, {"a": 1.0}).verdict


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (raises, "score of problem id0 raised KeyError: 'question'"),
        (lambda p, texts: None, "score of problem id0 gave None: expected scores by name"),
        (lambda p, texts: {}, "score of problem id0 gave a value of type dict: expected scores"),
        (lambda p, texts: 0.5, "score of problem id0 gave 0.5: expected scores by name"),
        (
            lambda p, texts: {3: 0.5},
            "score of problem id0 gave a value of type dict: expected scores",
        ),
        (
            lambda p, texts: {p.id: 0.5},
            "score of problem id1 has other names than that of the first problem",
        ),
        (lambda p, texts: {"a": math.nan}, "score of problem id0, 'a', gave nan: expected a finite number"),
        (
            lambda p, texts: {"a": 1, "b": "1"},
            "score of problem id0, 'b', gave the text '1': expected a finite",
        ),
        (lambda p, texts: {"a": None}, "score of problem id0, 'a', gave None: expected a finite number"),
        (lambda p, texts: {"a": 1, "tokens": 3}, "score of problem id0 gives 'tokens', which is another"),
        (lambda p, texts: {"a": 1, "rewards/x": 3}, "score of problem id0 gives 'rewards/x', which is"),
    ],
)
def test_a_benchmark_whose_score_fails_is_named_with_the_problem(tmp_path, score, said):
    with pytest.raises(TinaError) as caught:
        evaluated(tmp_path, of_tina_odd(Benchmark, score=score), PROBLEMS, COMPLETIONS)
    assert str(caught.value).startswith(f"the benchmark 'odd' of tina-odd 1.0: {said}")


PLUGIN = """
    from tina_harness import Benchmark, Dataset, Reward, hookimpl

    ROWS = [{"problem": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(1, 9)]

    def build(fault="none", at=3):
        def function(completions, golds, context):
            assert len(context.problem_ids) == len(completions)
            odd = {"no-number": float("nan"), "high": 7.0}.get(fault) if context.step >= at else None
            if fault == "raise" and context.step >= at:
                raise ZeroDivisionError("division by zero")
            return [None if fault == "silent" else odd or 0.5 for _ in completions]
        return function

    @hookimpl
    def tina_rewards():
        yield Reward(
            name="mine", summary="s", source="x", build=build, defaults={"fault": "none", "at": 3},
            bounds=lambda fault, at: (0, 1),
        )
        yield Reward(name="mine-undeclared", summary="s", source="x", build=build,
            defaults={"fault": "none", "at": 3})

    @hookimpl
    def tina_benchmarks():
        yield Benchmark(name="points", summary="s", source="x", rows=lambda seed: ROWS, samples=1,
            score=lambda p, texts: {"points": 100.0 * len(texts[0]), "b": 0.5})
        yield Benchmark(name="silent", summary="s", source="x", rows=lambda seed: ROWS, samples=1,
            conversation=lambda p: [{"role": "user"}])
"""


def rewarded(tina, reward, fault, *more):
    return tina(
        "run", "--max-steps", "4", "--limit", "4", "--samples", "1",
        "--set", f"rewards.{reward}.weight=1", "--set", f"rewards.{reward}.fault={fault}", *more,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no-number", "gave nan: expected a finite number"),
        ("high", "gave 7: it declares values"),
        ("raise", "raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_reward_that_fails_in_a_training_stops_it_with_a_checkpoint_that_can_be_resumed(
    plugin, tina, fault, said
):
    plugin("mine", PLUGIN, "tina-mine")
    done = rewarded(tina, "mine", fault)
    assert done.returncode == 1
    assert "error: stopped in step 4: the reward 'mine' of tina-mine 1.0: its function, " in done.stderr
    assert said in done.stderr
    assert "the last checkpoint is that of step 3" in done.stderr
    (run,) = Path("runs").iterdir()
    assert json.loads((run / "manifest.json").read_text())["status"] == "failed"
    manifest = (run / "manifest.json").read_text()
    (run / "manifest.json").write_text(manifest.replace(f'"{fault}"', '"none"'))  # it is put right
    done = tina("resume", run.name)
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_reward_beyond_a_range_it_does_not_declare_or_without_values_is_one_warning(plugin, tina):
    plugin("mine", PLUGIN, "tina-mine")
    done = rewarded(tina, "mine-undeclared", "high", "--set", "rewards.mine-undeclared.at=0")
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.count("warning: the reward 'mine-undeclared' of tina-mine 1.0 gives values above 1") == 1
    )
    done = rewarded(tina, "mine", "silent", "--max-steps", "6")
    assert (
        done.stdout.count("the reward 'mine' of tina-mine 1.0 gave None for every completion of 5 steps") == 1
    )
    assert done.stdout.count("gave None for every sample of arithmetic-heldout") == 1


def test_scores_that_are_numbers_are_shown_as_numbers_in_every_table(plugin, tina):
    plugin("mine", PLUGIN, "tina-mine")
    runs = []
    for temperature in ("0.6", "0.9"):
        words = ("--bench", "points", "--bench", "arithmetic-heldout", "--limit", "6", "--samples", "1")
        done = tina("eval", "tina-nano", *words, "--temperature", temperature, "--json")
        assert done.returncode == 0, done.stderr
        heldout, points = sorted(json.loads(done.stdout), key=lambda r: r["benchmark"])
        assert heldout["metrics"]["pass@1"]["unit"] == "share"
        assert points["metrics"][points["primary"]]["unit"] == "number"
        runs.append(points)
    board = json.loads(tina("leaderboard", "--json", "--bench", "points").stdout)
    assert sorted(row["score"] for row in board) == sorted(map(score, runs))
    assert {row["unit"] for row in board} == {"number"}
    words = ("compare", runs[0]["run"], runs[1]["run"], "--bench", "points", "--json")
    (row,) = json.loads(tina(*words, "--across", "sampling").stdout)
    assert (row["A"], row["B"], row["unit"]) == (score(runs[0]), score(runs[1]), "number")
    assert "points" not in row["verdict"]
    done = tina("eval", "tina-nano", "--bench", "silent", "--limit", "2")
    assert done.returncode == 1
    assert "the benchmark 'silent' of tina-mine 1.0: conversation of problem " in done.stderr
