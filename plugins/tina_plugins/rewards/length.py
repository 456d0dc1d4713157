"""length: short right answers over long ones, within the samples of a call (Kimi k1.5).

lambda = 0.5 - (len - min_len) / (max_len - min_len); a right answer gets lambda, a wrong one
min(0, lambda). Where all have one length, everything gets 0. Lengths are in tokens where they are
known, else in characters. The minimum and maximum run over the completions of the same prompt that have
a verdict; the others get None. Range: -0.5 to 0.5.

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
        right = [v.correct for v in context.grade(completions, golds)]
        groups: dict[str, list[int]] = {}
        for prompt, size, verdict in zip(prompts, sizes, right, strict=True):
            if verdict is not None:
                groups.setdefault(prompt, []).append(size)

        def reward(prompt: str, size: int, verdict: bool | None) -> float | None:
            if verdict is None:
                return None
            shortest, longest = min(groups[prompt]), max(groups[prompt])
            if shortest == longest:
                return 0.0
            share = 0.5 - (size - shortest) / (longest - shortest)
            return share if verdict else min(0.0, share)

        return [reward(*sample) for sample in zip(prompts, sizes, right, strict=True)]

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
