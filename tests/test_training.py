"""Runs from start to end, in processes of their own, as a user starts them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import interval, score

pytestmark = pytest.mark.slow
SMALL = ["--max-steps", "4", "--limit", "20", "--samples", "1"]


def start(*words):
    """A `tina` in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "tina_harness", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"},
    )


def the_run(parent="runs"):
    (path,) = [p for p in Path(parent).iterdir() if (p / "manifest.json").exists()]
    return path


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def wait_for_step(run_parent, step, process):
    for _ in range(1200):
        files = list(Path(run_parent).glob("*/metrics.jsonl"))
        if files and len(files[0].read_text().splitlines()) >= step:
            return
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    pytest.fail("the run never reached the step")


def test_the_embedded_run_learns_the_format_and_leaves_everything_behind(tina):
    done = tina("run")
    assert done.returncode == 0, done.stderr
    run = the_run()
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["built"]["loss_type"] == "grpo"
    assert manifest["built"]["reward_weights"] == {"format": 1.0, "accuracy": 2.0}
    assert {"training", "final evaluation"} <= manifest["seconds"].keys()
    assert manifest["usd"] > 0
    assert manifest["packages"]["trl"]
    lines = metrics(run)
    assert [m["step"] for m in lines] == list(range(1, 81))
    assert {"loss", "reward", "rewards/format", "grad_norm", "completion_length", "tokens"} <= lines[0].keys()
    base, trained = (
        json.loads(next(run.glob(f"evals/{place}-arithmetic-heldout-*/results.json")).read_text())
        for place in ("base", "step-000080")
    )
    assert score(base, "rewards/format") <= 0.6
    assert score(trained, "rewards/format") >= 0.9
    assert score(trained) >= score(base) + 0.1
    assert interval(trained)[0] > interval(base)[1]
    rows = pq.read_table(run / "completions" / "step-000080.parquet").to_pylist()
    assert len(rows) == 32
    assert {"prompt", "completion", "gold", "format", "accuracy"} <= rows[0].keys()
    assert (run / "checkpoints" / "checkpoint-80" / "adapter_model.safetensors").exists()
    assert (run / "curves.png").stat().st_size > 1000
    assert "tina leaderboard" in done.stdout
    assert "Warning" not in done.stdout + done.stderr, "the chatter of libraries belongs in log.txt"
    rows = json.loads(tina("leaderboard", "--json").stdout)
    assert [r["score"] for r in rows] == sorted((r["score"] for r in rows), reverse=True)
    assert {"model", "benchmark", "score", "ci95"} <= rows[0].keys()
    assert json.loads(tina("runs", "--json").stdout)[0]["status"] == "finished"
    assert "no run in runs can be resumed" in tina("resume", "latest").stderr
    done = tina("eval", f"{run.name}@40", "--bench", "arithmetic-heldout", "--limit", "10", "--json")
    assert {r["checkpoint"] for r in json.loads(done.stdout)} == {"base", "step 40", "step 80"}


def test_a_terminal_gets_one_live_line_and_none_of_the_libraries_chatter():
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "tina_harness", "run", *SMALL]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        seen += chunk
    text = seen.decode(errors="replace")
    assert process.wait(timeout=60) == 0, text
    assert "step 4/4" in text
    assert "\x1b[2K" in text, "the line is drawn anew in its place"
    assert "Loading weights" not in text
    assert "Loading weights" in (the_run() / "log.txt").read_text()


def test_drgrpo_is_what_trl_is_told(tina):
    assert tina("run", "--algo", "drgrpo", *SMALL).returncode == 0
    built = json.loads((the_run() / "manifest.json").read_text())["built"]
    assert (built["loss_type"], built["scale_rewards"]) == ("dr_grpo", "none")


def test_the_schedule_may_be_longer_than_the_run(tina):
    assert tina("run", *SMALL, "--set", "train.schedule_steps=100").returncode == 0
    rates = [m["learning_rate"] for m in metrics(the_run())]
    assert len(rates) == 4
    assert rates == pytest.approx([3e-5 * i for i in range(4)])


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tina):
    lines = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert tina("run", *SMALL, "--seed", seed, "--runs-dir", name).returncode == 0
        lines[name] = [(m["loss"], m["reward"], m["grad_norm"]) for m in metrics(the_run(name))]
    assert lines["a"] == lines["b"] != lines["c"]


def test_ctrl_c_saves_a_checkpoint_and_resume_ends_as_if_nothing_had_happened(tina):
    words = ["run", "--max-steps", "10", "--limit", "20", "--samples", "1"]
    assert tina(*words, "--runs-dir", "whole").returncode == 0
    process = start(*words)
    wait_for_step("runs", 3, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    run = the_run()
    assert process.returncode == 130, output
    assert f"tina resume {run.name}" in output
    assert "Traceback" not in output
    assert json.loads((run / "manifest.json").read_text())["status"] == "interrupted"
    reached = metrics(run)[-1]["step"]
    assert (run / "checkpoints" / f"checkpoint-{reached}").is_dir()
    assert reached < 10
    done = tina("resume", "latest")
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "manifest.json").read_text())["status"] == "finished"
    before, after = metrics(run)[reached - 1 : reached + 1]
    rate = (after["tokens"] - before["tokens"]) / after["seconds"]
    said = re.search(rf"step {reached + 1}/10 .* (\d+) tokens/s", done.stdout)
    assert float(said[1]) == pytest.approx(rate, abs=1)
    keys = ("step", "loss", "reward", "grad_norm", "learning_rate")
    ours, whole = ([[m[k] for k in keys] for m in metrics(r)] for r in (run, the_run("whole")))
    assert ours == whole


def test_a_killed_run_is_shown_as_killed_and_resumes(tina):
    process = start("run", *SMALL, "--set", "train.save_every=2")
    wait_for_step("runs", 3, process)
    process.kill()
    process.wait()
    assert json.loads(tina("runs", "--json").stdout)[0]["status"] == "killed"
    assert tina("resume", "latest").returncode == 0
    assert json.loads(tina("runs", "--json").stdout)[0]["steps"] == "4/4"


def test_two_processes_cannot_work_on_one_run(tina):
    process = start("run", "--max-steps", "200", "--limit", "1")
    wait_for_step("runs", 1, process)
    (run,) = (p.parent.name for p in Path("runs").glob("*/manifest.json"))
    done = tina("resume", run)
    latest = tina("resume", "latest")
    process.kill()
    process.wait()
    assert done.returncode == latest.returncode == 2
    assert "another process is working on" in done.stderr
    assert "no run in runs can be resumed" in latest.stderr


def test_a_full_disk_is_one_sentence_and_what_was_finished_is_kept(tina, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        done = tina(
            "run", "--max-steps", "9", "--limit", "5", "--set", "train.save_every=1", "--runs-dir", small
        )
        assert done.returncode == 1
        assert "is full" in done.stderr
        assert "tina resume" in done.stderr
        assert "Traceback" not in done.stderr + done.stdout
        assert metrics(the_run(small))[0]["step"] == 1
    finally:
        subprocess.run(["umount", str(small)], check=False)


def test_a_run_directory_that_cannot_be_written_is_named(tina, tmp_path):
    (tmp_path / "taken").write_text("a file")
    done = tina("run", "--runs-dir", tmp_path / "taken")
    assert done.returncode == 2
    assert "--runs-dir" in done.stderr


def test_limr_with_drgrpo_on_the_real_model_ends_in_a_leaderboard_row(tina, mirror):
    if not any((Path(m) / "HuggingFaceTB" / "SmolLM2-135M-Instruct").is_dir() for m in mirror.split(":")):
        pytest.skip("needs the real model: a mirror with HuggingFaceTB/SmolLM2-135M-Instruct")
    words = "run --dataset limr --algo drgrpo --model smollm2-135m --max-steps 2 --bench aime24 --limit 2"
    done = tina(
        *words.split(),
        "--max-new-tokens",
        "16",
        "--samples",
        "1",
        "--set",
        "train.accumulate=1",
        env={"TINA_MIRROR": mirror},
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    (base, trained) = json.loads(tina("leaderboard", "--json").stdout)
    assert base["benchmark"] == trained["benchmark"] == "aime24"
    assert base["problems"] == "2/30"


SHAPES = {
    "openr1": ("open-r1/OpenR1-Math-220k/default/train-00000-of-00001.parquet",
               {"answer": "{gold}", "solution": "s", "generations": ["long", "long"]}),
    "openthoughts": ("bethgelab/CuratedThoughts/OpenThoughts-114k-math-default/train.parquet",
                     {"solution": "so $\\boxed{gold}$", "messages": [{"role": "user", "content": "x"}]}),
    "open-s1": ("knoveleng/open-s1/data/train-00000-of-00001.parquet",
                {"answer": "$\\boxed{gold}$", "solution": "s", "source": "x"}),
}  # fmt: skip


@pytest.mark.parametrize("name", ["limr", "deepscaler", "still3", "open-rs", *SHAPES])
def test_each_of_the_seven_datasets_goes_from_a_mirror_into_training(name, tina, tmp_path, request):
    folders = tmp_path / "mirror"
    if name in SHAPES:
        file, columns = SHAPES[name]
        filled = [json.dumps({"problem": f"What is {n} plus 1?", **columns}) for n in range(60)]
        rows = [json.loads(t.replace("{gold}", f"{{{n + 1}}}" if "boxed" in t else str(n + 1)))
                for n, t in enumerate(filled)]  # fmt: skip
        (folders / file).parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), folders / file)
    else:
        folders = request.getfixturevalue("mirror")
    words = [
        "run",
        "--dataset",
        name,
        "--model",
        "tina-nano",
        "--bench",
        "arithmetic-heldout",
        "--limit",
        "2",
    ]
    words += ["--samples", "1", "--max-steps", "1", "--max-new-tokens", "16", "--rows", "200"]
    words += ["--set", "train.group=4", "--set", "train.batch=4", "--set", "train.accumulate=1"]
    done = tina(*words, env={"TINA_MIRROR": str(folders)})
    assert done.returncode == 0, done.stdout + done.stderr
    run = the_run()
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert len(manifest["dataset"]["fingerprint"]) == 16
    assert len(metrics(run)) == 1
    left_out = sum(manifest["dataset"]["left_out"].values())
    quarantine = run / "quarantine.parquet"
    assert left_out == (pq.read_table(quarantine).num_rows if quarantine.exists() else 0)
