"""cosine: a reward that falls with length along half a cosine, for right and wrong answers apart.

value(len) = to + (from - to) (1 + cos(pi len / max_len)) / 2, where `from` is the value at length 0
and `to` the one at max_len: right from max_right to min_right, wrong from min_wrong to max_wrong.
Lengths are in tokens where they are known, else in characters, and are cut at max_len. Range: from the
smallest to the largest of the four values, -0.5 to 1 by default; None where there is no verdict.

>>> from types import SimpleNamespace as V
>>> right = RewardContext(grade=lambda c, g: [V(correct=True)] * len(c), tokens=[0, 500, 1000])
>>> build(max_len=1000)(["", "", ""], ["2"] * 3, right)
[1.0, 0.75, 0.5]

Source: Demystifying Long Chain-of-Thought Reasoning in LLMs, https://arxiv.org/abs/2502.03373, sec. 4.2;
values as in Open-RS and Tina.
"""

import math
from collections.abc import Sequence

from tina_harness import Reward, RewardContext, hookimpl


def build(
    max_len: int = 0,
    min_right: float = 0.5,
    max_right: float = 1.0,
    min_wrong: float = -0.5,
    max_wrong: float = 0.0,
):
    """max_len: full length in tokens; 0 takes the longest completion that the run allows.

    min_right, max_right, min_wrong, max_wrong: the values at the ends of the two curves.
    """
    values = {"min_right": min_right, "max_right": max_right, "min_wrong": min_wrong, "max_wrong": max_wrong}
    for name, value in {"max_len": max_len, **values}.items():
        if not math.isfinite(value) or (name == "max_len" and value < 0):
            expected = "0 or more" if name == "max_len" else "a finite number"
            raise ValueError(f"rewards.cosine.{name} = {value}: expected {expected}")
    for low, high in (("min_right", "max_right"), ("min_wrong", "max_wrong")):
        if values[low] > values[high]:
            raise ValueError(
                f"rewards.cosine.{low} = {values[low]}: expected at most {high} ({values[high]})"
            )

    def cosine(
        completions: Sequence[str], golds: Sequence[str], context: RewardContext
    ) -> list[float | None]:
        full = max_len or context.max_completion_tokens or 1
        sizes = context.tokens or [len(c) for c in completions]
        rewards: list[float | None] = []
        for verdict, size in zip(context.grade(completions, golds), sizes, strict=True):
            if verdict.correct is None:
                rewards.append(None)
                continue
            start, end = (max_right, min_right) if verdict.correct else (min_wrong, max_wrong)
            bend = (1 + math.cos(math.pi * min(size, full) / full)) / 2
            rewards.append(end + (start - end) * bend)
        return rewards

    return cosine


def bounds(**parameters: float) -> tuple[float, float]:
    """From the smallest to the largest of the four values."""
    values = [value for name, value in parameters.items() if name != "max_len"]
    return min(values), max(values)


@hookimpl
def tina_rewards():
    yield Reward(
        name="cosine",
        summary="right: 1 when short to 0.5 at full length; wrong: -0.5 when short to 0",
        source="Demystifying Long Chain-of-Thought, https://arxiv.org/abs/2502.03373",
        build=build,
        defaults={"max_len": 0, "min_right": 0.5, "max_right": 1.0, "min_wrong": -0.5, "max_wrong": 0.0},
        low=-0.5,
        bounds=bounds,
    )
