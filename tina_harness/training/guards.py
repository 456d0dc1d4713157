"""What goes wrong in RL training, told from the metrics: divergence and reward hacking."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tina_harness.config import GuardConfig

WINDOW = 5  # steps that are averaged


def divergence(metrics: Sequence[Mapping[str, Any]], guard: GuardConfig) -> str | None:
    """Why the newest step means that the run is lost, and what to try; None where it does not.

    A loss or gradient norm that is not finite; KL above `max_kl` nats a token for WINDOW steps; groups
    without signal (all rewards equal) above `no_signal_share` for `patience` steps.
    """
    newest = metrics[-1]
    for name in ("loss", "grad_norm"):
        value = newest.get(name)
        if value is not None and not math.isfinite(value):
            return f"{name} is {value}: try a lower learning rate, or float32"
    kl = [m.get("kl") or 0.0 for m in metrics[-WINDOW:]]
    if len(kl) == WINDOW and min(kl) > guard.max_kl:
        return (
            f"KL was above {guard.max_kl:g} nats a token for {WINDOW} steps ({kl[-1]:.1f}): "
            "try a lower learning rate or a higher train.beta"
        )
    empty = [m.get("groups_without_signal") or 0.0 for m in metrics[-guard.patience :]]
    if len(empty) == guard.patience and min(empty) > guard.no_signal_share:
        return (
            f"{100 * empty[-1]:.0f}% of the groups had no signal (equal rewards) for {guard.patience} steps: "
            "try easier or harder problems, a higher train.temperature, a larger train.group"
        )
    return None


def hacking(metrics: Sequence[Mapping[str, Any]]) -> str | None:
    """Whether rewards rise for the wrong reason: accuracy does not, and completions are half as long.

    The last WINDOW steps against the first WINDOW; the rise in reward has to pass twice its spread over the
    first steps. None without an accuracy reward, or where it rises too.
    """
    if len(metrics) < 2 * WINDOW or metrics[-1].get("rewards/accuracy") is None:
        return None
    first, last = metrics[:WINDOW], metrics[-WINDOW:]
    names = ("reward", "rewards/accuracy", "completion_length")
    reward, accuracy, length = ((_mean(first, name), _mean(last, name)) for name in names)
    rewards = [float(m.get("reward") or 0.0) for m in first]
    rises = reward[1] - reward[0] > 2 * max(max(rewards) - min(rewards), 0.05)
    if rises and accuracy[1] <= accuracy[0] + 0.02 and length[1] <= 0.5 * length[0]:
        return (
            f"reward rose from {reward[0]:.2f} to {reward[1]:.2f}, accuracy did not ({accuracy[0]:.2f} to "
            f"{accuracy[1]:.2f}), and completions shrank from {length[0]:.0f} to {length[1]:.0f} tokens"
        )
    return None


def silent(metrics: Sequence[Mapping[str, Any]]) -> set[str]:
    """The rewards that gave no value for any completion of the last WINDOW steps."""
    if len(metrics) < WINDOW:
        return set()

    def known(value: Any) -> bool:
        return value is not None and math.isfinite(value)

    names = {n for m in metrics[-WINDOW:] for n in m if n.startswith("rewards/")}
    return {n.removeprefix("rewards/") for n in names if not any(known(m.get(n)) for m in metrics[-WINDOW:])}


def _mean(metrics: Sequence[Mapping[str, Any]], name: str) -> float:
    values = [float(m[name]) for m in metrics if m.get(name) is not None]
    return sum(values) / len(values) if values else 0.0
