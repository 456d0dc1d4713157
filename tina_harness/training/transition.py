"""The phase transition: the step at which the model adapts to the rewarded format.

Tina (https://arxiv.org/abs/2504.15777) sees an abrupt change of the format reward and of the completion
length, and its best checkpoints around it. Here a change in the mean of these signals is looked for after
each step, by PELT (Killick, Fearnhead and Eckley 2012, https://doi.org/10.1080/01621459.2012.737745).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ruptures

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
    search = ruptures.KernelCPD(kernel="linear", min_size=2).fit(data)  # PELT with a change in the mean, in C
    ends = search.predict(pen=PENALTY * data.shape[1] * np.log(len(data)))
    for before, place, end in zip([0, *ends], ends[:-1], ends[1:], strict=False):
        if min(place - before, end - place) < SEGMENT:
            continue
        moved = np.abs(data[place:end].mean(0) - data[before:place].mean(0))
        if (moved >= EFFECT * np.asarray(scales)).any():
            return int(metrics[place]["step"])
    return None
