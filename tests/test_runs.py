"""The run directory."""

import json
import multiprocessing
import os
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
    newer = runs.create(parent, "limr", "drgrpo", {"kind": "training"})
    assert runs.find("latest", parent) == newer
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
    with pytest.raises(RuntimeError), run.timed("training"):
        raise RuntimeError
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


def test_a_killed_phase_counts_until_the_last_sign_of_life(run):
    with run.timed("training"):
        pass
    before = run.seconds()["training"]
    run.update(phase={"name": "training", "since": time.time() - 100})  # as a kill leaves it
    os.utime(run.path / "manifest.json", (time.time() - 90,) * 2)
    assert run.seconds()["training"] == pytest.approx(before + 10, abs=1)
    run.append_metrics({"step": 1})
    os.utime(run.path / "metrics.jsonl", (time.time() - 40,) * 2)
    assert run.seconds()["training"] == pytest.approx(before + 60, abs=1)
    with run.timed("final evaluation"):  # the next session; the hour between them is not counted
        run.touch()
    assert run.manifest()["seconds"]["training"] == pytest.approx(before + 60, abs=1)
    assert run.manifest()["seconds"]["final evaluation"] < 1


def test_two_processes_cannot_hold_one_run(run):
    def hold(path, ready, leave):
        with runs.Run(path).locked():
            ready.set()
            leave.wait(30)

    context = multiprocessing.get_context("fork")
    ready, leave = context.Event(), context.Event()
    process = context.Process(target=hold, args=(run.path, ready, leave))
    process.start()
    assert ready.wait(30)
    with pytest.raises(TinaError, match="another process is working on"), run.locked():
        pass
    assert run.status() == "running"
    leave.set()
    process.join()
    assert run.status() == "killed"


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
