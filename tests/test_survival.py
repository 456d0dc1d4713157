"""Kills at any instant, SIGTERM, damaged checkpoints: the metrics end as those of a whole run."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tina_harness.runs import Run, damaged, seal

pytestmark = pytest.mark.slow
WORDS = ["run", "--max-steps", "10", "--limit", "4", "--samples", "1", "--set", "train.save_every=2"]


def tina(*words, code=0, cwd=None, grace=None):
    """A finished `tina`, or with grace (seconds) one under way whose steps are given up that soon."""
    if grace is None:
        command = [sys.executable, "-m", "tina_harness", *words]
    else:
        text = (
            "import sys; import tina_harness.stopping as s; s.GRACE_S = float(sys.argv.pop(1));"
            "from tina_harness.cli import main; main()"
        )
        command = [sys.executable, "-c", text, str(grace), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd)
    if code is None:
        return process
    said = process.communicate(timeout=300)[0]
    assert process.returncode == code, said
    return said


def run_in(folder):
    (path,) = [p.parent for p in Path(folder).glob("runs/*/manifest.json")]
    return Run(path)


def lines(folder):
    """The metrics without what is timed."""
    return [
        {k: v for k, v in m.items() if k not in ("usd", "when") and not k.startswith("seconds")}
        for m in run_in(folder).metrics()
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    tina(*WORDS, cwd=folder)
    return lines(folder)


def wait_for(process, folder, count):
    for _ in range(3000):
        files = list(Path(folder).glob("runs/*/metrics.jsonl"))
        if files and files[0].read_bytes().count(b"\n") >= count:
            return
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)


def test_killed_at_random_instants_it_ends_as_an_uninterrupted_run(whole, tmp_path):
    chosen = random.Random(5)
    process = tina(*WORDS, code=None, cwd=tmp_path)
    for kill in range(5):
        wait_for(process, tmp_path, 1 + kill)
        time.sleep(chosen.uniform(0, 0.6))
        process.kill()
        process.communicate()
        if run_in(tmp_path).manifest()["status"] == "finished":
            break
        process = tina("resume", "latest", code=None, cwd=tmp_path)
    process.communicate(timeout=300)
    if run_in(tmp_path).manifest()["status"] != "finished":
        tina("resume", "latest", cwd=tmp_path)
    assert lines(tmp_path) == whole


@pytest.mark.parametrize("grace", [12, 0.02])
def test_sigterm_saves_exits_143_and_the_resumed_run_is_the_same(whole, tmp_path, grace):
    """A grace of 0.02 s gives up the step in its middle."""
    process = tina(*WORDS, code=None, cwd=tmp_path, grace=grace)
    wait_for(process, tmp_path, 3)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 143, said
    assert time.monotonic() - asked < 30
    assert "tina resume" in said
    run = run_in(tmp_path)
    assert run.manifest()["status"] == "interrupted"
    (step, folder) = run.checkpoints()[-1]
    assert step >= len(run.metrics()) - 1
    assert damaged(folder) == ""
    if grace < 1:  # once more, in the first step after the resume
        process = tina("resume", "latest", code=None, cwd=tmp_path, grace=grace)
        while "parameters are trained" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[0]
        assert process.returncode == 143, said
        assert run.checkpoints()[-1][0] == step
    tina("resume", "latest", cwd=tmp_path)
    assert lines(tmp_path) == whole


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(whole, tmp_path):
    process = tina(*WORDS, code=None, cwd=tmp_path)
    wait_for(process, tmp_path, 7)
    process.kill()
    process.communicate()
    run = run_in(tmp_path)
    assert run.manifest()["built"]["loss_type"] == "grpo"  # what ran is on record, and what it cost
    assert run.seconds()["training"] > sum(m["seconds"] for m in run.metrics())
    newest, folder = run.checkpoints()[-1]
    weights = folder / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    (run.checkpoints_dir / f"checkpoint-{newest + 1}").mkdir()  # begun, never finished
    said = tina("resume", "latest", cwd=tmp_path)
    assert f"the checkpoint of step {newest} is damaged (adapter_model.safetensors has changed)" in said
    assert lines(tmp_path) == whole


def test_a_seal_tells_changed_missing_and_whole_files(tmp_path):
    (tmp_path / "a").write_text("one")
    assert "checksums.json" in damaged(tmp_path)
    seal(tmp_path)
    assert damaged(tmp_path) == ""
    (tmp_path / "a").write_text("two")
    assert damaged(tmp_path) == "a has changed"
    os.remove(tmp_path / "a")
    assert "No such file" in damaged(tmp_path)
    (tmp_path / "checksums.json").write_text(json.dumps([1]))
    assert damaged(tmp_path)
