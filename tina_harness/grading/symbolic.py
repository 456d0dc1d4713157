"""math-verify, as it runs inside a worker process: with limits, and with what it swallows made visible.

Deadlines are set twice. Here, on the CPU time of the worker, so that most of what is too expensive is
given up without losing the process; and by the pool, on the wall clock, which kills the process.
math-verify's own alarms stay on, set to a time that is never reached: 0.5.2 answers False to
everything when they are off.
"""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Iterator
from functools import lru_cache
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

from tina_harness.grading.rules import for_math_verify

_NEVER = 3600  # seconds, for math-verify's own alarms
_SHOWN = 200  # characters of a parsed form that are shown


class Answer(NamedTuple):
    """What a worker says. outcome and rule as in Verdict; gold_form, answer_form: what was read."""

    outcome: str
    rule: str
    gold_form: str | None
    answer_form: str | None
    seconds: float


class TooExpensive(BaseException):
    """The CPU time for an item is spent. Not an Exception: math-verify and sympy catch those."""


class BadGold(Exception):
    """A gold that cannot be compared with anything; the message is the reason."""


def start_worker(memory_mb: int) -> None:
    """Prepare this process: load sympy, end when the caller ends, check that 1/2 is 0.5, limit memory."""
    import logging
    import multiprocessing
    import os
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller, which then ends the workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ends at once also inside long arithmetic
    for name in ("math_verify", "latex2sympy2_extended", "sympy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    caller = multiprocessing.parent_process()
    if caller is not None:

        def follow() -> None:
            caller.join()
            os._exit(0)

        threading.Thread(target=follow, daemon=True).start()
    global _broken
    _broken = self_check()
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = used + memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


_broken = ""  # why this process cannot grade


def self_check() -> str:
    """Why math-verify does not work in this process, "" where it does. It fails in silence when it does."""
    try:
        right, wrong = compare("\\frac{1}{2}x", "0.5x", 30.0), compare("\\frac{1}{2}x", "0.6x", 30.0)
    except Exception as error:
        return f"math-verify does not work here: {type(error).__name__}: {error}"
    if (right.outcome, wrong.outcome) == ("correct", "incorrect"):
        return ""
    return f"math-verify does not work here: x/2 is 0.5x, says {right.outcome}; and 0.6x, {wrong.outcome}"


def in_worker(peer: str, gold: str, answer: str | None, cpu_s: float) -> Answer:
    """The call that workers get: `compare`, or with a peer's name `by_peer`."""
    if _broken:
        raise RuntimeError(_broken)
    return by_peer(gold, answer or "", peer, cpu_s) if peer else compare(gold, answer, cpu_s)


def compare(gold: str, answer: str | None, cpu_s: float) -> Answer:
    """Compare an answer with a gold; without an answer, only read the gold.

    cpu_s: seconds of CPU time, for reading and comparing together.
    """
    start = time.perf_counter()
    gold_form = answer_form = None
    stage = "gold"
    try:
        with _limited(cpu_s):
            left, gold_form = read_gold(gold)
            if answer is None:
                return Answer("correct", "the gold can be read", gold_form, None, _since(start))
            stage = "answer"
            if (reason := unwieldy(answer)) and not unwieldy(gold):
                return Answer("incorrect", f"the answer is {reason}", gold_form, None, _since(start))
            right = _parse(answer)
            answer_form = _shown(right)
            if not right:
                outcome, rule = "incorrect", "math-verify reads nothing in the answer"
            else:
                outcome = "correct" if _verify(left, right) else "incorrect"
                rule = "math-verify"
    except BadGold as error:
        outcome, rule = "bad_gold", str(error)
    except TooExpensive:
        rule = f"no end within {cpu_s:.3g} s of CPU time"
        outcome, rule = ("bad_gold", f"reading it: {rule}") if stage == "gold" else ("timeout", rule)
    except MemoryError:
        rule = "the memory limit of the worker"
        outcome, rule = ("bad_gold", f"reading it: {rule}") if stage == "gold" else ("timeout", rule)
    return Answer(outcome, rule, gold_form, answer_form, _since(start))


@lru_cache(maxsize=2048)
def read_gold(gold: str) -> tuple[Any, str]:
    """A gold, parsed, and the parsed form as text. Raises BadGold."""
    if reason := unwieldy(gold):
        raise BadGold(f"it is {reason}")
    parsed = _parse(gold)
    if not parsed:
        raise BadGold("math-verify reads nothing in it")
    if all(isinstance(p, str) for p in parsed):
        raise BadGold("math-verify cannot parse it")
    if (shown := _shown(parsed)) in ("nan", "zoo"):
        raise BadGold("it has no value")
    if not _verify(parsed, parsed):
        raise BadGold("math-verify does not find it equal to itself")
    return parsed, shown


def by_peer(gold: str, completion: str, setup: str, cpu_s: float) -> Answer:
    """The verdict of another harness's rule, on the whole completion.

    setup: "math-verify" (its defaults on both sides), or "trl" (TRL 1.16's `accuracy_reward`).
    """
    from math_verify import parse

    start = time.perf_counter()
    try:
        with _limited(cpu_s):
            if setup == "trl":
                left = parse(gold, parsing_timeout=_NEVER)
                right = parse(completion, extraction_mode="first_match", **_trl()) if left else []
            else:
                left = parse(f"${gold}$", parsing_timeout=_NEVER)
                right = parse(completion, parsing_timeout=_NEVER)
            if not left:
                return Answer("bad_gold", f"{setup} reads nothing in it", None, None, _since(start))
            forms = _shown(left), _shown(right)
            if not right:
                return Answer("no_answer", f"{setup} finds no answer", *forms, _since(start))
            from math_verify import verify

            same = verify(left, right, timeout_seconds=_NEVER)
            return Answer("correct" if same else "incorrect", f"as {setup}", *forms, _since(start))
    except (TooExpensive, MemoryError):
        return Answer("timeout", "over the limits of the worker", None, None, _since(start))


def _trl() -> dict[str, Any]:
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig

    latex = LatexExtractionConfig(
        boxed_match_priority=0,
        try_extract_without_anchor=False,
        normalization_config=NormalizationConfig(units=True),
    )
    return {"extraction_config": [latex], "parsing_timeout": _NEVER}


def _parse(text: str) -> Any:
    from math_verify import parse

    return parse(f"${for_math_verify(text)}$", parsing_timeout=_NEVER)


def _verify(gold: Any, answer: Any) -> bool:
    from math_verify import verify

    return bool(verify(gold, answer, timeout_seconds=_NEVER, **_relations()))


@lru_cache(maxsize=1)
def _relations() -> dict[str, bool]:
    """Intervals may be written as inequalities, where math-verify has the setting (0.6 and later)."""
    from math_verify import verify

    name = "allow_set_relation_comp"
    return {name: True} if name in signature(verify).parameters else {}


def _shown(parsed: Any) -> str:
    """The first parsed form as text; printing a large one can itself take long, and is limited too."""
    try:
        return str(parsed[0])[:_SHOWN] if parsed else ""
    except Exception as error:
        return f"({type(error).__name__})"


def _since(start: float) -> float:
    return time.perf_counter() - start


@contextlib.contextmanager
def _limited(cpu_s: float) -> Iterator[None]:
    """Raise TooExpensive, again and again, once the CPU time is spent. In a worker's main thread only."""

    def stop(*_: object) -> None:
        raise TooExpensive

    if not hasattr(signal, "setitimer"):  # Windows: the pool's deadline alone
        yield
        return
    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_s, 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


_TOWER = re.compile(r"\^ ?\{[^{}]*\^|\^ ?[0-9a-zA-Z] ?\^|\^ ?\(?\{?\(?[^{}()]*\([^()]*\^")
_POWER = re.compile(r"\^ ?[({]* ?-?[0-9]{7,}|\*\* ?\(*-?[0-9]{7,}|\*\*.{0,40}\*\*")
_FACTORIAL = re.compile(r"[0-9]{5,} ?[)}]* ?!|! ?[)}]+ ?!|!!!|\^ ?\{[^{}]*!")
_CODE = re.compile(r"__|(?<!\\)\b(?:import|lambda|exec|eval|getattr)\b")


def unwieldy(text: str) -> str:
    """Why a text is not evaluated, "" where nothing speaks against it. One pass over the text."""
    if len(text) > 2000:
        return "longer than 2000 characters"
    if _CODE.search(text):
        return "code"
    if re.search(r"[0-9]{400,}", text):
        return "a number of more than 400 digits"
    if _TOWER.search(text) and not re.search("[a-zA-Z]", re.sub(r"\\[a-z]+", "", text)):
        return "a tower of exponents"
    if re.search(r"\^ ?\^", text):
        return "a power without an exponent"
    if _POWER.search(text):
        return "a power too large to be evaluated"
    if _FACTORIAL.search(text):
        return "a factorial too large to be evaluated"
    if text.count("&") > 400:
        return "a matrix of more than 400 entries"
    depth = deepest = 0
    for char in text:
        depth += (char in "({[") - (char in ")}]")
        deepest = max(deepest, depth)
    return "nested more than 40 deep" if deepest > 40 else ""
