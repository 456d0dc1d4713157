r"""accuracy: 1 where the answer is right, 0 where it is wrong or missing.

Source: DeepSeek-R1, https://arxiv.org/abs/2501.12948, sec. 2.2.2 (rule-based accuracy reward).
A gold that cannot be read, or a grader that failed, gives None: such a sample is not counted.
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
