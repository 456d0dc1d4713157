"""The phase transition: the step at which the model adapts to the rewarded format.

Tina (https://arxiv.org/abs/2504.15777) sees an abrupt change of the format reward and of the completion
length, and its best checkpoints around it. Here a change in the mean of these signals is looked for after
each step, by PELT (Killick, Fearnhead and Eckley 2012, https://doi.org/10.1080/01621459.2012.737745). The
library for that, ruptures, imports scipy's statistics: 26 MiB and half a second of every training, and its
pruning misses the best segments now and then. The tests compare the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SIGNALS = ("rewards/format", "rewards/tag_count", "completion_length")
SEGMENT = 5  # steps that a level has to last, before the change and after it
PENALTY = 6.0  # a change has to explain so many times the noise's variance x log(steps), for each signal
EFFECT = 0.2  # and move a signal by this share of its scale: 1 for a reward, the length before for a length


def transition(metrics: Sequence[Mapping[str, Any]]) -> int | None:
    """The first step of the new level after the first abrupt change; None where there is none so far.

    The noise of a signal is estimated from its step-to-step differences (their median size), to which neither
    a slow drift nor a change of level adds much.
    """
    if len(metrics) < 2 * SEGMENT:
        return None
    signals, scales = [], []
    for name in SIGNALS:
        values = [m.get(name) for m in metrics]
        if all(v is not None for v in values):
            series = np.asarray(values, dtype=float)
            noise = np.median(np.abs(np.diff(series))) / (0.6745 * 2**0.5)
            scale = float(np.mean(series[:SEGMENT])) if name == "completion_length" else 1.0
            signals.append(series / max(noise, 0.02 * scale, 1e-9))
            scales.append(scale / max(noise, 0.02 * scale, 1e-9))
    if not signals:
        return None
    data = np.stack(signals, axis=1)
    ends = pelt(data, PENALTY * data.shape[1] * np.log(len(data)))
    for before, place, end in zip([0, *ends], ends[:-1], ends[1:], strict=False):
        if min(place - before, end - place) < SEGMENT:
            continue
        moved = np.abs(data[place:end].mean(0) - data[before:place].mean(0))
        if (moved >= EFFECT * np.asarray(scales)).any():
            return int(metrics[place]["step"])
    return None


def pelt(data: np.ndarray[Any, np.dtype[np.float64]], penalty: float) -> list[int]:
    """The ends of the segments, of 2 rows or more, that cost least: squared distances to the segment's mean.

    data: (steps, signals). Each segment costs `penalty` besides. The best is found exactly; a start that can
    no longer be the last one of a best segmentation is dropped (Killick et al. 2012, theorem 3.1).
    """
    count = len(data)
    sums = np.vstack([np.zeros(data.shape[1]), np.cumsum(data, 0)])
    squares = np.concatenate([[0.0], np.cumsum((data**2).sum(1))])
    best, last = np.full(count + 1, np.inf), np.zeros(count + 1, int)
    best[0] = 0.0
    starts, beaten = np.array([0]), np.array([False])
    for end in range(2, count + 1):
        spread = ((sums[end] - sums[starts]) ** 2).sum(1) / (end - starts)
        costs = best[starts] + squares[end] - squares[starts] - spread
        chosen = int(costs.argmin())
        best[end], last[end] = costs[chosen] + penalty, starts[chosen]
        # A segment has two rows: what `end` beats may still be a start for end + 1, not for those after it.
        starts, beaten = (
            np.append(starts[~beaten], end - 1),
            np.append(costs[~beaten] > best[end], False),
        )
    ends = [count]
    while last[ends[-1]]:
        ends.append(int(last[ends[-1]]))
    return ends[::-1]
