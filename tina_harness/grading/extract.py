r"""Which part of a completion is its answer: the policy against reward hacking.

The policy `tina`: the answer is the `\boxed{}` of the final answer, which is what follows `</think>`
where thinking was opened. Without a box, the content of `<answer>..</answer>` counts. What is only
said while thinking is no answer; neither is a box that is left open, is empty, or holds the prompt's
own placeholder; nor is the prompt, said again. Several boxes have to agree: a completion that boxes
204 and then 205 has no right answer, unless the gold itself lists both.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from tina_harness.errors import TinaError, did_you_mean


class Policy(NamedTuple):
    r"""How an answer is found and compared.

    final_only: look only at what follows `</think>`; thinking that was never closed has no answer.
    several: "agree": every box (or, without boxes, every <answer>) has to be right; "last": the last counts.
    tags: `<answer>` counts where there is no box.
    bare: a short text without box, <answer> or sentences is an answer as a whole.
    peer: "" for this package's rules; else the whole completion goes to math-verify, set up as the
        named peer sets it up, and nothing else decides.
    """

    final_only: bool = True
    several: Literal["agree", "last"] = "agree"
    tags: bool = True
    bare: bool = False
    peer: Literal["", "math-verify", "trl"] = ""


POLICIES = {
    "tina": Policy(),
    "bare": Policy(bare=True),
    "last-box": Policy(final_only=False, several="last", tags=False),
    "math-verify": Policy(peer="math-verify"),
    "trl": Policy(peer="trl"),
}


def policy_named(name: str) -> Policy:
    """A policy by name. Raises TinaError with the nearest name."""
    if name not in POLICIES:
        raise TinaError(f"there is no grading policy '{name}'", did_you_mean(name, POLICIES))
    return POLICIES[name]


class Extracted(NamedTuple):
    """texts: the answers that have to agree, () where there is none. rule: what decided, in words."""

    texts: tuple[str, ...]
    rule: str

    @property
    def text(self) -> str | None:
        """The last answer, None where there is none."""
        return self.texts[-1] if self.texts else None


# A bare answer has at most this many characters and words; what is longer is a completion.
BARE_LENGTH, BARE_WORDS = 2000, 10

# Patterns are compiled when first used: a plugin that imports this module may only be listed.
_BOX = r"\\{1,2}(?:boxed|fbox)"
_TOKEN = r"(?s)\\{1,2}(?:boxed|fbox)\s*\{|\\.|[{}]"
_LETTER = r"(?i)\banswer\b(?:\s{1,5}is)?[\s:*$(]{0,12}(?:\\(?:boxed|text)\{){0,2}\s{0,3}([A-Z])\b"
_BLANK = r"\\(?:[hv]?phantom|[hv]space\*?)\s*\{[^{}]*\}|\\(?:q?quad|text|mathrm|mbox)\b"
_PLACEHOLDERS = frozenset({"answer", "your answer", "final answer", "your final answer", "...", "\\ldots"})


def extract(
    completion: str, kind: str = "math", policy: Policy = POLICIES["tina"], prompt: str = ""
) -> Extracted:
    """The answer of a completion.

    kind: "choice" also reads a last line such as "Answer: C". prompt: where it is given, its text
    does not count when a completion repeats it.
    """
    if len(prompt) > 20:
        completion = completion.replace(prompt, " ")
    final, opened = final_region(completion) if policy.final_only else (completion, False)
    if final is None:
        return Extracted((), "the thinking was never closed")
    boxes = boxed(final)
    if filled := _distinct(boxes):
        return _settled(filled, policy, "\\boxed{} of the final answer")
    if boxes:
        return Extracted((), "the \\boxed{} is empty, or holds the prompt's placeholder")
    if kind == "choice" and (letters := re.findall(_LETTER, final)):
        return Extracted((letters[-1].upper(),), "last 'Answer: LETTER'")
    if policy.tags and (tagged := _distinct(_between(final, "<answer>", "</answer>"))):
        return _settled(tagged, policy, "content of <answer>")
    if policy.bare and _is_bare(final):
        return Extracted((final.strip(),), "the whole text")
    return Extracted((), "no answer after </think>" if opened else "no \\boxed{} and no <answer>")


def final_region(completion: str) -> tuple[str | None, bool]:
    """(what follows the thinking, whether there was any); None where it was never closed."""
    _, closed, after = completion.rpartition("</think>")
    if "<think>" in after:
        return None, True
    return (after, True) if closed else (completion, False)


def boxed(text: str) -> list[str]:
    r"""The content of every `\boxed{}` that is closed, in order; of nested ones the innermost. One pass."""
    found: list[str] = []
    # of each open brace: where the content of its box begins (-1: no box), and how many were found before
    open_braces: list[tuple[int, int]] = []
    first = re.search(_BOX, text)  # braces before it do not matter
    for match in re.compile(_TOKEN).finditer(text, first.start() if first else len(text)):
        token = match.group()
        if token == "}":
            if open_braces:
                start, before = open_braces.pop()
                if start >= 0 and len(found) == before:
                    found.append(text[start : match.start()])
        elif token == "{":
            open_braces.append((-1, len(found)))
        elif token[-1] == "{" and len(token) > 2:
            open_braces.append((match.end(), len(found)))
    return found


def closing_brace(text: str, start: int) -> int:
    """The index of the brace that closes the one just before `start`, or -1. One pass."""
    depth = 1
    for match in re.finditer(r"(?s)\\.|[{}]", text[start:]):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth == 0:
            return start + match.start()
    return -1


def has_content(text: str) -> bool:
    r"""Whether an answer says anything: `\phantom{2}`, spaces and the prompt's placeholder do not."""
    text = re.sub(_BLANK, "", text)
    if text.strip(" ${}*").lower() in _PLACEHOLDERS:
        return False
    return any(c.isalnum() for c in text) or any(c in "∞∅%" for c in text)


def _is_bare(text: str) -> bool:
    if len(text) > BARE_LENGTH or "\\boxed" in text or not has_content(text):
        return False
    return len(re.findall(r"(?<![\\a-zA-Z])[a-zA-Z]{3,}", text)) <= BARE_WORDS


def _distinct(texts: list[str]) -> list[str]:
    """Those with content, each once, in the order in which each was said last."""
    found: dict[str, str] = {}
    for text in texts:
        if has_content(text):
            key = re.sub(r"\s+", "", text)
            found.pop(key, None)
            found[key] = text.strip()
    return list(found.values())


def _settled(texts: list[str], policy: Policy, where: str) -> Extracted:
    if len(texts) == 1 or policy.several == "last":
        return Extracted((texts[-1],), f"last {where}" if where.startswith("\\") else where)
    return Extracted(tuple(texts), f"{len(texts)} different answers in the {where}")


def _between(text: str, opening: str, closing: str) -> list[str]:
    """What stands between each opening and the next closing tag."""
    found = []
    for part in text.split(closing)[:-1]:
        _, tag, inner = part.rpartition(opening)
        if tag:
            found.append(inner)
    return found
