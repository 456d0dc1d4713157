"""reasoning_steps: min(1, n / 3), where n counts marks of a step-by-step solution.

Marks are "Step 1:", a numbered line, a bulleted line, and "First,", "Next,", "Finally," and the like.
Range: 0 to 1.

>>> build()(["First, add. Next, carry. Finally, write."], ["2"], RewardContext(grade=lambda c, g: []))
[1.0]

Source: Open-R1, https://github.com/huggingface/open-r1 (reasoning steps reward).
"""

import re
from collections.abc import Sequence

from tina_harness import Reward, RewardContext, hookimpl

_MARKS = r"(?m)\bStep \d+:|^[ \t]*\d+[.)][ \t]|^[ \t]*[-*][ \t]|\b(?:First|Second|Third|Next|Then|Finally),"


def build(steps: int = 3):
    """steps: as many marks as earn the full reward."""
    if steps < 1:
        raise ValueError(f"rewards.reasoning_steps.steps = {steps}: expected 1 or more")

    def reasoning_steps(
        completions: Sequence[str], golds: Sequence[str], context: RewardContext
    ) -> list[float | None]:
        return [min(1.0, len(re.findall(_MARKS, completion)) / steps) for completion in completions]

    return reasoning_steps


@hookimpl
def tina_rewards():
    yield Reward(
        name="reasoning_steps",
        summary="up to 1 for three or more marks of step-by-step work",
        source="Open-R1, https://github.com/huggingface/open-r1",
        build=build,
        defaults={"steps": 3},
    )
