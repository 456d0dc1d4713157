"""Several training processes: the same losses as one, one run directory, and an orderly end."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import psutil
import pyarrow.parquet as pq
import pytest
from conftest import tina_command

from tina_harness import TinaError, planning, registry, runs
from tina_harness.launching import command
from tina_harness.provenance import manifest_of

SCRIPTS = Path(__file__).parent / "scripts"
EXAMPLES = Path(__file__).parent.parent / "examples" / "accelerate"
SMALL = ("--max-steps", "3", "--limit", "4", "--samples", "1", "--set", "train.batch=16")


def scripted(processes, batch, parent):
    """metrics.jsonl of three steps with rollouts that do not depend on the process."""
    names = registry.load()
    settings = {"train.max_steps": 3, "train.batch": batch, "processes": processes, "lora.dropout": 0.0}
    flags = {key: (value, "test") for key, value in settings.items()}
    resolved = planning.layers(names, preset="embedded", file=None, flags=flags, assignments=[])
    plan = planning.prepare(resolved, names)
    run = runs.create(parent, "x", "y", manifest_of(plan, names))
    words = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={processes}",
        str(SCRIPTS / "scripted_worker.py"),
    ]
    with run.timed("training"):
        done = subprocess.run(
            [sys.executable, *words, str(run.path)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return run.metrics()


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path):
    one, two = scripted(1, 32, tmp_path / "one"), scripted(2, 16, tmp_path / "two")
    assert len(one) == len(two) == 3
    same = ("reward", "rewards/format", "rewards/accuracy", "completion_length", "tokens", "learning_rate")
    for a, b in zip(one, two, strict=True):
        for name in same:
            assert a[name] == pytest.approx(b[name], rel=1e-6), name
        assert a["grad_norm"] > 0.01
        for name in ("loss", "grad_norm", "kl", "entropy"):
            assert a[name] == pytest.approx(b[name], rel=2e-3, abs=1e-6), (a["step"], name)


@pytest.mark.slow
def test_two_processes_write_one_run(tina):
    done = tina("run", *SMALL, "--processes", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = [p.parent for p in Path("runs").glob("*/manifest.json")]
    run = runs.Run(path)
    assert [m["step"] for m in run.metrics()] == [1, 2, 3]
    assert done.stdout.count("step 3/3") == 1
    rollouts = pq.read_table(path / "completions" / "step-000003.parquet").to_pylist()
    assert len(rollouts) == 32
    by_problem = {}
    for row in rollouts:
        by_problem.setdefault(row["problem_id"], []).append(row)
    for rows in by_problem.values():
        assert sum(r["advantage"] for r in rows) == pytest.approx(0, abs=1e-4)
        rewards = [r["format"] + 2 * r["score"] for r in rows]
        best = max(r["advantage"] for r in rows)
        assert [r["advantage"] == best for r in rows] == [r == max(rewards) for r in rewards]
    (step, checkpoint), *_ = run.checkpoints()
    assert step == 3
    assert runs.damaged(checkpoint) == ""
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {p.name for p in checkpoint.iterdir()}
    assert {r["checkpoint"] for r in run.results()} == {"base", "step 3"}
    assert run.manifest()["built"]["rollout_check"]["engine"] < 1e-3


@pytest.fixture(scope="module")
def data_parallel(tmp_path_factory):
    """The metrics of a run in which each process has the whole model."""
    folder = tmp_path_factory.mktemp("data-parallel")
    done = tina_command("run", *SMALL, "--set", "lora.dropout=0", "--processes", "2", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return metrics_in(folder)


def metrics_in(folder):
    (manifest,) = Path(folder).glob("runs/*/manifest.json")
    return _untimed(runs.Run(manifest.parent).metrics())


def surroundings(kind, *workers):
    """The environment for processes of a kind that do otherwise what `workers` names."""
    deepspeed = os.environ.get("TINA_DEEPSPEED", "")
    if kind == "zero2" and not deepspeed and find_spec("deepspeed") is None:
        pytest.skip("needs deepspeed: set TINA_DEEPSPEED to a folder that pip --target installed it to")
    names = workers if kind == "ddp" else ("sharded", *workers)
    path = f"{SCRIPTS / 'workers'}:{deepspeed}"
    return {"PYTHONPATH": path, "TINA_TEST_WORKERS": " ".join(names), "DS_ACCELERATOR": "cpu"}


def started_by(kind):
    return ["--processes", "2"] if kind == "ddp" else ["--accelerate-config", str(EXAMPLES / f"{kind}.yaml")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fsdp", "zero2"])
def test_sharded_training_has_the_losses_of_data_parallelism_and_resumes(tina, data_parallel, kind):
    env = surroundings(kind)
    done = tina("run", *SMALL, "--set", "lora.dropout=0", "--save-every", "2", *started_by(kind), env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("the parameters are sharded" in done.stdout) == (kind == "fsdp")
    whole = metrics_in(".")
    assert len(whole) == len(data_parallel) == 3
    for a, b in zip(whole, data_parallel, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-7, nan_ok=True), a["step"]
    (manifest,) = Path("runs").glob("*/manifest.json")
    run = runs.Run(manifest.parent)
    assert [step for step, _ in run.checkpoints()] == [2, 3]
    shutil.rmtree(run.checkpoints()[-1][1])  # as if it had been killed in step 3
    for result in run.path.glob("evals/step*"):
        shutil.rmtree(result)
    entries = {k: v for k, v in run.manifest().items() if k != "trained_to"}
    manifest.write_text(json.dumps({**entries, "status": "running", "pid": 0}))
    done = tina("resume", "latest", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert metrics_in(".") == whole
    assert {r["checkpoint"] for r in run.results()} == {"base", "step 3"}


@pytest.mark.slow
def test_sigterm_ends_all_processes_with_a_checkpoint_that_resumes(tina):
    words = ["run", *SMALL[2:], "--max-steps", "40", "--processes", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tina_harness", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for _ in range(1200):
        found = list(Path("runs").glob("*/metrics.jsonl"))
        if found and found[0].read_text().count("\n") >= 2:
            break
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 143, said
    run = runs.Run(found[0].parent)
    stopped = run.checkpoints()[-1][0]
    assert 2 <= stopped < 40
    manifest = json.loads((run.path / "manifest.json").read_text())
    manifest["config"]["train"]["max_steps"] = stopped + 2
    (run.path / "manifest.json").write_text(json.dumps(manifest))
    done = tina("resume", run.id)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [m["step"] for m in run.metrics()] == list(range(1, stopped + 3))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp", "zero2"])
def test_a_step_that_hangs_is_given_up_and_the_resumed_run_is_the_same(tina, data_parallel, kind):
    """Rank 1 stands still, so that rank 0 waits in a collective operation, where no signal handler runs."""
    words = ["run", *SMALL, "--set", "lora.dropout=0", *started_by(kind)]
    soon = "import tina_harness.stopping as s; s.GRACE_S = 1.0; from tina_harness.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", soon, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **surroundings(kind, "slow", "hanging")},
    )
    workers = []
    while not any(_rank(w) == "1" and w.status() == psutil.STATUS_STOPPED for w in workers):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.2)
        workers = psutil.Process(process.pid).children(recursive=True)
    (manifest,) = Path("runs").glob("*/manifest.json")
    run = runs.Run(manifest.parent)
    time.sleep(3)  # rank 0 samples its share, and waits
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=30)[0]
    assert process.returncode == 143, said
    assert not psutil.wait_procs(workers, timeout=5)[1]
    assert [m["step"] for m in run.metrics()] == [1, 2]
    assert [step for step, _ in run.checkpoints()] == [2]
    assert runs.damaged(run.checkpoints()[-1][1]) == ""
    done = tina("resume", run.id, env=surroundings(kind))
    assert done.returncode == 0, done.stdout + done.stderr
    tolerance = {"rel": 0, "abs": 0} if kind == "ddp" else {"rel": 1e-4, "abs": 1e-7}
    for a, b in zip(run.metrics(), data_parallel, strict=True):
        assert _untimed([a])[0] == pytest.approx(b, **tolerance, nan_ok=True), a["step"]


def _untimed(lines):
    return [
        {k: v for k, v in m.items() if k not in ("usd", "when") and not k.startswith("seconds")}
        for m in lines
    ]


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1", None])
def test_a_lost_process_fails_the_run_and_it_resumes(tina, rank):
    words = ["run", *SMALL[2:], "--max-steps", "6", "--save-every", "2", "--processes", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tina_harness", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(1200):
        found = list(Path("runs").glob("*/metrics.jsonl"))
        if found and found[0].read_text().count("\n") >= 3:
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    workers = psutil.Process(process.pid).children(recursive=True)
    run = runs.Run(found[0].parent)
    if rank is None:  # the one that holds the run: the others must not write it any more
        process.kill()
        process.wait()
        assert not psutil.wait_procs(workers, timeout=5)[1]
        assert run.status() == "killed"
    else:
        (victim,) = [w for w in workers if w.is_running() and _rank(w) == rank and _trains(w)]
        victim.kill()
        out, err = process.communicate(timeout=120)
        assert process.returncode == 1, out + err
        assert "Traceback" not in err
        assert "training process" in err
        assert run.status() == "failed"
    done = tina("resume", run.id)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [m["step"] for m in run.metrics()] == [1, 2, 3, 4, 5, 6]


def _rank(process):
    with contextlib.suppress(psutil.Error):
        return process.environ().get("RANK")


def _trains(process):
    with contextlib.suppress(psutil.Error):
        return "tina_harness.worker" in process.cmdline()


@pytest.mark.slow
def test_what_fails_in_a_training_process_is_one_sentence(tina, plugin):
    plugin(
        "bad",
        """
        from tina_harness import Reward, hookimpl
        def build():
            return lambda completions, golds, context: [0.0] if context.step > 1 else [0.5] * len(golds)
        @hookimpl
        def tina_rewards():
            yield Reward(name="bad", summary="s", source="x", build=build)
        """,
    )
    done = tina("run", *SMALL, "--processes", "2", "--reward", "bad")
    assert done.returncode == 1
    assert "the reward 'bad' of outside_bad 1.0: its function gave" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_the_file_of_accelerate_says_how_many_processes_there_are(tmp_path):
    def planned(**settings):
        flags = {key: (value, "--accelerate-config") for key, value in settings.items()}
        names = registry.load()
        resolved = planning.layers(names, preset="embedded", file=None, flags=flags, assignments=[])
        return planning.prepare(resolved, names)

    file = tmp_path / "zero2.yaml"
    file.write_text("distributed_type: DEEPSPEED\nnum_processes: 2\n")
    alone, plan = planned(), planned(accelerate_config=str(file))
    assert plan.config.processes == 2
    assert plan.completions_per_step == 2 * alone.completions_per_step
    assert plan.steps == alone.steps  # those of the recipe
    with pytest.raises(TinaError, match=r"--processes 3, and .* starts 2"):
        planned(accelerate_config=str(file), processes=3)
    file.write_text("distributed_type: FSDP\nnum_processes: 2\nfsdp_config: {fsdp_version: 2}\n")
    with pytest.raises(TinaError, match="no checkpoint would hold the whole adapter"):
        planned(accelerate_config=str(file))
    for text in ("[", "- 1", "num_processes: many"):
        file.write_text(text)
        with pytest.raises(TinaError, match="cannot be read"):
            planned(accelerate_config=str(file))
    with pytest.raises(TinaError, match="cannot be read"):
        planned(accelerate_config=str(tmp_path / "none.yaml"))


def test_gpus_are_started_by_accelerate_launch(tmp_path):
    config = SimpleNamespace(processes=4, accelerate_config=None)
    plan = SimpleNamespace(config=config, hardware=SimpleNamespace(gpu=True))
    words = command(plan, runs.Run(tmp_path))
    assert words[1:4] == ["-m", "accelerate.commands.launch", "--multi_gpu"]
    assert "--num_processes=4" in words
    assert words[-3:] == ["-m", "tina_harness.worker", str(tmp_path)]
    config.accelerate_config = "zero2.yaml"
    assert command(plan, runs.Run(tmp_path))[3:5] == ["--config_file", "zero2.yaml"]
