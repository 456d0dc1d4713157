"""repetition_penalty: 0 without repeated n-grams, down to -1 where all are the same.

(1 - distinct / all) * max_penalty over the n-grams of lower-case words; too short texts get 0. Range:
max_penalty to 0.

>>> build()(["a b c a b c"], ["2"], RewardContext(grade=lambda c, g: []))
[-0.25]

Source: Demystifying Long Chain-of-Thought Reasoning in LLMs, https://arxiv.org/abs/2502.03373, app. C.
"""

import math
from collections.abc import Sequence

from tina_harness import Reward, RewardContext, hookimpl


def build(ngram: int = 3, max_penalty: float = -1.0):
    """ngram: words in an n-gram. max_penalty: the worst value, at most 0."""
    if ngram < 1:
        raise ValueError(f"rewards.repetition_penalty.ngram = {ngram}: expected 1 or more")
    if not -math.inf < max_penalty <= 0:
        raise ValueError(f"rewards.repetition_penalty.max_penalty = {max_penalty}: expected at most 0")

    def penalty(completion: str) -> float:
        words = completion.lower().split()
        total = len(words) - ngram + 1
        if total < 1:
            return 0.0
        distinct = len({tuple(words[i : i + ngram]) for i in range(total)})
        return (1 - distinct / total) * max_penalty

    def repetition_penalty(
        completions: Sequence[str], golds: Sequence[str], context: RewardContext
    ) -> list[float | None]:
        return [penalty(completion) for completion in completions]

    return repetition_penalty


@hookimpl
def tina_rewards():
    yield Reward(
        name="repetition_penalty",
        summary="from 0 down to -1 as more of the word 3-grams are repeated",
        source="Demystifying Long Chain-of-Thought, https://arxiv.org/abs/2502.03373",
        build=build,
        defaults={"ngram": 3, "max_penalty": -1.0},
        low=-1.0,
        high=0.0,
        bounds=lambda ngram, max_penalty: (max_penalty, 0.0),
    )
