"""A finished run of version 0.1.0 (records of schema 1) is read for ever, and its numbers do not change."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import score

RECORDS = Path(__file__).resolve().parent / "fixtures" / "v1"
RUN = "20261124-224014-arithmetic-grpo-553a2d"


@pytest.fixture
def old_run(tmp_path):
    """A copy of the old run in ./runs."""
    return Path(shutil.copytree(RECORDS / RUN, tmp_path / "runs" / RUN))


def shown(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_is_listed_with_its_steps_seconds_and_dollars(tina, old_run):
    (row,) = shown(tina("runs", "--json"))
    assert row["run"] == RUN
    assert (row["status"], row["dataset"], row["algo"], row["model"]) == (
        "finished",
        "arithmetic",
        "grpo",
        "tina-nano",
    )
    assert row["steps"] == "80/80"
    assert row["seconds"] == pytest.approx(59.023 + 10.294 + 1.287, abs=0.1)
    assert row["usd"] == pytest.approx(0.0019612222)


def test_it_is_ranked_with_its_scores_and_intervals(tina, old_run):
    best, base = shown(tina("leaderboard", "--json"))
    assert (best["checkpoint"], best["model"]) == ("step 80", "tina-nano + arithmetic/grpo")
    assert (best["score"], best["ci95"]) == (0.705, [0.6675, 0.74125])
    assert (base["checkpoint"], base["score"], base["ci95"]) == ("base", 0.37875, [0.34125, 0.415])
    assert (best["format"], base["format"]) == (0.95875, 0.46375)


def test_its_checkpoints_are_compared(tina, old_run):
    (row,) = shown(tina("compare", f"{RUN}@base", RUN, "--json"))
    assert (row["benchmark"], row["problems"]) == ("arithmetic-heldout", 200)
    assert (row["A"], row["B"]) == pytest.approx((0.37875, 0.705))
    assert row["verdict"].startswith("B is better: +32.6 points")


def test_its_samples_are_paged(tina, old_run):
    wrong = shown(tina("samples", f"{RUN}@base", "--wrong", "--json"))
    assert len(wrong) == 800 - 303
    assert {row["verdict"] for row in wrong} == {"no_answer", "incorrect"}
    assert f"497/497  base-arithmetic-heldout  problem {wrong[-1]['problem_id']}" in (
        tina("samples", f"{RUN}@base", "--wrong").stdout
    )


def test_its_cost_is_shown_by_phase(tina, old_run):
    rows = shown(tina("cost", RUN, "--json"))
    spent = {row["phase"]: row["seconds"] for row in rows if "phase" in row}
    assert spent == {"training": 59.0, "final evaluation": 10.3, "report": 1.3, "all": 70.6}


def test_it_is_finished_and_not_resumed(tina, old_run):
    done = tina("resume", RUN)
    assert done.returncode == 2
    assert f"{RUN} is finished" in done.stderr
    assert f"tina eval {RUN} --bench NAME" in done.stderr


def test_it_is_published_with_its_numbers(tina, old_run):
    done = tina("publish", RUN, "--repo", "me/old", "--dry-run")
    assert done.returncode == 0, done.stderr
    card = (old_run / "publish" / "README.md").read_text(encoding="utf-8")
    assert "| 70.5 " in card
    assert "[66.75, 74.12]" in card
    kept = json.loads((old_run / "publish" / "run" / "results.json").read_text(encoding="utf-8"))
    assert {r["checkpoint"]: score(r) for r in kept} == {"base": 0.37875, "step 80": 0.705}


@pytest.mark.slow
def test_its_checkpoint_is_evaluated_again_and_merged(tina, old_run):
    words = ("--bench", "arithmetic-heldout", "--limit", "5", "--samples", "2", "--json")
    results = shown(tina("eval", RUN, *words))
    assert [(r["schema"], r["checkpoint"], r["problems"]) for r in results] == [
        (1, "base", 200),
        (1, "step 80", 200),
        (2, "step 80", 5),
    ]
    assert [score(r) for r in results[:2]] == [0.37875, 0.705]
    assert score(results[2]) is not None
    done = tina("merge", RUN, "merged")
    assert done.returncode == 0, done.stderr
    assert Path("merged/model.safetensors").exists()
