"""What plugins' code raises or gives, checked where it comes in: one sentence that names the plugin."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any

from tina_harness.errors import PluginError, TinaError
from tina_harness.specs import (
    Benchmark,
    Completion,
    Engine,
    Estimate,
    Metric,
    Problem,
    Row,
    RowSource,
    Score,
    Spec,
)

OURS = {"tokens", "truncated"}  # besides "rewards/NAME", estimates that every result has
OUTCOMES = ("correct", "incorrect", "no_answer", "bad_gold", "timeout", "error")
STOP_REASONS = ("stop", "length")
_LARGEST = 3.4e38  # rewards and scores become 32-bit floats
_END = object()
_WHERE = "'tina --debug ...' shows where"


@contextmanager
def calling(spec: Spec, what: str) -> Iterator[None]:
    """Around a plugin's code: what it raises becomes a PluginError. what: such as "parse of row 3"."""
    try:
        yield
    except TinaError:
        raise
    except (Exception, SystemExit) as error:
        said = (str(error).strip().splitlines() or [""])[0][:300]
        raise PluginError(
            f"{spec.named}: {what} raised {type(error).__name__}" + (f": {said}" if said else ""), _WHERE
        ) from error


def wrong(spec: Spec, what: str, value: Any, expected: str) -> PluginError:
    """The error for a value that is not what was expected."""
    return PluginError(f"{spec.named}: {what} gave {shown(value)}: expected {expected}")


def shown(value: Any) -> str:
    """A value for a message: its type, and the value where it is short."""
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    if hasattr(value, "__float__") and getattr(value, "ndim", 1) == 0:  # a number of numpy's or torch's
        return str(float(value))
    shape = getattr(value, "shape", None)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"a value of type {type(value).__name__}" + (f" and shape {tuple(shape)}" if shape else "")


def number(value: Any) -> float | None:
    """A finite number as a float (also a numpy or torch one without dimensions); None where it is none."""
    if not hasattr(value, "__float__") or getattr(value, "ndim", 0) != 0:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and abs(found) <= _LARGEST else None


def in_order(spec: Spec, what: str, values: Any, count: int) -> list[Any]:
    """`count` values: of a list, tuple, generator, or a numpy array or torch tensor of one dimension."""
    ordered = isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping | Set)
    if not ordered or getattr(values, "ndim", 1) != 1:
        raise wrong(spec, what, values, f"a list of {count}")
    with calling(spec, what):
        found = list(itertools.islice(values, count + 1))
    if len(found) != count:
        many = f"more than {count}" if len(found) > count else str(len(found))
        raise PluginError(f"{spec.named}: {what} gave {many} values: expected {count}")
    return found


def rows(spec: RowSource, generate: Callable[[int], Iterable[Row]], seed: int) -> Iterator[Row]:
    """Generated rows. Raises PluginError where one is no mapping, or lacks a column that is read."""
    with calling(spec, "rows"):
        made = generate(seed)
    if isinstance(made, str | bytes | Mapping) or not isinstance(made, Iterable):
        raise wrong(spec, "rows", made, "rows, each a mapping")
    with calling(spec, "rows"):
        generated = iter(made)
    for place in itertools.count():
        what = f"row {place} of rows"
        with calling(spec, what):
            row = next(generated, _END)
        if row is _END:
            return
        if not isinstance(row, Mapping):
            raise wrong(spec, what, row, "a mapping")
        if missing := [c for c in spec.needed_columns if c not in row]:
            raise PluginError(
                f"{spec.named}: {what} has no column '{missing[0]}'; it has {', '.join(map(str, row))}"
            )
        yield row


def parsed(spec: RowSource, parse: Callable[[Row], Any], row: Row, place: str) -> tuple[str, str | None]:
    """(problem, gold) by a plugin's parse. place: such as "row 3"."""
    what = f"parse of {place}"
    with calling(spec, what):
        found = parse(row)
    if not isinstance(found, Sequence) or isinstance(found, str) or len(found) != 2:
        raise wrong(spec, what, found, "(problem, gold)")
    problem, gold = found
    if not isinstance(problem, str):
        raise wrong(spec, what, problem, "the problem as text")
    if gold is not None and not isinstance(gold, str):
        raise wrong(spec, what, gold, "the gold as text, or None to set the row aside")
    return problem, gold


def conversation(spec: Benchmark, turns: Callable[[Problem], Any], problem: Problem) -> list[dict[str, str]]:
    """The turns that a plugin gives a model for a problem: role and content, each a text."""
    what = f"conversation of problem {problem.id}"
    with calling(spec, what):
        found = turns(problem)
    if not isinstance(found, Sequence) or isinstance(found, str) or not found:
        raise wrong(spec, what, found, "a list of turns")
    for turn in found:
        if not isinstance(turn, Mapping) or not all(
            isinstance(turn.get(key), str) for key in ("role", "content")
        ):
            raise wrong(spec, what, turn, "turns with 'role' and 'content', each a text")
    return [dict(turn) for turn in found]


def scores(
    spec: Benchmark, problem: Problem, texts: Sequence[str], names: Collection[str]
) -> dict[str, float]:
    """A benchmark's own scores of a problem, by name. names: those of the first problem; empty: any."""
    assert spec.score is not None
    what = f"score of problem {problem.id}"
    with calling(spec, what):
        found = spec.score(problem, texts)
    if not isinstance(found, Mapping) or not found or not all(isinstance(n, str) and n for n in found):
        raise wrong(spec, what, found, "scores by name")
    _check_names(spec, what, found)
    if names and set(found) != set(names):
        listed = " and ".join(", ".join(sorted(n)) for n in (found, names))
        raise PluginError(f"{spec.named}: {what} has other names than that of the first problem: {listed}")
    values = {}
    for name, value in found.items():
        if (score := number(value)) is None:
            raise wrong(spec, f"{what}, '{name}',", value, "a finite number")
        values[name] = score
    return values


def scored(spec: Benchmark, problem: Problem, texts: Sequence[str]) -> list[Score]:
    """A benchmark's own scores of a problem's completions, one each."""
    assert spec.scorer is not None
    what = f"scorer of problem {problem.id}"
    with calling(spec, what):
        found = spec.scorer(problem, texts)
    values = in_order(spec, what, found, len(texts))
    return [
        _score(spec, f"{what}, completion {n} of {len(texts)},", v) for n, v in enumerate(values, start=1)
    ]


def _score(spec: Benchmark, what: str, given: Any) -> Score:
    if not isinstance(given, Score):
        raise wrong(spec, what, given, "a Score")
    value = None if given.value is None else number(given.value)
    if value is None and given.value is not None:
        raise wrong(spec, what, given.value, "a finite number as the value, or None for 'not counted'")
    if given.outcome not in OUTCOMES:
        raise wrong(spec, what, given.outcome, f"an outcome: {', '.join(OUTCOMES)}")
    if not isinstance(given.answer, str | None) or not isinstance(given.rule, str):
        raise wrong(spec, what, given.rule, "texts as answer and rule")
    return given._replace(value=value)


def estimates(
    metric: Metric, scores: Mapping[str, Sequence[Score]], taken: Collection[str]
) -> dict[str, Estimate]:
    """What a metric makes of the scores of problems, by name. taken: names that other metrics have given."""
    with calling(metric, "reduce"):
        found = metric.reduce(scores)
    if not isinstance(found, Mapping) or not all(isinstance(n, str) and n for n in found):
        raise wrong(metric, "reduce", found, "estimates by name")
    _check_names(metric, "reduce", found, taken)
    return {name: _estimate(metric, f"reduce, '{name}',", given) for name, given in found.items()}


def _check_names(spec: Spec, what: str, names: Iterable[str], taken: Collection[str] = ()) -> None:
    for name in names:
        if name in OURS or name.startswith("rewards/") or name in taken:
            raise PluginError(f"{spec.named}: {what} gives '{name}', which is another number", "rename it")


def _estimate(metric: Metric, what: str, given: Any) -> Estimate:
    if not isinstance(given, Estimate):
        raise wrong(metric, what, given, "an Estimate")
    ends = [None if v is None else number(v) for v in given[:3]]
    for value, end in zip(given, ends, strict=False):
        if end is None and value is not None:
            raise wrong(metric, what, value, "finite numbers, or None")
    count = _count(given.n)
    if count is None or not isinstance(given.unit, str):
        raise wrong(metric, what, given, "a number of problems and a unit")
    value, low, high = ends
    return Estimate(value, low, high, count, given.unit)


def identity(engine: Engine) -> str:
    """What an engine's samples depend on besides the model folder; "" where it does not say."""
    if engine.identity is None:
        return ""
    with calling(engine, "identity"):
        found = engine.identity()
    if not isinstance(found, str):
        raise wrong(engine, "identity", found, "a text")
    return found


def sample(engine: Engine, answer: Any, count: int) -> tuple[int, Completion]:
    """What an engine yields: (index into `count` prompts, Completion)."""
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise wrong(engine, "generate", answer, "(index, Completion)")
    place, completion = _count(answer[0]), answer[1]
    if place is None or place >= count:
        raise wrong(engine, "generate", answer[0], f"an index from 0 to {count - 1}")
    what = f"generate, for prompt {place},"
    if not isinstance(completion, Completion):
        raise wrong(engine, what, completion, "a Completion")
    text, tokens, reason = completion
    if not isinstance(text, str):
        raise wrong(engine, what, text, "a completion's text")
    if (number_of_tokens := _count(tokens)) is None:
        raise wrong(engine, what, tokens, "a number of tokens, 0 or more")
    if not isinstance(reason, str) or reason not in STOP_REASONS:
        expected = " or ".join(f"'{r}'" for r in STOP_REASONS)
        raise wrong(engine, what, reason, f"{expected} as the stop reason")
    return place, Completion(text, number_of_tokens, reason)


def _count(value: Any) -> int | None:
    """A whole number of 0 or more, of whatever library; None where it is none."""
    try:
        return found if (found := operator.index(value)) >= 0 else None
    except TypeError:
        return None
