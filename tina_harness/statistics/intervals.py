"""How sure a score is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

RESAMPLES = 10_000


class Interval(NamedTuple):
    """A mean and the ends of its 95% interval; None for both where one number tells nothing of them."""

    mean: float
    low: float | None
    high: float | None


def bootstrap_mean(
    per_problem: Sequence[float], resamples: int = RESAMPLES, seed: int = 0, share: bool = True
) -> Interval:
    """Mean over problems with a 95% percentile interval, bootstrap clustered on problems.

    per_problem: the mean score of each problem's samples, shape (problems,). Samples of one problem
    are not independent, so whole problems are drawn (Cameron, Gelbach and Miller 2008, sec. 2;
    Efron and Tibshirani 1993, ch. 13). Where every problem scores 0, or every one 1, resampling shows
    no spread; the exact binomial interval over problems is given then (Clopper and Pearson 1934).
    With one problem the interval is the whole range [0, 1].
    share: False for scores that are not within [0, 1]: their interval is the percentile one whatever they
    are, and with one problem there is none.
    """
    import numpy as np

    values = np.asarray(per_problem, dtype=np.float64)
    if values.size == 0:
        raise ValueError("no problems to average over")
    if values.size == 1:
        return Interval(float(values[0]), 0.0, 1.0) if share else Interval(float(values[0]), None, None)
    if share and values.min() == values.max() and values[0] in (0.0, 1.0):
        unseen = 1 - 0.025 ** (1 / values.size)
        return Interval(0.0, 0.0, unseen) if values[0] == 0 else Interval(1.0, 1 - unseen, 1.0)
    low, high = np.percentile(resampled(values, resamples, seed), [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def resampled(values: Any, resamples: int, seed: int) -> Any:
    """Means of `values` over problems drawn with replacement, shape (resamples,)."""
    import numpy as np

    random = np.random.default_rng(seed)
    means = [
        values[random.integers(0, values.size, size=(min(1000, resamples - done), values.size))].mean(axis=1)
        for done in range(0, resamples, 1000)
    ]
    return np.concatenate(means)
