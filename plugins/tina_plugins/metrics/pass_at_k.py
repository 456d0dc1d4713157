"""pass@k: the probability that at least one of k samples is right, for k = 2, 4, 8, ... up to the samples.

Unbiased, from n samples of a problem of which c are right: 1 - C(n - c, k) / C(n, k) (Chen et al. 2021,
eq. 1).
A sample is right where its score is 1. Scores other than 0 and 1 have no pass@k.

>>> right, wrong = Score(1.0, "correct"), Score(0.0, "incorrect")
>>> found = reduce({"a": [right, wrong], "b": [wrong, wrong]})
>>> {name: estimate.value for name, estimate in found.items()}
{'pass@2': 0.5}
"""

from collections.abc import Mapping, Sequence

from tina_harness import Estimate, Metric, Score, hookimpl


def reduce(scores: Mapping[str, Sequence[Score]]) -> Mapping[str, Estimate]:
    """Problem id -> the scores of its samples, to one estimate a k; none with one sample a problem."""
    from tina_harness.statistics import counted, estimate, pass_at_k

    values = list(counted(scores).values())
    if not all(v in (0.0, 1.0) for found in values for v in found):
        return {}
    found: dict[str, Estimate] = {}
    k = 2
    while k <= min(map(len, values), default=0):
        found[f"pass@{k}"] = estimate([pass_at_k(len(v), int(sum(v)), k) for v in values])
        k *= 2
    return found


@hookimpl
def tina_estimators():
    yield Metric(
        name="pass@k",
        summary="probability that one of k samples is right, for k = 2, 4, 8, ...",
        source="Evaluating Large Language Models Trained on Code, https://arxiv.org/abs/2107.03374, eq. 1",
        reduce=reduce,
    )
