"""The phase transition: found where it is, soon, and not where there is none."""

import itertools
import json
import random
import statistics
from pathlib import Path

import numpy as np
import pytest

from tina_harness.training.transition import PENALTY, SEGMENT, pelt, transition


def curve(seed, change=None, steps=80, noise=0.05, rise=0.4, shrink=0.7, ramp=1):
    """Format and length over steps; at `change` the one rises and the other shrinks within `ramp` steps."""
    chosen = random.Random(seed)
    rows = []
    for step in range(1, steps + 1):
        share = 0.0 if change is None else min(1.0, max(0.0, (step - change + 1) / ramp))
        form = min(1.0, max(0.0, 0.45 + rise * share + chosen.gauss(0, noise)))
        length = (30 - 30 * (1 - shrink) * share) * (1 + chosen.gauss(0, 0.05))
        rows.append({"step": step, "rewards/format": form, "completion_length": length})
    return rows


def first_seen(rows):
    """(the step at which a transition is first declared, the step it is said to be)."""
    for n in range(1, len(rows) + 1):
        if (found := transition(rows[:n])) is not None:
            return rows[n - 1]["step"], found
    return None


def test_an_abrupt_change_is_found_where_it_is_and_soon():
    delays, errors = [], []
    for seed in range(100):
        change = 15 + seed % 50
        seen = first_seen(curve(seed, change, noise=0.05 + 0.05 * (seed % 2)))
        assert seen is not None
        delays.append(seen[0] - change)
        errors.append(abs(seen[1] - change))
    assert sum(e <= 2 for e in errors) >= 95
    assert SEGMENT - 1 <= statistics.median(delays) <= SEGMENT + 2
    print("delay", statistics.median(delays), max(delays), "within 2 steps", sum(e <= 2 for e in errors))


def test_a_change_of_one_signal_alone_or_over_several_steps_is_found():
    for seed in range(30):
        assert first_seen(curve(seed, 40, rise=0.0, shrink=0.5)) is not None
        assert first_seen(curve(seed, 40, shrink=1.0)) is not None
        (_, found) = first_seen(curve(seed, 40, ramp=8))
        assert 37 <= found <= 48


def test_noise_and_small_changes_are_none():
    alarms = sum(first_seen(curve(seed, noise=0.03 + 0.02 * (seed % 5))) is not None for seed in range(100))
    print("false alarms", alarms)
    assert alarms <= 5
    assert sum(first_seen(curve(s, 40, rise=0.05, shrink=0.95)) is not None for s in range(30)) <= 3
    assert transition([]) is None
    assert transition([{"step": n, "reward": 1.0} for n in range(50)]) is None
    assert transition([{"step": n, "rewards/format": 1.0} for n in range(50)]) is None


@pytest.mark.slow
def test_a_run_marks_it_saves_there_and_stops_when_asked_to(tina):
    done = tina("run", "--stop-after-transition", "3", "--limit", "4", "--samples", "1")
    assert done.returncode == 0, done.stderr
    (run,) = (p.parent for p in Path("runs").glob("*/manifest.json"))
    manifest = json.loads((run / "manifest.json").read_text())
    seen = manifest["transition"]
    assert 10 <= seen["step"] <= 30
    assert manifest["trained_to"] == seen["checkpoint"] + 3 < 80
    assert {seen["checkpoint"], seen["checkpoint"] + 3} <= {
        int(p.name.rpartition("-")[2]) for p in run.glob("checkpoints/checkpoint-*")
    }
    assert f"phase transition at step {seen['step']}" in done.stdout
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [m["transition"] for m in lines if "transition" in m] == [seen["step"]]
    words = ("--bench", "arithmetic-heldout", "--limit", "2", "--samples", "1", "--json")
    found = json.loads(tina("eval", "latest@transition", *words).stdout)
    assert f"step {seen['checkpoint']}" in {r["checkpoint"] for r in found}
    assert "no run in runs can be resumed" in tina("resume", "latest").stderr


def test_the_segments_cost_no_more_than_those_of_ruptures():
    """Nearly always they are the same; with segments of two rows ruptures' pruning can miss the best."""
    import ruptures

    def cost(ends):
        parts = [data[a:b] for a, b in itertools.pairwise([0, *ends])]
        assert min(map(len, parts)) >= 2
        return sum(((p - p.mean(0)) ** 2).sum() + penalty for p in parts)

    chosen = np.random.default_rng(3)
    same = several = 0
    for _ in range(200):
        count, signals = int(chosen.integers(4, 120)), int(chosen.integers(1, 4))
        levels = np.repeat(chosen.normal(0, 3, (count, signals)), chosen.integers(1, 25, count), axis=0)
        data = levels[:count] + chosen.normal(0, 1, (count, signals))
        penalty = chosen.choice([0.5, 2.0, PENALTY]) * signals * np.log(count)
        theirs = ruptures.KernelCPD(kernel="linear", min_size=2).fit(data).predict(pen=penalty)
        ours = pelt(data, penalty)
        assert cost(ours) <= cost(theirs) + 1e-6
        same += ours == theirs
        several += len(ours) > 2
    assert same >= 190
    assert several > 100
