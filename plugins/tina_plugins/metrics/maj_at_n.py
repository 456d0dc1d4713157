"""maj@n: how often the most frequent answer of a problem's n samples is right (self-consistency).

Answers that say the same by the grader's own rules (`1/2`, `0.5`) are one; among equally frequent ones the
share of right ones counts. Scores without answers have no maj@n.

>>> right, wrong = Score(1.0, "correct", "2"), Score(0.0, "incorrect", "3")
>>> reduce({"a": [right, right, wrong], "b": [wrong, wrong, right]})["maj@3"].value
0.5
"""

from collections.abc import Mapping, Sequence

from tina_harness import Estimate, Metric, Score, hookimpl


def reduce(scores: Mapping[str, Sequence[Score]]) -> Mapping[str, Estimate]:
    """Problem id -> the scores of its samples, to the share of problems whose majority is right."""
    from tina_harness.grading import rules
    from tina_harness.statistics import estimate, majority

    samples = max(map(len, scores.values()), default=0)
    everything = [s for found in scores.values() for s in found]
    if (
        samples < 2
        or all(s.answer is None for s in everything)
        or any(s.value not in (None, 0.0, 1.0) for s in everything)
    ):
        return {}
    votes = [
        majority(
            [s.answer for s in found],
            [None if s.value is None else s.value == 1.0 for s in found],
            lambda a, b: rules.compare(a, b).same,
        )
        for found in scores.values()
    ]
    return {f"maj@{samples}": estimate([v for v in votes if v is not None])}


@hookimpl
def tina_estimators():
    yield Metric(
        name="maj@n",
        summary="how often the most frequent answer is right",
        source="Self-Consistency, https://arxiv.org/abs/2203.11171",
        reduce=reduce,
    )
