"""Which of several results of a checkpoint counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tina_harness.runs.identity import protocol
from tina_harness.runs.records import Result


def value(result: Result) -> float | None:
    """The number that tables show."""
    return result["metrics"][result["primary"]]["value"]


def preferred(results: Iterable[Result]) -> list[Result]:
    """Of each checkpoint on a benchmark one result: with all problems if any, most samples, the newest."""
    best: dict[tuple[str, str, str], Result] = {}
    for result in results:
        key = result["run"], result["checkpoint"], result["benchmark"]
        if key not in best or weight(result) >= weight(best[key]):
            best[key] = result
    return list(best.values())


def alike(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Benchmark -> results that were obtained in the same way, those of most checkpoints.

    Where as many checkpoints have results obtained in another way, those with all problems and most samples
    are taken.
    """
    groups: dict[str, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        groups[result["benchmark"]][protocol(result["identity"])].append(result)
    return {
        benchmark: preferred(
            max(
                by.values(),
                key=lambda g: (len({(r["run"], r["checkpoint"]) for r in g}), max(map(weight, g))),
            )
        )
        for benchmark, by in groups.items()
    }


def weight(result: Result) -> tuple[bool, int, int, str]:
    """What makes a result count for more: all problems, more problems, more samples, and being newer."""
    whole = result["problems_of"] in (None, result["problems"])
    return whole, result["problems"], result["samples"], result.get("when", "")
