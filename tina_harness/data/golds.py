"""Which golds cannot be graded against, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from itertools import combinations

from tina_harness.data import cache
from tina_harness.grading import rules


def unusable(golds: Iterable[str], kind: str = "math") -> dict[str, str]:
    """gold -> why it cannot be used, for those that cannot.

    A gold is usable where the grader finds it correct against itself. What our own rules find so is;
    the others go to math-verify, once: the verdicts are cached for a version of it.
    """
    waiting = [g for g in dict.fromkeys(golds) if not _equals_itself(g, kind)]
    if not waiting:
        return {}
    verdicts = _graded("golds", [(g, g) for g in waiting], kind, _reason)
    return {g: reason for g in waiting if (reason := verdicts.get((g, g), ""))}


def _equals_itself(gold: str, kind: str) -> bool:
    if kind == "math":  # to be read is enough, and takes half the time
        return rules.read(gold) is not None
    return bool(rules.compare(gold, gold, kind).same)


def contradicting(several: Mapping[str, Sequence[str]], kind: str = "math") -> list[str]:
    """The problems (key -> its golds, which differ as text) of whose golds two are different answers.

    Two golds contradict each other where the grader finds each incorrect against the other: which one comes
    first does not matter. Where it cannot say (a limit passed, an error), nothing is held against them.
    Every pair counts: 0.33 and 0.3333333 may both pass for a third value and yet differ.
    """
    first = {key: [(golds[0], other) for other in golds[1:]] for key, golds in several.items()}
    found = _with_a_wrong_pair(first, kind)
    rest = {key: list(combinations(golds[1:], 2)) for key, golds in several.items() if key not in found}
    found |= _with_a_wrong_pair(rest, kind)
    return [key for key in several if key in found]


def _with_a_wrong_pair(pairs: Mapping[str, Sequence[tuple[str, str]]], kind: str) -> set[str]:
    found: set[str] = set()
    undecided: dict[str, list[tuple[str, str]]] = {}
    for key, of_key in pairs.items():
        for one, other in of_key:
            there, back = rules.compare(one, other, kind).same, rules.compare(other, one, kind).same
            if there is False and back is False:
                found.add(key)
                break
            if not (there or back):
                undecided.setdefault(key, []).append((one, other))
    waiting = {key: of_key for key, of_key in undecided.items() if key not in found}
    both_ways = [p for of_key in waiting.values() for a, b in of_key for p in ((a, b), (b, a))]
    verdicts = _graded("gold-pairs", both_ways, kind, lambda outcome, rule: outcome)
    for key, of_key in waiting.items():
        if any(verdicts.get((a, b)) == verdicts.get((b, a)) == "incorrect" for a, b in of_key):
            found.add(key)
    return found


def _graded(
    name: str, pairs: Sequence[tuple[str, str]], kind: str, said: Callable[[str, str], str]
) -> dict[tuple[str, str], str]:
    """(gold, answer) -> "" where correct, else what is said of (outcome, rule); no "error" is among them.

    Each pair is graded once: what was said is cached for versions of the grader.
    """
    if not pairs:
        return {}
    key = "-".join([name, kind, metadata.version("math-verify"), metadata.version("tina-harness")])
    known: dict[str, str] = cache.read(key) or {}
    if new := [p for p in dict.fromkeys(pairs) if _digest(p) not in known]:
        from tina_harness.grading import Grader, Item

        with Grader() as grader:
            verdicts = grader.grade(
                Item(g, f"\\boxed{{{a}}}" if _balanced(a) else a, kind, policy="bare") for g, a in new
            )
            grader.check()
        for pair, verdict in zip(new, verdicts, strict=True):
            if verdict.outcome != "error":
                known[_digest(pair)] = "" if verdict.correct else said(verdict.outcome, verdict.rule)
        cache.write(key, known)
    return {p: known[digest] for p in pairs if (digest := _digest(p)) in known}


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


def _digest(pair: tuple[str, str]) -> str:
    text = pair[0] if pair[0] == pair[1] else "\0".join(pair)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
