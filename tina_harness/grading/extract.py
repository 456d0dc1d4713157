r"""Which part of a completion is its answer.

The policy: the answer is the last `\boxed{}` of the final answer, which is what follows `</think>`
where thinking was opened. Without a box, the content of `<answer>..</answer>` counts. What is only
said while thinking is no answer, and neither is a box that is left open or empty.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Patterns are compiled when first used: a plugin that imports this module may only be listed.
_BOX = r"\\(?:boxed|fbox)\s*\{"
_ANSWER = r"(?s)<answer>(.*?)</answer>"
_LETTER = r"(?i)answer\s*(?:is)?\s*:?\s*\**\s*\$?\(?\s*(?:\\boxed\{|\\text\{)*\s*([A-Z])\b"


class Extracted(NamedTuple):
    """text: the answer, None where there is none. rule: what decided, in words."""

    text: str | None
    rule: str


def extract(completion: str, kind: str = "math") -> Extracted:
    """The answer of a completion. kind "choice" also reads a last line such as "Answer: C"."""
    final, opened = final_region(completion)
    if final is None:
        return Extracted(None, "the thinking was never closed")
    boxes = boxed(final)
    filled = [b for b in boxes if _has_content(b)]
    if filled:
        return Extracted(filled[-1].strip(), "last \\boxed{} of the final answer")
    if boxes:
        return Extracted(None, "the \\boxed{} is empty")
    if kind == "choice" and (letters := re.findall(_LETTER, final)):
        return Extracted(letters[-1].upper(), "last 'Answer: LETTER'")
    tagged = [t for t in re.findall(_ANSWER, final) if _has_content(t)]
    if tagged:
        return Extracted(tagged[-1].strip(), "content of <answer>")
    return Extracted(None, "no answer after </think>" if opened else "no \\boxed{} and no <answer>")


def final_region(completion: str) -> tuple[str | None, bool]:
    """(what follows the thinking, whether there was any); None where it was never closed."""
    _, closed, after = completion.rpartition("</think>")
    if closed:
        return after, True
    if "<think>" in completion:
        return None, True
    return completion, False


def boxed(text: str) -> list[str]:
    r"""The content of every `\boxed{}` that is closed, in order; of nested ones the innermost."""
    found: list[str] = []
    position = 0
    box = re.compile(_BOX)
    while match := box.search(text, position):
        end = closing_brace(text, match.end())
        if end < 0:
            break
        inner = text[match.end() : end]
        found += boxed(inner) or [inner] if "\\boxed" in inner else [inner]
        position = end + 1
    return found


def closing_brace(text: str, start: int) -> int:
    """The index of the brace that closes the one just before `start`, or -1. One pass."""
    depth = 1
    index = start
    while index < len(text):
        char = text[index]
        if char == "\\":
            index += 1
        elif char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                return index
        index += 1
    return -1


def _has_content(text: str) -> bool:
    return any(c.isalnum() for c in text) or any(c in "∞∅%" for c in text) or "\\" in text
