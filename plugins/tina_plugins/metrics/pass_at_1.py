"""pass@1: the mean score of a problem's samples, averaged over problems.

For right or wrong answers it is the probability that one sample is right. Samples that do not count (a gold
that cannot be read) are left out; so is a problem without any that does.

>>> found = reduce({"a": [Score(1.0, "correct"), Score(0.0, "incorrect")], "b": [Score(1.0, "correct")]})
>>> found["pass@1"].value, found["pass@1"].n
(0.75, 2)
"""

from collections.abc import Mapping, Sequence

from tina_harness import Estimate, Metric, Score, hookimpl


def reduce(scores: Mapping[str, Sequence[Score]]) -> Mapping[str, Estimate]:
    """Problem id -> the scores of its samples, to the mean with its interval."""
    from tina_harness.statistics import counted, estimate, unit_of

    values = counted(scores)
    return {"pass@1": estimate([sum(v) / len(v) for v in values.values()], unit_of(values))}


@hookimpl
def tina_estimators():
    yield Metric(
        name="pass@1",
        summary="mean score of a problem's samples, averaged over problems",
        source="Evaluating Large Language Models Trained on Code, https://arxiv.org/abs/2107.03374, sec. 2.1",
        reduce=reduce,
    )
