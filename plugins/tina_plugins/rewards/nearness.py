r"""nearness: partial credit for a number that is near the right one, for models that seldom hit it.

    exp(-|x - gold| / scale), x the number in the last \boxed{}

Range: 0 to 1; 1 where the number is the gold, 0 without a number in a box or where the gold is no number. It
gives a gradient where accuracy is 0 for every completion; weigh it below accuracy, or being near is enough.

>>> context = RewardContext(grade=lambda c, g: [])
>>> reward = build(scale=10)
>>> reward([r"it is \boxed{12}", r"\boxed{22}", "12"], ["12"] * 3, context)
[1.0, 0.36787944117144233, 0.0]

Source: made here; on dense and sparse rewards, Andrychowicz et al. 2017, https://arxiv.org/abs/1707.01495.
"""

import math
from collections.abc import Sequence

from tina_harness import Reward, RewardContext, hookimpl
from tina_harness.grading.extract import boxed


def build(scale: float = 10.0):
    """scale: the distance at which 1/e is left."""
    if not scale > 0:
        raise ValueError(f"rewards.nearness.scale = {scale}: expected more than 0")

    def nearness(
        completions: Sequence[str], golds: Sequence[str], context: RewardContext
    ) -> list[float | None]:
        pairs = [
            (_number((boxed(c) or [""])[-1]), _number(g)) for c, g in zip(completions, golds, strict=True)
        ]
        return [0.0 if x is None or y is None else math.exp(-abs(x - y) / scale) for x, y in pairs]

    return nearness


def _number(text: str) -> float | None:
    try:
        value = float(text.strip().strip("$").replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@hookimpl
def tina_rewards():
    yield Reward(
        name="nearness",
        summary="partial credit for a boxed number near the gold",
        source="made here: tina_plugins/rewards/nearness.py",
        build=build,
        defaults={"scale": 10.0},
    )
