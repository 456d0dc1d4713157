"""Guards: what stops a training, what only warns, and what does neither."""

import json
from pathlib import Path

import pytest

from tina_harness.config import GuardConfig
from tina_harness.training.guards import divergence, hacking

GUARD = GuardConfig(patience=6)


def steps(count, **columns):
    """metrics of `count` steps; a column is a value, or a function of the step."""
    return [
        {"step": n, **{k.replace("__", "/"): v(n) if callable(v) else v for k, v in columns.items()}}
        for n in range(1, count + 1)
    ]


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_or_gradient_that_is_no_number_stops(name, value):
    healthy = steps(3, loss=0.1, grad_norm=1.0, kl=0.01)
    assert divergence(healthy, GUARD) is None
    assert f"{name} is" in divergence([*healthy, {"step": 4, name: value}], GUARD)


def test_kl_stops_when_it_stays_high_and_not_for_a_spike():
    spike = steps(20, kl=lambda n: 50.0 if n in (18, 19) else 0.1)
    assert divergence(spike, GUARD) is None
    assert "KL was above 10 nats" in divergence(steps(20, kl=lambda n: 12.0 if n > 15 else 0.1), GUARD)
    assert divergence(steps(20, kl=12.0), GuardConfig(max_kl=20)) is None


def test_groups_without_signal_stop_when_they_stay():
    assert divergence(steps(6, groups_without_signal=lambda n: float(n > 1)), GUARD) is None
    assert "no signal" in divergence(steps(7, groups_without_signal=lambda n: float(n > 1)), GUARD)
    assert divergence(steps(50, groups_without_signal=0.9), GUARD) is None


def hacked(accuracy=0.0, shortest=5.0, top=1.0):
    """The course of a run of plain TRL that learnt to write an empty box: 18 steps."""
    return steps(
        18,
        reward=lambda n: 0.06 + (top - 0.06) * min(1.0, n / 14),
        rewards__accuracy=accuracy,
        completion_length=lambda n: 34 - (34 - shortest) * min(1.0, n / 14),
    )


def test_reward_up_accuracy_not_and_short_completions_are_an_alarm():
    found = [n for n in range(1, 19) if hacking(hacked()[:n])]
    assert found
    assert 10 <= found[0] <= 14
    assert "accuracy did not (0.00 to 0.00)" in hacking(hacked())


def test_learning_is_no_alarm():
    assert hacking(hacked(accuracy=lambda n: n / 18)) is None  # accuracy rises with it
    assert hacking(hacked(shortest=30.0)) is None  # completions keep their length
    assert hacking(hacked(top=0.1)) is None  # reward does not rise
    assert hacking(steps(40, reward=1.0, rewards__accuracy=0.0, completion_length=5.0)) is None
    assert hacking(steps(40, reward=lambda n: n / 40, completion_length=lambda n: 41.0 - n)) is None


@pytest.mark.slow
def test_a_run_that_diverges_stops_with_a_sentence_and_keeps_its_checkpoint(tina):
    done = tina(
        *("run", "--max-steps", "9", "--set", "train.save_every=2", "--set", "guard.patience=4"),
        *("--set", "rewards.format.weight=0", "--set", "rewards.accuracy.weight=0"),
    )
    assert done.returncode == 1
    assert "stopped at step" in done.stderr
    assert "no signal" in done.stderr
    assert "the last checkpoint is that of step" in done.stderr
    (run,) = (p.parent for p in Path("runs").glob("*/manifest.json"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["alarm"] == "diverged"
    assert json.loads((run / "manifest.json").read_text())["status"] == "failed"
