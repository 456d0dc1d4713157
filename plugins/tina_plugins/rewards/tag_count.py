"""tag_count: a quarter for each of the four tags that stands exactly once.

>>> build()(["<think>x</think>y"], ["2"], RewardContext(grade=lambda c, g: []))
[0.5]

Range: 0 to 1. The tags of a block that holds nothing count nothing.

Source: Open-R1, https://github.com/huggingface/open-r1 (tag count reward).
"""

from collections.abc import Sequence

from tina_harness import Reward, RewardContext, hookimpl
from tina_harness.grading.extract import has_content

_BLOCKS = (("<think>", "</think>"), ("<answer>", "</answer>"))


def share(completion: str) -> float:
    """Between 0 and 1 in steps of a quarter."""
    score = 0.0
    for opening, closing in _BLOCKS:
        _, opened, rest = completion.partition(opening)
        inner, closed, _ = rest.partition(closing)
        if opened and closed and not has_content(inner):
            continue
        score += 0.25 * (completion.count(opening) == 1) + 0.25 * (completion.count(closing) == 1)
    return score


def build():
    """No parameters."""

    def tag_count(
        completions: Sequence[str], golds: Sequence[str], context: RewardContext
    ) -> list[float | None]:
        return [share(completion) for completion in completions]

    return tag_count


@hookimpl
def tina_rewards():
    yield Reward(
        name="tag_count",
        summary="a quarter for each of <think> </think> <answer> </answer> that stands once",
        source="Open-R1, https://github.com/huggingface/open-r1",
        build=build,
    )
