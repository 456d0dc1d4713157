"""length: short right answers over long ones, within the samples of a call (Kimi k1.5).

lambda = 0.5 - (len - min_len) / (max_len - min_len); a right answer gets lambda, a wrong one
min(0, lambda). Where all have one length, everything gets 0. Lengths are in tokens where they are
known, else in characters. The minimum and maximum run over the completions of the same prompt.

>>> from types import SimpleNamespace as V
>>> right = RewardContext(grade=lambda c, g: [V(correct=True)] * len(c))
>>> build()(["a", "aaa"], ["2", "2"], right)
[0.5, -0.5]

Source: Kimi k1.5, https://arxiv.org/abs/2501.12599, sec. 2.3.3.
"""

from collections.abc import Sequence

from tina_harness import Reward, RewardContext, hookimpl


def build():
    """No parameters."""

    def length(
        completions: Sequence[str], golds: Sequence[str], context: RewardContext
    ) -> list[float | None]:
        sizes = context.tokens or [len(c) for c in completions]
        prompts = context.prompts or [""] * len(completions)
        groups: dict[str, list[int]] = {}
        for prompt, size in zip(prompts, sizes, strict=True):
            groups.setdefault(prompt, []).append(size)
        rewards: list[float | None] = []
        verdicts = context.grade(completions, golds)
        for verdict, size, prompt in zip(verdicts, sizes, prompts, strict=True):
            shortest, longest = min(groups[prompt]), max(groups[prompt])
            if verdict.correct is None:
                rewards.append(None)
            elif shortest == longest:
                rewards.append(0.0)
            else:
                share = 0.5 - (size - shortest) / (longest - shortest)
                rewards.append(share if verdict.correct else min(0.0, share))
        return rewards

    return length


@hookimpl
def tina_rewards():
    yield Reward(
        name="length",
        summary="shorter right answers of a group over longer ones (Kimi k1.5)",
        source="Kimi k1.5, https://arxiv.org/abs/2501.12599, sec. 2.3.3",
        build=build,
        low=-0.5,
        high=0.5,
    )
