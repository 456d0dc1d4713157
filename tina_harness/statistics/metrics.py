"""From the scores of problems to estimates, and what the built-in metrics are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from tina_harness.specs import Estimate, Score
from tina_harness.statistics.intervals import bootstrap_mean


def estimate(per_problem: Sequence[float], unit: str = "share") -> Estimate:
    """The mean over problems with its 95% interval (`bootstrap_mean`).

    per_problem: one value a problem. unit: "share" (within [0, 1]), or what the values count, such as
    "tokens". Without values the estimate has none either, and n = 0.
    """
    if not per_problem:
        return Estimate(None, None, None, 0, unit)
    mean, low, high = bootstrap_mean(per_problem, share=unit == "share")
    return Estimate(mean, low, high, len(per_problem), unit)


def counted(scores: Mapping[str, Sequence[Score]]) -> dict[str, list[float]]:
    """Problem -> the values of its samples that count, for the problems that have any."""
    values = {p: [s.value for s in samples if s.value is not None] for p, samples in scores.items()}
    return {problem: found for problem, found in values.items() if found}


def unit_of(values: Mapping[str, Sequence[float]]) -> str:
    """ "share" where all values are within [0, 1], else "number"."""
    return "share" if all(0 <= v <= 1 for found in values.values() for v in found) else "number"


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
