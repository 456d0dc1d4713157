"""A number is compared with numbers of its kind only, kept beside others, and never changed in silence."""

import json
import os
from pathlib import Path

import pytest
from conftest import score

from tina_harness.runs import Run
from tina_harness.runs.identity import disagreements, protocol, with_digest

BENCH = ("--bench", "arithmetic-heldout")


def shown(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def identity(**changes):
    parts = {
        "benchmark": "b",
        "problems": "p",
        "subset": "all 30",
        "scorer": {"by": "grader", "rules": 1},
        "prompt": {"template": "t"},
        "sampling": {"temperature": 1.0, "samples": 4},
        "engine": "transformers",
        "noted": {"seed": 1},
        "compared": {"model": "m"},
    }
    return with_digest({**parts, **changes})


def test_what_has_to_agree_is_named_and_what_is_noted_or_compared_does_not_refuse():
    one = identity()
    assert disagreements(one, identity(noted={"seed": 2}, compared={"model": "n"})) == {}
    assert protocol(one) == protocol(identity(noted={"seed": 2}, compared={"model": "n"}))
    assert one["digest"] != identity(noted={"seed": 2})["digest"]
    for part, value in (
        ("engine", "vllm"),
        ("sampling", {}),
        ("prompt", {}),
        ("scorer", {}),
        ("problems", "q"),
    ):
        other = identity(**{part: value})
        assert list(disagreements(one, other)) == [part]
        assert disagreements(one, other, [part]) == {}
        assert protocol(one) != protocol(other)


def test_a_subset_has_other_problems_and_may_be_compared_across_it():
    part = identity(subset="10 of 30", problems="q")
    assert set(disagreements(identity(), part)) == {"problems", "subset"}
    assert disagreements(identity(), part, ["subset"]) == {}


def test_what_an_earlier_version_did_not_record_does_not_disagree():
    assert disagreements(identity(), identity(prompt=None, engine=None)) == {}


def test_results_of_other_settings_are_refused_and_compared_across_what_is_named(tina):
    few = ("--limit", "6", "--samples", "2", "--json")
    (hot,) = shown(tina("eval", "tina-nano", *BENCH, *few, "--temperature", "1"))
    (cold,) = shown(tina("eval", "tina-nano", *BENCH, *few, "--temperature", "0.6"))
    done = tina("compare", hot["run"], cold["run"])
    assert done.returncode == 2
    assert "in different ways: sampling (temperature 1.0 and 0.6)" in done.stderr
    assert "--across sampling" in done.stderr
    (row,) = shown(tina("compare", hot["run"], cold["run"], "--across", "sampling", "--json"))
    assert row["across"] == {"sampling": "temperature 1.0 and 0.6"}
    assert (row["A"], row["B"]) == (score(hot), score(cold))
    assert 0 <= row["A"] <= 1
    board = tina("leaderboard").stdout
    assert "at temperature 1, " in board
    assert "at temperature 0.6, " in board
    (part,) = shown(tina("eval", "tina-nano", *BENCH, "--limit", "3", "--samples", "2", "--json"))
    done = tina("compare", cold["run"], part["run"])
    assert "subset (6 of 200 and 3 of 200)" in done.stderr
    (row,) = shown(tina("compare", cold["run"], part["run"], "--across", "subset", "--json"))
    assert row["problems"] == 3
    groups = [r["problems"] for r in shown(tina("leaderboard", "--json"))]
    assert sorted(groups) == ["3/200", "6/200", "6/200"]


@pytest.mark.slow
def test_results_of_a_run_are_kept_side_by_side_and_the_base_is_sampled_once(tina):
    few = ("--limit", "6", "--samples", "2")
    run = Run(Path(shown(tina("run", "--max-steps", "2", *few, "--json"))["path"]))
    full = run.results(checkpoint="step 2")
    both = shown(tina("eval", run.id, *BENCH, "--limit", "3", "--samples", "2", "--json"))
    assert [(r["checkpoint"], r["problems"]) for r in both] == [("base", 6), ("step 2", 6), ("step 2", 3)]
    assert [r for r in both if r["checkpoint"] == "step 2" and r["problems"] == 6] == full
    again = tina("eval", run.id, *BENCH, "--limit", "3", "--samples", "2")
    assert "evaluated before with the same settings" in again.stdout
    assert "loading the evaluation engine" not in again.stdout
    words = ("sweep", "--grid", "seed=1,2", "--max-steps", "1", *few, "--json")
    done = tina(*words, "--set", "eval.temperature=0.5")
    rows = shown(done)
    assert [row["metric"] for row in rows] == ["pass@1", "pass@1"]
    assert all(0 <= row["score"] <= 1 for row in rows)
    bases = [
        r
        for path in Path("runs").glob("sweep-*/*/*/manifest.json")
        for r in Run(path.parent).results(checkpoint="base")
    ]
    seeds = {r["seed"]: r for r in bases}
    assert len(bases) == len(seeds) == 2
    done = tina(*words[:2], "lr=1e-4,1e-5", *words[3:], "--set", "eval.temperature=0.5", "--seed", "1")
    shown(done)
    later = [
        r
        for path in Path("runs").glob("sweep-*/*/*/manifest.json")
        for r in Run(path.parent).results(checkpoint="base")
        if r["run"] not in {b["run"] for b in bases}
    ]
    assert [r["reused"] for r in later] == [12, 12]


@pytest.mark.slow
def test_a_sweep_over_how_benchmarks_are_sampled_shows_each_point_s_own_result(tina):
    words = ("--max-steps", "1", "--limit", "2", "--samples", "1", "--json")
    rows = shown(tina("sweep", "--grid", "eval.temperature=0.5,1.0", *words))
    assert [row["eval.temperature"] for row in rows] == ["0.5", "1.0"]
    assert all(row["score"] is not None for row in rows)


PLUGIN = """
    from tina_harness import Benchmark, Estimate, Metric, Problem, Score, hookimpl

    ROWS = [{{"problem": f"What is {{n}} + 1?", "answer": str(n + 1)}} for n in range(200)]

    def lengths(problem, completions):
        return [Score(float(len(text)), "correct", text[:5], "length") for text in completions]

    def longest(scores):
        values = [max(s.value for s in found) for found in scores.values()]
        return {{"longest": Estimate(max(values), None, None, len(values), "number")}}

    @hookimpl
    def tina_benchmarks():
        yield Benchmark(name="sums", summary="s", source="x", rows=lambda seed: ROWS, samples=4,
                        prompt="plain", max_new_tokens=24, answer_policy="{policy}")
        yield Benchmark(name="lengths", summary="s", source="x", rows=lambda seed: ROWS[:3], samples=2,
                        prompt="plain", max_new_tokens=24, scorer=lengths, metrics=("longest", "pass@1"))

    @hookimpl
    def tina_estimators():
        yield Metric(name="longest", summary="s", source="x", reduce=longest)
"""


def test_a_changed_policy_grades_again_without_an_engine_and_keeps_the_earlier_result(plugin, tina):
    plugin("sums", PLUGIN.format(policy="tina"), "tina-sums")
    words = ("eval", "tina-nano", "--bench", "sums", "--json")
    (first,) = shown(tina(*words))
    assert sum(first["counts"].values()) == 800
    module = next(Path(p) for p in os.environ["PYTHONPATH"].split(os.pathsep) if p.endswith("site"))
    source = module / "outside_sums.py"
    source.write_text(source.read_text().replace('answer_policy="tina"', 'answer_policy="bare"'))
    done = tina(*words)
    (second,) = shown(done)
    assert "loading the evaluation engine" not in done.stderr
    assert "800 of 800 samples were here already" in done.stderr
    assert second["identity"]["scorer"] != first["identity"]["scorer"]
    assert second["counts"] != first["counts"]
    assert {first["run"], second["run"]} == {p.parent.name for p in Path("runs").glob("*/manifest.json")}
    refused = tina("compare", first["run"], second["run"])
    assert "scorer (policy tina and bare)" in refused.stderr
    shown(tina("compare", first["run"], second["run"], "--across", "scorer", "--json"))


def test_a_benchmark_scores_its_samples_and_names_its_metrics(plugin, tina):
    plugin("sums", PLUGIN.format(policy="tina"), "tina-sums")
    (found,) = shown(tina("eval", "tina-nano", "--bench", "lengths", "--json"))
    assert (found["primary"], found["metrics"]["longest"]["unit"]) == ("longest", "number")
    assert found["metrics"]["pass@1"]["unit"] == "number"
    assert found["identity"]["scorer"] == {"by": "tina-sums 1.0 lengths"}
    rows = shown(tina("samples", found["run"], "--json"))
    assert [row["score"] for row in rows] == [float(len(row["completion"])) for row in rows]
    assert {row["rule"] for row in rows} == {"length"}
    table = tina("leaderboard", "--bench", "lengths").stdout
    assert "lengths (longest)" in table
    (more,) = shown(tina("eval", "tina-nano", *BENCH, "--limit", "2", "--samples", "2", "--metric", "longest",
                         "--json"))  # fmt: skip
    assert list(more["metrics"])[:4] == ["pass@1", "pass@2", "maj@2", "longest"]
    assert "did you mean 'longest'" in tina("eval", "tina-nano", *BENCH, "--metric", "longset").stderr


def test_adapters_of_one_name_are_told_apart(tina):
    records = Path(__file__).resolve().parent / "fixtures" / "v1"
    (weights,) = records.glob("*/checkpoints/checkpoint-80")
    for folder, scale in (("a", 128), ("b", 64)):
        place = Path(folder) / "mine"
        place.mkdir(parents=True)
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            (place / name).write_bytes((weights / name).read_bytes())
        settings = json.loads((place / "adapter_config.json").read_text())
        (place / "adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": scale}))
    words = ("--limit", "4", "--samples", "1", "--json")
    results = shown(tina("eval", "tina-nano", *BENCH, "--adapter", "a/mine", "--adapter", "b/mine", *words))
    assert len({r["label"] for r in results}) == 2
    one = shown(tina("eval", "tina-nano", *BENCH, "--adapter", "a/mine", *words, "--no-cache"))
    two = shown(tina("eval", "tina-nano", *BENCH, "--adapter", "b/mine", *words, "--no-cache"))
    assert one[0]["label"] == two[0]["label"]
    models = [row["model"] for row in shown(tina("leaderboard", "--json"))]
    assert len(set(models)) == 4
