"""A damaged file costs its own row, with the reason, and no other; a damaged checkpoint is not used."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tina_harness.runs import seal

RECORDS = Path(__file__).resolve().parent / "fixtures" / "v1"
RUN = "20261124-224014-arithmetic-grpo-553a2d"
GOOD = "20261124-200000-arithmetic-grpo-000000"


@pytest.fixture
def two_runs(tmp_path):
    """A good run, and a newer one to damage."""
    for name in (GOOD, RUN):
        shutil.copytree(RECORDS / RUN, tmp_path / "runs" / name)
    return tmp_path / "runs" / RUN


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGE = {
    "null": lambda f: f.write_text("null"),
    "a list": lambda f: f.write_text("[1, 2]"),
    "empty": lambda f: f.write_text(""),
    "cut": lambda f: f.write_text(f.read_text()[:300]),
    "not UTF-8": lambda f: f.write_bytes(f.read_bytes()[:200] + b"\xff" + f.read_bytes()[200:]),
    "nested without end": lambda f: f.write_text("[" * 100_000),
    "a folder": lambda f: (f.unlink(), f.mkdir()),
}
MANIFESTS = {
    **DAMAGE,
    "seconds is text": lambda f: change(f, seconds="many"),
    "a phase that is text": lambda f: change(f, seconds={"training": "long"}),
    "hardware is a list": lambda f: change(f, hardware=[]),
    "a price that is text": lambda f: change(f, hardware={"usd_per_hour": "cheap"}),
    "status is a number": lambda f: change(f, status=3),
    "a model without a table": lambda f: change(f, model="tina-nano"),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_damaged_manifest_costs_its_row(tina, two_runs, kind):
    MANIFESTS[kind](two_runs / "manifest.json")
    rows = {row["run"]: row for row in json.loads(tina("runs", "--json").stdout)}
    assert rows[GOOD]["status"] == "finished"
    assert rows[RUN]["status"].startswith("unreadable: ")
    assert "manifest.json" in rows[RUN]["status"]
    board = tina("leaderboard", "--json")
    assert board.returncode == 0, board.stderr
    assert len(json.loads(board.stdout)) == 2
    assert "left out: " in board.stderr
    done = tina("cost", "latest", "--json")
    assert {row["run"] for row in json.loads(done.stdout) if "run" in row} == {GOOD}
    assert f"{RUN}/manifest.json cannot be read" in tina("cost", RUN).stderr


RESULTS = {
    **DAMAGE,
    "a score that is text": lambda f: change(f, **{"pass@1": "high"}),
    "a score that is not a number": lambda f: change(f, **{"pass@1": float("nan")}),
    "an interval that is text": lambda f: change(f, ci95="wide"),
    "rewards are null": lambda f: change(f, rewards=None),
    "a reward that is a list": lambda f: change(f, rewards={"format": [1]}),
    "seconds are null": lambda f: change(f, seconds=None),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_a_damaged_result_costs_its_row(tina, two_runs, kind):
    RESULTS[kind](two_runs / "evals" / "base-arithmetic-heldout" / "results.json")
    board = tina("leaderboard", "--json")
    assert board.returncode == 0, board.stderr
    rows = [(row["run"], row["checkpoint"]) for row in json.loads(board.stdout)]
    assert sorted(rows) == [(GOOD, "base"), (GOOD, "step 80"), (RUN, "step 80")]
    assert "base-arithmetic-heldout/results.json cannot be read" in board.stderr
    assert "Traceback" not in board.stderr


@pytest.mark.parametrize(
    "line",
    [b'{"step": 81, "rew\xff', b"null", b"[1]", b'{"step": "x"}', b'{"step": null}', b"\x00\x00", b"["],
)
def test_a_damaged_line_of_metrics_costs_that_line(tina, two_runs, line):
    with open(two_runs / "metrics.jsonl", "ab") as file:
        file.write(line)
    rows = {row["run"]: row for row in json.loads(tina("runs", "--json").stdout)}
    assert rows[RUN]["steps"] == "80/80"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_a_folder_that_may_not_be_looked_into_costs_its_row(tina, two_runs):
    two_runs.chmod(0)
    try:
        done = tina("runs", "--json")
    finally:
        two_runs.chmod(0o755)
    assert [row["run"] for row in json.loads(done.stdout)] == [GOOD]


def test_listing_writes_nothing(tina, two_runs):
    change(two_runs / "manifest.json", status="running")
    before = {p: p.stat().st_mtime_ns for p in two_runs.parent.rglob("*")}
    assert {row["status"] for row in json.loads(tina("runs", "--json").stdout)} == {"finished", "killed"}
    tina("leaderboard")
    tina("cost", RUN)
    assert {p: p.stat().st_mtime_ns for p in two_runs.parent.rglob("*")} == before


def weights(run):
    return run / "checkpoints" / "checkpoint-80" / "adapter_model.safetensors"


def with_nan(file):
    """NaN in the last number, and a seal that fits: as a diverged training would leave it."""
    file.write_bytes(file.read_bytes()[:-4] + b"\x00\x00\xc0\x7f")
    seal(file.parent)


BROKEN = {
    "NaN": with_nan,
    "cut": lambda f: f.write_bytes(f.read_bytes()[:-100]),
    "one bit": lambda f: f.write_bytes(f.read_bytes()[:-1] + bytes([f.read_bytes()[-1] ^ 1])),
    "missing": lambda f: f.unlink(),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize(
    "words",
    [
        ("eval", RUN, "--bench", "arithmetic-heldout", "--limit", "2"),
        ("merge", RUN, "merged"),
        ("publish", RUN, "--repo", "me/mine", "--dry-run"),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_a_whole_one_is_named(tina, two_runs, words, kind):
    checkpoint = two_runs / "checkpoints" / "checkpoint-80"
    shutil.copytree(checkpoint, checkpoint.with_name("checkpoint-60"))
    BROKEN[kind](weights(two_runs))
    done = tina(*words)
    assert done.returncode == 1
    assert f"the checkpoint of step 80 of {RUN} is damaged: " in done.stderr
    assert ("not finite" if kind == "NaN" else "adapter_model.safetensors") in done.stderr
    assert f"name one as {RUN}@60" in done.stderr
    assert not Path("merged").exists()
    assert len(list((two_runs / "evals").iterdir())) == 2


def test_a_damaged_checkpoint_is_refused_as_a_folder_too(tina, two_runs):
    BROKEN["one bit"](weights(two_runs))
    folder = weights(two_runs).parent
    done = tina("eval", "tina-nano", "--adapter", folder, "--bench", "arithmetic-heldout", "--limit", "2")
    assert done.returncode == 1
    assert "is damaged: adapter_model.safetensors has changed" in done.stderr
    assert {p.name for p in Path("runs").iterdir()} == {GOOD, RUN}
    BROKEN["NaN"](weights(two_runs))
    (folder / "checksums.json").unlink()
    done = tina("eval", "tina-nano", "--adapter", folder, "--bench", "arithmetic-heldout", "--limit", "2")
    assert done.returncode == 1
    assert "has values that are not finite" in done.stderr


FAULTS = {
    "'seconds.training' is 1000": {"seconds": {"training": 10**400}},
    "'phase.since' is \"now\", which is not a number": {"phase": {"name": "training", "since": "now"}},
    "it has no 'process.started'": {"process": {"pid": 1, "host": "h"}},
    "'benchmarks[1]' is 1, which is not a text": {"benchmarks": ["a", 1]},
    "'steps' is true, which is not an integer": {"steps": True},
}


@pytest.mark.parametrize("said", FAULTS)
def test_the_place_of_a_fault_in_a_manifest_is_named(tina, two_runs, said):
    change(two_runs / "manifest.json", **FAULTS[said])
    done = tina("runs", "--json")
    assert done.returncode == 0, done.stderr
    assert said in next(r["status"] for r in json.loads(done.stdout) if r["run"] == RUN)


def test_the_last_whole_line_of_metrics_is_found_behind_a_long_damaged_one(tina, two_runs):
    with open(two_runs / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 81, "x": "' + b"a" * 100_000)
    assert next(r["steps"] for r in json.loads(tina("runs", "--json").stdout) if r["run"] == RUN) == "80/80"
    (two_runs / "metrics.jsonl").write_bytes(b"x" * 100_000)
    assert next(r["steps"] for r in json.loads(tina("runs", "--json").stdout) if r["run"] == RUN) == "0/80"
