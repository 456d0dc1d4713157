"""Which golds cannot be graded against, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib import metadata

from tina_harness.data import cache
from tina_harness.grading import rules


def unusable(golds: Iterable[str], kind: str = "math") -> dict[str, str]:
    """gold -> why it cannot be used, for those that cannot.

    A gold is usable where the grader finds it correct against itself. What our own rules read is;
    the others go to math-verify, once: the verdicts are cached for a version of it.
    """
    waiting = [g for g in dict.fromkeys(golds) if kind != "choice" and rules.read(g) is None]
    if not waiting:
        return {}
    versions = metadata.version("math-verify"), metadata.version("tina-harness")
    key = "golds-" + "-".join(versions)
    known: dict[str, str] = cache.read(key) or {}
    if new := [g for g in waiting if _digest(g) not in known]:
        from tina_harness.grading import Grader, Item

        with Grader() as grader:
            verdicts = grader.grade(
                Item(g, f"\\boxed{{{g}}}" if _balanced(g) else g, policy="bare") for g in new
            )
            grader.check()
        for gold, verdict in zip(new, verdicts, strict=True):
            if verdict.outcome != "error":
                known[_digest(gold)] = "" if verdict.correct else _reason(verdict.outcome, verdict.rule)
        cache.write(key, known)
    return {g: reason for g in waiting if (reason := known.get(_digest(g), ""))}


def _reason(outcome: str, rule: str) -> str:
    cause = rule.rpartition("; ")[2]
    return {
        "bad_gold": f"the gold cannot be read: {cause}",
        "no_answer": "the gold says nothing that can be graded",
        "timeout": "the gold takes too long to compare",
    }.get(outcome, f"the gold does not equal itself: {cause}")


def _balanced(text: str) -> bool:
    depth = 0
    for char in text.replace("\\{", "").replace("\\}", ""):
        depth += (char == "{") - (char == "}")
        if depth < 0:
            return False
    return depth == 0


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
