"""The run directory."""

import json
import multiprocessing
import os
import shutil
import time

import pytest

from tina_harness import TinaError, runs


@pytest.fixture
def run(tmp_path):
    return runs.create(tmp_path / "runs", "limr", "grpo", {"kind": "training", "seconds": {}})


def test_a_run_is_found_by_id_prefix_path_and_latest(run, tmp_path):
    parent = tmp_path / "runs"
    assert runs.find(run.id, parent) == run
    assert runs.find(run.id[:-2], parent) == run
    assert runs.find(str(run.path), parent) == run
    newer = runs.create(parent, "limr", "drgrpo", {"kind": "evaluation"})
    assert runs.find("latest", parent) == newer
    assert runs.find("latest", parent, lambda r: r.manifest()["kind"] == "training") == run
    with pytest.raises(TinaError, match=r"no run in .* is made of gold"):
        runs.find("latest", parent, lambda _: False, "is made of gold")
    with pytest.raises(TinaError, match="fits 2 runs"):
        runs.find(run.id[:8], parent)
    with pytest.raises(TinaError, match=rf"did you mean '{run.id}'"):
        runs.find(run.id[1:], parent)
    with pytest.raises(TinaError, match="no runs in"):
        runs.find("latest", tmp_path / "elsewhere")


def test_metrics_survive_a_cut_last_line_and_a_repeated_step(run):
    for step, loss in ((1, 0.5), (2, 0.4), (2, 0.3), (3, float("nan"))):
        run.append_metrics({"step": step, "loss": loss})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "lo')
    assert [(m["step"], m["loss"]) for m in run.metrics()] == [(1, 0.5), (2, 0.3), (3, None)]


def test_the_ledger_adds_up_over_phases_and_errors(run):
    def fails():
        time.sleep(0.01)  # the ledger counts milliseconds
        raise RuntimeError

    with pytest.raises(RuntimeError), run.timed("training"):
        fails()
    first = run.manifest()["seconds"]["training"]
    assert first > 0
    with run.timed("training"):
        pass
    with run.timed("report"):
        pass
    ledger = run.seconds()
    assert ledger["training"] >= first
    assert ledger == run.manifest()["seconds"]
    assert ledger.keys() == {"training", "report"}


def written(run, **changes):
    """The manifest as another process may have left it: `update` would write the time of now."""
    manifest = {**json.loads((run.path / "manifest.json").read_text()), **changes}
    (run.path / "manifest.json").write_text(json.dumps(manifest))


def stamp(seconds_ago):
    seconds = time.time() - seconds_ago
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def test_a_killed_phase_counts_until_the_last_sign_of_life(run):
    with run.timed("training"):
        pass
    before = run.seconds()["training"]
    killed = {"name": "training", "since": time.time() - 100}
    written(run, phase=killed, created=stamp(200), updated=stamp(90))
    assert run.seconds()["training"] == pytest.approx(before + 10, abs=2)
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 1, "when": stamp(40)}) + "\n")
    assert run.seconds()["training"] == pytest.approx(before + 60, abs=2)
    with run.timed("final evaluation"):  # the next session; the time between them is not counted
        run.touch()
    assert run.manifest()["seconds"]["training"] == pytest.approx(before + 60, abs=2)
    assert run.manifest()["seconds"]["final evaluation"] < 1


def test_a_copy_of_a_killed_run_costs_what_the_run_cost(run, tmp_path):
    """What counts is inside the files: `cp -r` gives every file the time of the copy."""
    week = 7 * 24 * 3600
    hardware = {"count": 1, "elsewhere": 0, "usd_per_hour": 0.1}
    written(
        run,
        hardware=hardware,
        phase={"name": "training", "since": time.time() - week},
        created=stamp(week + 1),
        updated=stamp(week - 20),
    )
    (run.path / "metrics.jsonl").write_text(json.dumps({"step": 3, "when": stamp(week - 60)}) + "\n")
    copy = runs.Run(shutil.copytree(run.path, tmp_path / "copy"))
    assert sum(copy.seconds().values()) == pytest.approx(60, abs=2)
    assert copy.usd(sum(copy.seconds().values())) == pytest.approx(60 * 0.1 / 3600, rel=0.05)
    # metrics of version 0.1.0 hold no time, but what the run had cost at each step
    line = {"step": 3, "usd": 100 * 0.1 / 3600}
    (copy.path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert sum(copy.seconds().values()) == pytest.approx(100, abs=2)


def test_two_processes_cannot_hold_one_run(run):
    context = multiprocessing.get_context("fork")
    ready, leave = context.Event(), context.Event()
    process = context.Process(target=hold, args=(run.path, ready, leave))
    process.start()
    assert ready.wait(30)
    with pytest.raises(TinaError, match="another process is working on"), run.locked():
        pass
    leave.set()
    process.join()
    with run.locked():
        pass


def hold(path, ready, leave):
    with runs.Run(path).locked():
        ready.set()
        leave.wait(30)


def test_a_run_is_running_while_its_process_is_and_looking_takes_no_lock(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, leave = context.Event(), context.Event()
    process = context.Process(target=create, args=(tmp_path / "runs", ready, leave))
    process.start()
    assert ready.wait(30)
    (run,) = runs.all_runs(tmp_path / "runs")
    before = sorted(p.name for p in run.path.iterdir())
    assert run.status() == "running"
    with run.locked():
        assert run.status() == "running"
    process.kill()
    process.join()
    assert run.status() == "killed"
    written(run, process={**run.manifest()["process"], "pid": os.getpid()})  # the id was given out again
    assert run.status() == "killed"
    assert sorted(p.name for p in run.path.iterdir()) == sorted({*before, ".lock"})


def create(parent, ready, leave):
    runs.create(parent, "limr", "grpo", {"kind": "training", "seconds": {}})
    ready.set()
    leave.wait(30)


def test_a_run_on_another_machine_is_running_while_it_gives_signs_of_life(run):
    elsewhere = {"pid": 1, "started": "1", "host": "another-machine"}
    written(run, process=elsewhere, created=stamp(9000), updated=stamp(60))
    assert run.status() == "running"
    written(run, process=elsewhere, updated=stamp(8000))
    assert run.status() == "killed"
    run.append_metrics({"step": 1})
    assert run.status() == "running"


def test_a_manifest_is_written_whole(run, monkeypatch):
    before = run.manifest()

    def broken(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", broken)
    with pytest.raises(OSError, match="No space"):
        run.update(status="finished")
    assert run.manifest() == before
    assert [p.name for p in run.path.iterdir()] == ["manifest.json"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TinaError, match="--runs-dir"):
        runs.create(tmp_path / "file", "limr", "grpo", {})
