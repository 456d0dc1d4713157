"""What an evaluation does to the run that it evaluates, and what it leaves where it could not start."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tina_harness.runs import Run
from tina_plugins.models.nano import folder as nano

BENCH = ("--bench", "arithmetic-heldout", "--limit", "3", "--samples", "1")


def killed_run():
    """A run whose process was killed after its first checkpoint."""
    words = ("run", "--max-steps", "24", "--set", "train.save_every=2", *BENCH)
    process = subprocess.Popen(
        [sys.executable, "-m", "tina_harness", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not list(Path("runs").glob("*/checkpoints/checkpoint-*/checksums.json")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (path,) = (p.parent for p in Path("runs").glob("*/manifest.json"))
    return Run(path)


@pytest.mark.slow
def test_a_killed_run_that_was_evaluated_is_still_killed_and_is_resumed(tina):
    run = killed_run()
    assert run.status() == "killed"
    spent = run.seconds()["training"]
    for subject in (run.id, f"{run.id}@base"):
        done = tina("eval", subject, *BENCH)
        assert done.returncode == 0, done.stderr
        assert run.status() == "killed"
    assert run.seconds()["training"] == pytest.approx(spent, abs=1)
    assert run.seconds()["checkpoint evaluation"] > 0
    missing = tina("eval", run.id, "--bench", "arithmetic-heldout", "--engine", "openai")
    assert missing.returncode != 0
    assert run.status() == "killed"
    done = tina("resume", "latest")
    assert done.returncode == 0, done.stderr
    assert run.status() == "finished"
    assert run.metrics()[-1]["step"] == 24
    for status in ("interrupted", "failed"):
        run.update(status=status)
        assert tina("eval", run.id, *BENCH).returncode == 0
        assert run.status() == status


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tina-nano", "--engine", "openai"), "OPENAI_BASE_URL"),
        (("tina-nano", "--bench", "gpqa"), "gpqa"),
        (("tina-nano", "--bench", "aime24"), "TINA_MIRROR"),
        (("tina-nano", "--adapter", "empty"), "holds no LoRA adapter"),
        (("tina-nano", "--system", "calculat"), "there is no prompt template"),
        (("empty",), "without a config.json"),
        (("nobody/nothing",), "nobody/nothing"),
    ],
)
def test_an_evaluation_that_cannot_start_leaves_no_run(tina, words, said):
    Path("empty").mkdir()
    done = tina("eval", *words, "--bench", "arithmetic-heldout", env={"TINA_MIRROR": ""})
    assert done.returncode != 0
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not list(Path("runs").glob("*"))
    assert json.loads(tina("runs", "--json").stdout) == []


@pytest.mark.parametrize("named", [True, False])
def test_a_server_that_is_not_there_leaves_no_run(tina, named):
    """With the model named, the first request fails; without, the question which models there are."""
    env = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "TINA_OPENAI_MODEL": "m" if named else ""}
    code = (
        "import tina_plugins.engines.openai as e\ne.LONGEST_WAIT_S = 0.01\n"
        "from tina_harness.cli import main\nimport sys\nmain(sys.argv[1:])"
    )
    words = ("eval", "tina-nano", "--engine", "openai", "--bench", "arithmetic-heldout", "--limit", "2")
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, env={**os.environ, **env}
    )
    assert done.returncode == 2, done.stderr
    assert "http://127.0.0.1:9/v1" in done.stderr
    assert json.loads(tina("runs", "--json").stdout) == []
    assert not list(Path("runs").glob("*"))


def test_where_the_engine_could_not_be_loaded_what_the_libraries_said_is_kept(tina):
    model = Path(shutil.copytree(nano(), "broken"))
    (model / "model.safetensors").write_bytes(b"not weights")
    done = tina("eval", "broken", *BENCH)
    assert done.returncode != 0
    assert json.loads(tina("runs", "--json").stdout) == []
    assert "Traceback" not in done.stderr


def test_latest_is_the_newest_run_that_can_do_what_is_asked(tina):
    records = Path(__file__).resolve().parent / "fixtures" / "v1"
    shutil.copytree(records, "runs")
    (trained,) = (p.name for p in Path("runs").iterdir())
    done = tina("eval", "tina-nano", *BENCH, "--json")
    evaluation = json.loads(done.stdout)[0]["run"]
    assert evaluation > trained
    assert f"{trained}/publish" in tina("publish", "latest", "--repo", "me/mine", "--dry-run").stdout
    assert tina("merge", "latest", "merged").returncode == 0
    assert json.loads(tina("compare", f"{trained}@base", "latest@80", "--json").stdout)
    assert json.loads(tina("samples", "latest@80", "--json").stdout)
    assert {r["run"] for r in json.loads(tina("cost", "latest", "--json").stdout) if "run" in r} == {
        evaluation
    }
    assert "no run in runs can be resumed" in tina("resume", "latest").stderr
    results = json.loads(tina("eval", "latest", *BENCH, "--json").stdout)
    assert {r["run"] for r in results} == {trained}
