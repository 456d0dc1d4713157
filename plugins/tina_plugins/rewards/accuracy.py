r"""accuracy: 1 where the answer is right, 0 where it is wrong or missing.

Range: 0 or 1. A gold that cannot be read, or a grader that failed, gives None: such a sample is not
counted. What counts as an answer is the grader's policy (docs/grading.md).

>>> from types import SimpleNamespace as V
>>> verdicts = [V(correct=True), V(correct=False), V(correct=None)]
>>> build()(["", "", ""], ["2"] * 3, RewardContext(grade=lambda c, g: verdicts))
[1.0, 0.0, None]

Source: DeepSeek-R1, https://arxiv.org/abs/2501.12948, sec. 2.2.2 (rule-based accuracy reward).
"""

from collections.abc import Sequence

from tina_harness import Reward, RewardContext, hookimpl


def build():
    """No parameters."""

    def accuracy(
        completions: Sequence[str], golds: Sequence[str], context: RewardContext
    ) -> list[float | None]:
        verdicts = context.grade(completions, golds)
        return [None if v.correct is None else float(v.correct) for v in verdicts]

    return accuracy


@hookimpl
def tina_rewards():
    yield Reward(
        name="accuracy",
        summary="1 where the extracted answer equals the gold, else 0",
        source="DeepSeek-R1, https://arxiv.org/abs/2501.12948",
        build=build,
    )
