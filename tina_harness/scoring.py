"""What completions are worth: verdicts as rewards ask for them, and rewards built from a recipe.

Training and evaluation share it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tina_harness import checked
from tina_harness.config import RunConfig
from tina_harness.errors import PluginError, TinaError
from tina_harness.grading import Grader, Item, Verdict
from tina_harness.registry import Registry
from tina_harness.specs import (
    Benchmark,
    Estimate,
    Problem,
    Reward,
    RewardContext,
    RewardFunction,
    Score,
)
from tina_harness.statistics import estimate, unit_of


class Verdicts:
    """`RewardContext.grade` for some rows: a verdict for each pair that a reward asks about, graded once.

    items: how each row is graded. known: verdicts of the rows, where there are some already. A pair is graded
    as the row in its place, if that has this pair, or as another row with it. A pair that is no row's is
    graded as the row with its completion would be, or else by the kind and policy of the rows.
    """

    def __init__(self, grader: Grader, items: Sequence[Item], known: Sequence[Verdict] = ()) -> None:
        self._grader = grader
        self._items = list(items)
        self._by_pair = {(item.completion, item.gold): item for item in reversed(items)}
        self._by_text = {item.completion: item for item in reversed(items)}
        self._any = replace(items[0], prompt="") if items else Item("", "")
        self.known: dict[Item, Verdict] = {}  # in the order in which they were graded
        for item, verdict in zip(items, known, strict=False):
            self.known.setdefault(item, verdict)

    def __call__(self, completions: Sequence[str], golds: Sequence[str]) -> list[Verdict]:
        items = [self._item(place, *pair) for place, pair in enumerate(asked(completions, golds))]
        new = [item for item in dict.fromkeys(items) if item not in self.known]
        if new:
            self.known.update(zip(new, self._grader.grade(new), strict=True))
            self._grader.check()
        return [self.known[item] for item in items]

    def _item(self, place: int, completion: str, gold: str) -> Item:
        pair = completion, gold
        if place < len(self._items):
            item = self._items[place]
            if (item.completion, item.gold) == pair:
                return item
        return self._by_pair.get(pair) or replace(
            self._by_text.get(completion, self._any), completion=completion, gold=gold
        )


def asked(completions: Sequence[str], golds: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs that a reward asks about. Raises TypeError and ValueError where they are none."""
    texts, wanted = list(completions), list(golds)
    if len(texts) != len(wanted):
        raise ValueError(f"grade was given {len(texts)} completions and {len(wanted)} golds")
    if odd := [value for value in (*texts, *wanted) if not isinstance(value, str)]:
        raise TypeError(f"grade was given {checked.shown(odd[0])}: completions and golds are texts")
    return list(zip(texts, wanted, strict=True))


def item_of(problem: Problem, completion: str, policy: str) -> Item:
    """What the grader is asked about a completion of a problem, in training and in evaluation."""
    return Item(problem.gold, completion, problem.kind, policy, problem.problem)


def as_score(verdict: Verdict) -> Score:
    """A verdict of the grader as what the sample is worth: 1, 0, or not counted."""
    value = None if verdict.correct is None else float(verdict.correct)
    return Score(value, verdict.outcome, verdict.answer, verdict.rule)


class Scorer:
    """A benchmark's own scoring: (problem, completions) -> a score for each completion.

    `Benchmark.score`, which scores a problem as a whole and by several names, is forwarded: each sample gets
    the problem's first score. estimates: of those names, once all problems were scored.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        self._benchmark = benchmark
        self._named: dict[str, dict[str, float]] = {}  # problem id -> its scores by name

    def __call__(self, problem: Problem, completions: Sequence[str]) -> list[Score]:
        if self._benchmark.scorer is not None:
            return checked.scored(self._benchmark, problem, completions)
        names = next(iter(self._named.values()), {})
        found = self._named[problem.id] = checked.scores(self._benchmark, problem, completions, names)
        name, value = next(iter(found.items()))
        outcome = "correct" if value >= 1 else "incorrect"
        return [Score(value, outcome, None, f"{name} {value:g}")] * len(completions)

    def estimates(self) -> dict[str, Estimate]:
        """The mean over problems of each named score; none where samples are scored one by one."""
        names = next(iter(self._named.values()), {})
        found = {}
        for name in names:
            values = {problem: [scores[name]] for problem, scores in self._named.items()}
            found[name] = estimate([v for (v,) in values.values()], unit_of(values))
        return found


@dataclass(frozen=True)
class BuiltReward:
    """A reward function with its parameters, whose values are checked.

    low, high: the range of its values; declared: which of the two its plugin says ("low", "high"). A value
    beyond a declared end is an error, beyond another one a line for `warn`.
    """

    spec: Reward
    function: RewardFunction
    low: float
    high: float
    declared: frozenset[str]
    warn: Callable[[str], None]

    def __call__(
        self, completions: Sequence[str], golds: Sequence[str], context: RewardContext
    ) -> list[float | None]:
        """One value a completion. Raises PluginError where the function raises or gives something else."""
        count, ids = len(completions), context.problem_ids
        shown = ", ".join(list(dict.fromkeys(ids))[:3]) or "unknown"
        with checked.calling(self.spec, f"its function, on {count} completions (problems: {shown}),"):
            given = self.function(list(completions), list(golds), context)
        values = checked.in_order(self.spec, "its function", given, count)
        places = [f"completion {n} of {count}" for n in range(1, count + 1)]
        if len(ids) == count:
            places = [f"{place} (problem {id_})" for place, id_ in zip(places, ids, strict=True)]
        return [self._checked(value, place) for value, place in zip(values, places, strict=True)]

    def _checked(self, given: Any, place: str) -> float | None:
        if given is None:
            return None
        value, what = checked.number(given), f"its function, for {place},"
        if value is None:
            expected = "a finite number, or None for 'do not count this one'"
            raise checked.wrong(self.spec, what, given, expected)
        slack = 1e-6 * max(1.0, abs(self.low), abs(self.high))  # for sums of floats
        beyond = "low" if value < self.low - slack else "high" if value > self.high + slack else ""
        if beyond in self.declared:
            within = f"from {self.low:g} to {self.high:g}"
            raise PluginError(f"{self.spec.named}: {what} gave {value:g}: it declares values {within}")
        if beyond:
            self.warn(
                f"warning: {self.spec.named} gives values {'below' if beyond == 'low' else 'above'} "
                f"{getattr(self, beyond):g}; Reward({beyond}=...) would say how far they go"
            )
        return value


def build_rewards(
    config: RunConfig, registry: Registry, warn: Callable[[str], None]
) -> dict[str, BuiltReward]:
    """The recipe's reward functions by name, with their parameters.

    warn: is told of values outside a range that is not declared, again and again. Raises TinaError where a
    reward cannot be built with the parameters, PluginError where its plugin is at fault.
    """
    return {name: _built(name, table, registry, warn) for name, table in config.rewards.items()}


def _built(
    name: str, table: Mapping[str, Any], registry: Registry, warn: Callable[[str], None]
) -> BuiltReward:
    spec = registry.get(Reward, name)
    parameters = {**spec.defaults, **{k: v for k, v in table.items() if k != "weight"}}
    with checked.calling(spec, "build"):
        try:
            function = spec.build(**parameters)
        except (TypeError, ValueError) as error:
            raise TinaError(f"[rewards.{name}] {spec.named} cannot be built: {error}") from error
    if not callable(function):
        raise checked.wrong(spec, "build", function, "a function")
    return BuiltReward(spec, function, *_range(spec, parameters), warn)


def _range(spec: Reward, parameters: Mapping[str, Any]) -> tuple[float, float, frozenset[str]]:
    """(low, high, which of them are declared) of a reward with these parameters."""
    if spec.bounds is None:
        # `low` and `high` are those of the defaults: other parameters may move them.
        same = parameters == dict(spec.defaults)
        ends: tuple[Any, ...] = (spec.low, spec.high)
        declared = frozenset(end for end in ("low", "high") if same and spec.gives(end))
    else:
        with checked.calling(spec, "bounds"):
            found = spec.bounds(**parameters)
        ends, declared = tuple(checked.in_order(spec, "bounds", found, 2)), frozenset(("low", "high"))
    low, high = (checked.number(end) for end in ends)
    if low is None or high is None or low > high:
        shown = " and ".join(map(checked.shown, ends))
        raise PluginError(f"{spec.named}: its values are said to be between {shown}: expected two numbers")
    return low, high, declared


def weights(config: RunConfig) -> list[float]:
    """The weight of each reward, in the recipe's order; 1 where it gives none."""
    return [float(table.get("weight", 1.0)) for table in config.rewards.values()]
