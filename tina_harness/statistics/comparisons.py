"""Whether two scores differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tina_harness.statistics.intervals import RESAMPLES, Interval, resampled


class Comparison(NamedTuple):
    """The paired difference b - a of two mean scores over the same problems.

    p_value: two-sided. problems_needed: how many problems like these would tell a difference of this size
    apart at the 5% level with 80% power; None where the difference is 0. share: whether the scores are
    shares, which are told in percentage points.
    """

    a: float
    b: float
    difference: Interval
    p_value: float
    problems: int
    problems_needed: int | None
    share: bool = True

    @property
    def verdict(self) -> str:
        """In words."""
        mean = self.difference.mean
        points = f"{100 * mean:+.1f} points" if self.share else f"{mean:+.4g}"
        if self.p_value < 0.05:
            better = "B is better" if self.difference.mean > 0 else "A is better"
            return f"{better}: {points} on these {self.problems} problems, p = {self.p_value:.3g}"
        told = f"the data cannot tell them apart: {points}, p = {self.p_value:.3g}"
        if self.problems_needed is None:
            return told
        return f"{told}; a difference of this size takes about {self.problems_needed} such problems to show"


def compare(
    a: Mapping[str, float],
    b: Mapping[str, float],
    resamples: int = RESAMPLES,
    seed: int = 0,
    share: bool = True,
) -> Comparison:
    """Compare two scores problem by problem (problem id -> mean score of its samples).

    share: whether the scores are within [0, 1]; with one problem in common, others have no interval.

    Interval: paired bootstrap over the problems both have (Efron and Tibshirani 1993, ch. 16). p-value:
    sign-flip permutation test of the paired differences (Good 2005, ch. 3; exact up to 2^12 flips), with
    the observed difference counted among the permutations, so that it is never 0 (Phipson and Smyth
    2010). Problems needed: normal approximation, (1.96 + 0.84)^2 var / difference^2 (Miller 2024,
    arXiv:2411.00640, sec. 4). Raises ValueError where they share no problem.
    """
    import itertools

    import numpy as np

    shared = sorted(a.keys() & b.keys())
    if not shared:
        raise ValueError("no problem in common")
    first = np.array([a[p] for p in shared])
    second = np.array([b[p] for p in shared])
    differences = second - first
    mean = float(differences.mean())
    if len(shared) == 1:
        interval = Interval(mean, -1.0, 1.0) if share else Interval(mean, None, None)
    else:
        low, high = np.percentile(resampled(differences, resamples, seed), [2.5, 97.5])
        interval = Interval(mean, float(low), float(high))
    moved = differences[differences != 0]
    if moved.size <= 12:
        flips = np.array(list(itertools.product((1.0, -1.0), repeat=moved.size)), dtype=np.float64)
        extreme = np.abs(flips @ moved) >= abs(moved.sum()) - 1e-12
        p_value = float(extreme.mean())
    else:
        random = np.random.default_rng(seed)
        sums = random.choice((1.0, -1.0), size=(resamples, moved.size)) @ moved
        p_value = float((1 + (np.abs(sums) >= abs(moved.sum()) - 1e-12).sum()) / (1 + resamples))
    needed = None
    if mean != 0 and len(shared) > 1:
        needed = max(2, round((1.959964 + 0.841621) ** 2 * float(differences.var(ddof=1)) / mean**2))
    return Comparison(
        float(first.mean()), float(second.mean()), interval, p_value, len(shared), needed, share
    )
