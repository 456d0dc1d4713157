"""The grader: exact rules first, symbolic comparison in worker processes that can be killed.

Nothing is timed by signals in the caller, so it works from any thread. A worker that passes its
deadline is killed and replaced by pebble; a lost worker costs a retry, never a wrong verdict.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import re
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import TimeoutError as DeadlineError
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from tina_harness.grading.extract import extract

Outcome = Literal["correct", "incorrect", "no_answer", "bad_gold", "timeout", "error"]


@dataclass(frozen=True, slots=True)
class Item:
    """One completion and its gold. kind: "math" or "choice"."""

    gold: str
    completion: str
    kind: str = "math"


@dataclass(frozen=True, slots=True)
class Verdict:
    """outcome, the extracted answer, the rule that decided, and the seconds it took."""

    outcome: Outcome
    answer: str | None
    rule: str
    seconds: float = 0.0

    @property
    def correct(self) -> bool | None:
        """None where the gold or the grader is at fault, so that nobody counts it as wrong."""
        if self.outcome in ("bad_gold", "timeout", "error"):
            return None
        return self.outcome == "correct"


class Grader:
    """Grades (gold, completion) pairs.

    workers: processes for symbolic work, started when first needed. deadline_s: wall-clock seconds
    for one comparison. memory_mb: address space of a worker above what it needs to start.
    """

    def __init__(self, workers: int = 2, deadline_s: float = 5.0, memory_mb: int = 2048) -> None:
        self.workers, self.deadline_s, self.memory_mb = workers, deadline_s, memory_mb
        self._pool: Any = None
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str, str], Verdict] = {}

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def grade(self, items: Iterable[Item]) -> list[Verdict]:
        """A verdict for each item, in order. Equal (gold, answer) pairs are compared once."""
        verdicts: list[Verdict | None] = []
        waiting: dict[tuple[str, str, str], list[int]] = {}
        for index, item in enumerate(items):
            verdict, key = self._at_once(item)
            verdicts.append(verdict)
            if verdict is None:
                waiting.setdefault(key, []).append(index)
        for key, verdict in zip(waiting, self._symbolic(list(waiting)), strict=True):
            self._known[key] = verdict
            for index in waiting[key]:
                verdicts[index] = verdict
        return [v for v in verdicts if v is not None]

    def close(self) -> None:
        """End the workers."""
        with self._lock:
            if self._pool is not None:
                self._pool.stop()
                self._pool.join()
                self._pool = None

    def _at_once(self, item: Item) -> tuple[Verdict | None, tuple[str, str, str]]:
        gold = item.gold.strip()
        key = (gold, "", item.kind)
        if not gold:
            return Verdict("bad_gold", None, "the gold is empty"), key
        found = extract(item.completion, item.kind)
        if found.text is None:
            return Verdict("no_answer", None, found.rule), key
        key = (gold, found.text, item.kind)
        if key in self._known:
            return self._known[key], key
        same = exact(gold, found.text, item.kind)
        if same is None:
            return None, key
        verdict = Verdict("correct" if same else "incorrect", found.text, f"{found.rule}; exact comparison")
        return verdict, key

    def _symbolic(self, keys: Sequence[tuple[str, str, str]]) -> list[Verdict]:
        if not keys:
            return []
        verdicts = self._submit(keys)
        lost = [i for i, v in enumerate(verdicts) if v.outcome == "error"]
        for index, verdict in zip(lost, self._submit([keys[i] for i in lost]) if lost else [], strict=True):
            verdicts[index] = verdict
        return verdicts

    def _submit(self, keys: Sequence[tuple[str, str, str]]) -> list[Verdict]:
        from pebble import ProcessExpired

        pool = self._started()
        futures = [
            pool.schedule(_compare, args=(gold, answer), timeout=self.deadline_s) for gold, answer, _ in keys
        ]
        verdicts = []
        for future, (_, answer, _) in zip(futures, keys, strict=True):
            start = time.monotonic()
            try:
                outcome, rule = future.result()
                verdict = Verdict(outcome, answer, rule)
            except DeadlineError:
                verdict = Verdict("timeout", answer, f"no verdict within {self.deadline_s} s")
            except (ProcessExpired, MemoryError, OSError) as error:
                verdict = Verdict("error", answer, f"the worker was lost: {type(error).__name__}")
            except Exception as error:
                verdict = Verdict("error", answer, f"{type(error).__name__}: {str(error)[:200]}")
            verdicts.append(replace(verdict, seconds=round(time.monotonic() - start, 4)))
        return verdicts

    def _started(self) -> Any:
        with self._lock:
            if self._pool is None:
                from pebble import ProcessPool

                self._pool = ProcessPool(
                    max_workers=self.workers,
                    initializer=_start_worker,
                    initargs=(self.memory_mb,),
                    context=multiprocessing.get_context("spawn"),
                )
            return self._pool


def exact(gold: str, answer: str, kind: str) -> bool | None:
    """Equality where it can be told without symbolic work: same text, plain numbers, letters.

    None where symbolic comparison has to decide.
    """
    if kind == "choice":
        letter = answer.strip().strip("().: ").removeprefix("\\text{").rstrip("}").strip().upper()
        return letter == gold.strip().upper()
    if _plain(gold) == _plain(answer):
        return True
    left, right = number(gold), number(answer)
    if left is not None and right is not None:
        return left == right
    return None


_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:/\d+)?")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")


def number(text: str) -> Fraction | None:
    """The value of a plain integer, decimal or fraction such as `-3/4`, else None."""
    text = _plain(text)
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    if len(text) > 1000 or not _NUMBER.fullmatch(text):
        return None
    top, _, bottom = text.partition("/")
    if bottom and int(bottom) == 0:
        return None
    return Fraction(top) / (Fraction(bottom) if bottom else 1)


def _plain(text: str) -> str:
    text = text.strip().strip("$").strip()
    return re.sub(r"\s+", "", text.replace("\\!", "").replace("{,}", ","))


def _start_worker(memory_mb: int) -> None:
    import signal

    import math_verify  # noqa: F401  (loads sympy, before the memory limit)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which then ends the workers
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = used + memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _compare(gold: str, answer: str) -> tuple[Outcome, str]:
    """Symbolic comparison by math-verify, in a worker's main thread."""
    from math_verify import parse, verify

    left = parse(f"${gold}$")
    if not left:
        return "bad_gold", "math-verify reads nothing in the gold"
    right = parse(f"${answer}$")
    if not right:
        return "incorrect", "math-verify reads nothing in the answer"
    return ("correct" if verify(left, right) else "incorrect"), "math-verify"
