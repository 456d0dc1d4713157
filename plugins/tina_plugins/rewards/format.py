r"""format: 1 where a completion keeps to the form asked for, else 0.

strict: the whole completion is `<think>..</think><answer>..</answer>`, each tag once, and thinking,
answer and every `\boxed{}` hold something: empty tags are the first hack a small model finds, and blanks,
punctuation, `\phantom{2}` and the prompt's own `\boxed{ANSWER}` are empty too.
close_think: what the Tina code counts where the chat template opens `<think>` in the prompt: exactly
one closing tag on a line of its own, with text on both sides of it, and no empty box.
box: exactly one `\boxed{}`, with something in it. Range: 0 or 1.

>>> reward = build()
>>> context = RewardContext(grade=lambda c, g: [])
>>> reward(["<think>1+1=2</think><answer>2</answer>", "<think></think><answer>2</answer>"], "22", context)
[1.0, 0.0]

Source: DeepSeek-R1, https://arxiv.org/abs/2501.12948, sec. 2.2.2 (format reward).
"""

import re
from collections.abc import Sequence

from tina_harness import Reward, RewardContext, hookimpl
from tina_harness.grading.extract import boxed, has_content

_STRICT = r"\s*<think>(.+?)</think>\s*<answer>(.+?)</answer>\s*"
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def strict(completion: str) -> bool:
    """Both blocks there once, in order, nothing around them, something in them."""
    if any(completion.count(tag) != 1 for tag in _TAGS):
        return False
    match = re.fullmatch(_STRICT, completion, re.DOTALL)
    return match is not None and all(map(has_content, match.groups())) and filled(match.group(2))


def filled(text: str) -> bool:
    """Whether every box is closed and holds something."""
    boxes = boxed(text)
    return text.count("\\boxed") == len(boxes) and all(map(has_content, boxes))


def close_think(completion: str) -> bool:
    """One `</think>` on its own line, with content before and after."""
    before, tag, after = completion.removeprefix("<think>").partition("\n</think>\n")
    return (
        bool(tag)
        and "</think>" not in before + after
        and all(map(has_content, (before, after)))
        and filled(after)
    )


def box(completion: str) -> bool:
    """Exactly one box, closed and with something in it."""
    return completion.count("\\boxed") == 1 and filled(completion)


VARIANTS = {"strict": strict, "close_think": close_think, "box": box}


def build(variant: str = "strict"):
    """variant: "strict", "close_think" or "box"."""
    if variant not in VARIANTS:
        raise ValueError(f"rewards.format.variant = {variant!r}: expected one of {', '.join(VARIANTS)}")
    check = VARIANTS[variant]

    def format_reward(
        completions: Sequence[str], golds: Sequence[str], context: RewardContext
    ) -> list[float | None]:
        return [float(check(completion)) for completion in completions]

    return format_reward


@hookimpl
def tina_rewards():
    yield Reward(
        name="format",
        summary="1 for <think>..</think><answer>..</answer> with content in both, else 0",
        source="DeepSeek-R1, https://arxiv.org/abs/2501.12948",
        build=build,
        defaults={"variant": "strict"},
    )
