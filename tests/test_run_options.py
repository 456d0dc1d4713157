"""What a training leaves out, keeps, and stops for."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from tina_harness.runs import Run

pytestmark = pytest.mark.slow
SMALL = ("--limit", "4", "--samples", "1")


def the_run():
    (path,) = [p.parent for p in Path("runs").glob("*/manifest.json")]
    return Run(path)


def test_checkpoints_and_rollouts_are_kept_by_policy_and_metrics_go_elsewhere_too(tina):
    words = ("--save-every", "2", "--keep-last", "1", "--keep-best", "1", "--keep-completions", "3")
    done = tina("run", "--max-steps", "9", *SMALL, *words, "--rslora", "--report-to", "tensorboard")
    assert done.returncode == 0, done.stderr
    assert "rsLoRA r=32" in done.stdout
    run = the_run()
    rewards = {m["step"]: m["reward"] for m in run.metrics()}
    kept = [step for step, _ in run.checkpoints()]
    assert kept[-1] == 9
    assert len(kept) <= 2

    def mean(step):
        near = [r for s, r in rewards.items() if step - 5 < s <= step]
        return sum(near) / len(near)

    assert max([2, 4, 6, 8, 9], key=mean) in kept
    assert f"{len(kept)} checkpoints, " in done.stdout
    steps = sorted(p.stem for p in (run.path / "completions").glob("*.parquet"))
    assert steps == ["step-000007", "step-000008", "step-000009"]
    assert json.loads((run.checkpoints()[-1][1] / "adapter_config.json").read_text())["use_rslora"] is True
    assert list(run.path.rglob("events.out.tfevents*"))
    line = run.metrics()[-1]
    parts = sum(line[f"seconds_{phase}"] for phase in ("rollout", "grading", "update"))
    assert parts == pytest.approx(line["seconds"], abs=1e-3)
    assert line["groups_skipped"] == line["grader_timeouts"] == 0


def test_full_training_takes_the_same_path(tina):
    done = tina("run", "--full", "--max-steps", "3", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "(100.00%)" in done.stdout
    run = the_run()
    ((step, folder),) = run.checkpoints()
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert any("q_proj" in name for name in weights.keys())  # noqa: SIM118 (not a dict)
    assert {r["checkpoint"] for r in run.results()} == {"base", "step 3"}
    done = tina("eval", f"latest@{step}", "--bench", "arithmetic-heldout", "--limit", "6", "--samples", "1")
    assert done.returncode == 0, done.stderr
    assert "trained in full" in done.stdout
    done = tina("eval", folder, "--bench", "arithmetic-heldout", "--limit", "4", "--samples", "1", "--json")
    alone = json.loads(done.stdout)[0]
    (same,) = [r for r in run.results() if r["checkpoint"] == "step 3" and r["problems"] == 6]
    assert alone["problems"] == 4
    assert same["model"] == "tina-nano"
    assert "there is no adapter to merge" in tina("merge", run.id, "x").stderr


def test_a_budget_ends_the_training_in_time_for_the_evaluation(tina):
    done = tina("run", "--budget-usd", "0.000001", "--max-steps", "5", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "stopping at step 1: $" in done.stdout
    run = the_run()
    assert run.manifest()["trained_to"] == 1
    assert {r["checkpoint"] for r in run.results()} == {"base", "step 1"}
    assert run.status() == "finished"
    assert "no run in runs can be resumed" in tina("resume", "latest").stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--save-every", "5x"), "train.save_every = '5x' (--save-every)"),
        (("--report-to", "tensorbord"), "'tensorbord'"),
        (("--report-to", "mlflow"), "pip install mlflow"),
        (("--budget-usd", "-1"), "budget_usd = -1"),
        (("--budget-usd", "1", "--set", "hardware=gpu"), "hardware"),
        (("--rollout-server", "http://localhost:8000"), "leave --rollout-server out"),
        (("--set", "lora.targets=['c_attn']", "--max-steps", "1"), "the model has no module 'c_attn'"),
    ],
)
def test_bad_options_are_one_sentence(tina, words, said):
    done = tina("run", *words)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_hardware_is_measured_and_a_dry_run_uses_it(tina, tmp_path):
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    rough = json.loads(tina("run", "--dry-run", "--json", env=cache).stdout)["plan"]
    assert rough["estimate"].startswith("rough")
    done = tina("bench", "hardware", "--json", env=cache)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["model"] == "tina-nano"
    assert min(row["sampled tokens/s"], row["trained tokens/s"], row["usd per million"]) > 0
    plan = json.loads(tina("run", "--dry-run", "--json", env=cache).stdout)["plan"]
    assert plan["estimate"] == "measured by tina bench hardware"
    assert plan["hours, at most"] == pytest.approx(plan["tokens, at most"] / row["tokens/s"] / 3600, rel=1e-6)
    other = json.loads(tina("run", "--dry-run", "--json", "--full", env=cache).stdout)["plan"]
    assert other["estimate"].startswith("rough")


def test_benchmarks_take_a_system_prompt_and_keep_results_apart(tina):
    words = ("eval", "tina-nano", "--bench", "arithmetic-heldout", "--limit", "3", "--samples", "1", "--json")
    (plain,) = json.loads(tina(*words).stdout)
    (asked,) = json.loads(tina(*words, "--system", "calculate").stdout)
    assert asked["identity"]["prompt"] != plain["identity"]["prompt"]
    assert "there is no" in tina(*words, "--system", "calculat").stderr
    done = tina("run", "--max-steps", "1", *SMALL, "--set", "eval.system=calculate", "--runs-dir", "other")
    assert done.returncode == 0, done.stderr
    (run,) = [Run(p.parent) for p in Path("other").glob("*/manifest.json")]
    base = next(r for r in run.results() if r["checkpoint"] == "base")
    assert base["identity"]["prompt"] == asked["identity"]["prompt"]
    samples = tina("samples", "latest", "--runs-dir", "other", "--bench", "arithmetic-heldout", "--json")
    assert "in a box" in json.loads(samples.stdout)[0]["prompt"]
