"""How sure a score is, and whether two scores differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
    low, high = np.percentile(_resampled(values, resamples, seed), [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def _resampled(values: Any, resamples: int, seed: int) -> Any:
    """Means of `values` over problems drawn with replacement, shape (resamples,)."""
    import numpy as np

    random = np.random.default_rng(seed)
    means = [
        values[random.integers(0, values.size, size=(min(1000, resamples - done), values.size))].mean(axis=1)
        for done in range(0, resamples, 1000)
    ]
    return np.concatenate(means)


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Probability that at least one of k samples is right, unbiased (Chen et al. 2021, eq. 1).

    1 - C(n - c, k) / C(n, k) for c right ones of n samples, as a product that does not overflow.
    Raises ValueError unless 0 <= c <= n and 1 <= k <= n.

    >>> pass_at_k(4, 1, 2)
    0.5
    """
    if not (0 <= correct <= samples and 1 <= k <= samples):
        raise ValueError(f"pass@{k} of {correct} right ones in {samples} samples")
    if samples - correct < k:
        return 1.0
    missed = 1.0
    for i in range(samples - correct + 1, samples + 1):
        missed *= 1 - k / i
    return 1 - missed


def majority(
    answers: Sequence[str | None], correct: Sequence[bool | None], same: Callable[[str, str], bool | None]
) -> float | None:
    """maj@n of one problem (self-consistency; Wang et al. 2022, arXiv:2203.11171).

    answers: as extracted, None where there is none, which never wins; same: whether two answers say the
    same. Returns the share of right answers among the most frequent ones, as ties are broken at random;
    0 where no sample has an answer, None where none could be graded.
    """
    if all(c is None for c in correct):
        return None
    groups: list[tuple[str, list[bool]]] = []
    for answer, right in zip(answers, correct, strict=True):
        if answer is None or right is None:
            continue
        for name, votes in groups:
            if name == answer or same(name, answer):
                votes.append(right)
                break
        else:
            groups.append((answer, [right]))
    if not groups:
        return 0.0
    most = max(len(votes) for _, votes in groups)
    winners = [votes for _, votes in groups if len(votes) == most]
    return sum(Counter(votes).most_common(1)[0][0] for votes in winners) / len(winners)


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
        low, high = np.percentile(_resampled(differences, resamples, seed), [2.5, 97.5])
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
