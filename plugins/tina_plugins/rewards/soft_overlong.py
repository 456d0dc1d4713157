r"""soft_overlong: a penalty that grows over the last tokens before the length limit (DAPO).

    0                                    len <= max_len - cache
    ((max_len - cache) - len) / cache    max_len - cache < len <= max_len
    -1                                   max_len < len

Range: -1 to 0. Lengths are in tokens where they are known, else in characters. A completion that was
cut at max_len gets -1: it has max_len tokens.

>>> context = RewardContext(grade=lambda c, g: [], tokens=[800, 900, 1000, 1001])
>>> build(max_len=1000, cache=200)(["", "", "", ""], ["2"] * 4, context)
[0.0, -0.5, -1.0, -1.0]

Source: DAPO, https://arxiv.org/abs/2503.14476, eq. 13 (soft overlong punishment; 16,384 + 4,096 there).
"""

from collections.abc import Sequence

from tina_harness import Reward, RewardContext, hookimpl


def build(max_len: int = 0, cache: int = 0):
    """max_len: in tokens; 0 takes the longest completion of the run. cache: 0 takes a fifth of it."""
    if max_len < 0:
        raise ValueError(f"rewards.soft_overlong.max_len = {max_len}: expected 0 or more")
    if cache < 0 or (max_len and cache >= max_len):
        raise ValueError(f"rewards.soft_overlong.cache = {cache}: expected 0 or more, and less than max_len")

    def soft_overlong(
        completions: Sequence[str], golds: Sequence[str], context: RewardContext
    ) -> list[float | None]:
        full = max_len or context.max_completion_tokens or 1
        soft = min(cache or max(1, full // 5), full)
        sizes = context.tokens or [len(c) for c in completions]
        return [max(-1.0, min(0.0, (full - soft - size) / soft)) for size in sizes]

    return soft_overlong


@hookimpl
def tina_rewards():
    yield Reward(
        name="soft_overlong",
        summary="from 0 to -1 over the last fifth before the length limit (DAPO)",
        source="DAPO, https://arxiv.org/abs/2503.14476, eq. 13",
        build=build,
        defaults={"max_len": 0, "cache": 0},
        low=-1.0,
        high=0.0,
    )
