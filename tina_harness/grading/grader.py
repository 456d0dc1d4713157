"""The grader: our own rules first, math-verify in worker processes that can be killed.

Nothing is timed by signals in the caller, so it works from any thread, from asyncio (in a thread:
`await asyncio.to_thread(grader.grade, items)`), and in processes of Ray, of a DataLoader, or forked.
An item that passes its limits costs that item; a lost worker costs a retry, never a wrong verdict.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tina_harness.errors import TinaError, did_you_mean
from tina_harness.grading import rules, symbolic
from tina_harness.grading.extract import Extracted, extract, policy_named
from tina_harness.grading.workers import Lost, Workers

Outcome = Literal["correct", "incorrect", "no_answer", "bad_gold", "timeout", "error"]

_REMEMBERED = 20_000  # comparisons
_WINDOW = 2_000  # items under way at a time
_LOSSES = 3  # a call that loses its worker this often is given up
# CPU time, as a share of the deadline, after which an item is given up without losing the worker: 1.5 s
# by default, where the hardest of 40,315 golds needs 0.5 s. The deadline is for what cannot be stopped so.
_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Item:
    """One completion and its gold.

    kind: a word of `rules.KINDS`; "math" tells it from the gold. policy: a name in `extract.POLICIES`.
    prompt: where it is given, a completion that only repeats it has no answer.
    """

    gold: str
    completion: str
    kind: str = "math"
    policy: str = "tina"
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided, and how.

    outcome: "correct"; "incorrect"; "no_answer": the policy finds none; "bad_gold": the gold cannot be
    read; "timeout": the answer passed its limits; "error": the grader itself failed, twice.
    answer: as extracted. gold_form, answer_form: as read. rule: what decided. seconds: it took.
    """

    outcome: Outcome
    answer: str | None
    rule: str
    seconds: float = 0.0
    gold_form: str | None = None
    answer_form: str | None = None

    @property
    def correct(self) -> bool | None:
        """None where the gold or the grader is at fault, so that nobody counts it as wrong."""
        return None if self.outcome in ("bad_gold", "error") else self.outcome == "correct"


class GraderFailing(TinaError):
    """More than 1% of the items ended in "error"."""


class _Key(NamedTuple):
    """One comparison. peer: "" for our rules; else `answer` is the whole completion."""

    gold: str
    answer: str
    kind: str
    peer: str


class Grader:
    """Grades (gold, completion) pairs. Verdicts do not depend on the workers, the order or the batch.

    workers: processes for symbolic work, started when first needed. deadline_s: wall-clock seconds for
    one comparison. memory_mb: memory of a worker above what it needs to start.
    counts: how many of the items graded so far had which outcome.
    """

    def __init__(self, workers: int = 2, deadline_s: float = 5.0, memory_mb: int = 1024) -> None:
        if workers < 1 or not deadline_s > 0 or memory_mb < 1:
            raise TinaError(
                f"Grader(workers={workers}, deadline_s={deadline_s}, memory_mb={memory_mb}): "
                "each has to be above 0"
            )
        self.deadline_s = deadline_s
        self.counts: Counter[str] = Counter()
        self._workers = Workers(workers, deadline_s, symbolic.start_worker, (memory_mb,))
        self._known: OrderedDict[_Key, Verdict] = OrderedDict()
        self._lock = threading.Lock()

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def grade(self, items: Iterable[Item]) -> list[Verdict]:
        """A verdict for each item, in order. Equal (gold, answer) pairs are compared once."""
        verdicts: list[Verdict] = []
        window: list[Item] = []
        for item in items:
            window.append(item)
            if len(window) == _WINDOW:
                verdicts += self._window(window)
                window = []
        return verdicts + self._window(window)

    def check(self) -> None:
        """Raise GraderFailing where the grader itself failed on more than 1% of what it graded."""
        failed, total = self.counts["error"], self.counts.total()
        if failed > max(1, total / 100):
            raise GraderFailing(
                f"the grader failed on {failed} of {total} items, so its numbers cannot be trusted",
                "'tina grade 2x x+x --explain' shows whether math-verify works here",
            )

    def processes(self) -> list[int]:
        """The ids of the worker processes that run now."""
        return self._workers.processes()

    def close(self) -> None:
        """End the workers."""
        self._workers.close()

    def _window(self, items: Sequence[Item]) -> list[Verdict]:
        plans = [_plan(item) for item in items]
        keys = dict.fromkeys(key for plan in plans if isinstance(plan, _Pending) for key in plan.keys)
        known = self._compare(list(keys))
        verdicts = [plan if isinstance(plan, Verdict) else _combined(plan, known) for plan in plans]
        with self._lock:
            self.counts.update(v.outcome for v in verdicts)
        return verdicts

    def _compare(self, keys: Sequence[_Key]) -> dict[_Key, Verdict]:
        with self._lock:
            known = {key: self._known[key] for key in keys if key in self._known}
        waiting = []
        for key in keys:
            if key not in known:
                verdict = None if key.peer else _by_rules(key)
                if verdict is None:
                    waiting.append(key)
                else:
                    known[key] = verdict
        known.update(zip(waiting, self._symbolic(waiting), strict=True))
        with self._lock:
            for key in waiting:
                if known[key].outcome != "error":
                    self._known[key] = known[key]
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return known

    def _symbolic(self, keys: Sequence[_Key]) -> list[Verdict]:
        verdicts = self._called(keys)
        # A deadline does not say whether gold or answer took the time: the gold alone tells.
        late = [
            index
            for index, (key, verdict) in enumerate(zip(keys, verdicts, strict=True))
            if verdict.outcome == "timeout"
            and verdict.gold_form is None
            and not key.peer
            and rules.read(key.gold) is None
        ]
        alone = self._called([keys[i]._replace(answer="") for i in late])
        for index, verdict in zip(late, alone, strict=True):
            if verdict.outcome == "timeout":
                rule = f"reading it: no end within {self.deadline_s:g} s"
                verdicts[index] = Verdict("bad_gold", keys[index].answer, rule, verdict.seconds)
        return verdicts

    def _called(self, keys: Sequence[_Key]) -> list[Verdict]:
        """One call a key; lost workers and failures are retried."""
        cpu_s = self.deadline_s * _SHARE
        calls = [
            (k.peer, k.gold, k.answer or None, cpu_s)  # no answer: only read the gold
            for k in keys
        ]
        results = list(self._workers.map(symbolic.in_worker, calls))
        for attempt in range(1, _LOSSES):
            again = [
                i
                for i, r in enumerate(results)
                if isinstance(r, Lost) and r.reason != "deadline" and (attempt == 1 or r.died)
            ]
            retried = self._workers.map(symbolic.in_worker, [calls[i] for i in again])
            for index, result in zip(again, retried, strict=True):
                results[index] = result
        return [self._verdict(key, result) for key, result in zip(keys, results, strict=True)]

    def _verdict(self, key: _Key, result: symbolic.Answer | Lost) -> Verdict:
        answer = None if key.peer else key.answer
        if isinstance(result, Lost):
            if result.reason == "deadline":
                return Verdict("timeout", answer, f"no verdict within {self.deadline_s:g} s", self.deadline_s)
            return Verdict("error", answer, f"the worker was lost: {result.reason}")
        outcome: Outcome = result.outcome  # type: ignore[assignment]
        seconds = round(result.seconds, 6)
        return Verdict(outcome, answer, result.rule, seconds, result.gold_form, result.answer_form)


class _Pending(NamedTuple):
    """An item whose keys all have to be right. found: the extraction; seconds: it took."""

    keys: tuple[_Key, ...]
    found: Extracted
    seconds: float


def _plan(item: Item) -> Verdict | _Pending:
    """What an item needs: a verdict at once, or comparisons."""
    start = time.perf_counter()
    if item.kind not in rules.KINDS:
        raise TinaError(f"there is no kind of answer '{item.kind}'", did_you_mean(item.kind, rules.KINDS))
    policy = policy_named(item.policy)
    gold = item.gold.strip()
    if not gold:
        return Verdict("bad_gold", None, "the gold is empty")
    if policy.peer:
        key = _Key(gold, item.completion, item.kind, policy.peer)
        return _Pending((key,), Extracted((item.completion,), ""), 0.0)
    found = extract(item.completion, item.kind, policy, item.prompt)
    if not found.texts:
        return Verdict("no_answer", None, found.rule, _since(start))
    texts = found.texts
    if len(texts) > 1:
        wanted = len(rules.split(gold)[0])
        if wanted == len(texts):
            texts = (", ".join(texts),)
        elif len(texts) > 8:
            return Verdict("incorrect", texts[-1], found.rule, _since(start))
    keys = tuple(_Key(gold, _cut(text), item.kind, "") for text in texts)
    return _Pending(keys, found, _since(start))


def _cut(answer: str) -> str:
    """An answer that is longer than any that is read keeps its beginning, and one character too many."""
    return answer if len(answer) <= rules.LONGEST else answer[: rules.LONGEST + 1]


def _by_rules(key: _Key) -> Verdict | None:
    start = time.perf_counter()
    ruling = rules.compare(key.gold, key.answer, key.kind)
    if ruling.same is None:
        return None
    forms = rules.read(key.gold), rules.read(key.answer)
    gold_form, answer_form = (None if f is None else str(f)[:200] for f in forms)
    outcome: Outcome = "correct" if ruling.same else "incorrect"
    return Verdict(outcome, key.answer, ruling.rule, _since(start), gold_form, answer_form)


def _combined(plan: _Pending, known: dict[_Key, Verdict]) -> Verdict:
    """One verdict for an item: the worst of its comparisons, or the one there is."""
    verdicts = [known[key] for key in plan.keys]
    worst = next((v for o in _WORST for v in verdicts if v.outcome == o), verdicts[-1])
    shown = "; ".join(plan.found.texts) if plan.found.rule else worst.answer_form
    return Verdict(
        worst.outcome,
        None if shown is None else shown[: rules.LONGEST],
        f"{plan.found.rule}; {worst.rule}" if plan.found.rule else worst.rule,
        round(plan.seconds + sum(v.seconds for v in verdicts), 6),
        worst.gold_form,
        worst.answer_form,
    )


_WORST = ("error", "bad_gold", "incorrect", "timeout")


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 6)
