"""Held-out arithmetic: disjoint from the dataset `arithmetic` by construction."""

from collections.abc import Iterable

from tina_harness import Benchmark, hookimpl
from tina_harness.specs import Row
from tina_plugins.arithmetic import problems

ROWS = 200


def rows(seed: int) -> Iterable[Row]:
    """The same problems for every seed, so that runs can be compared."""
    return [{"problem": question, "answer": gold} for question, gold in problems("heldout", ROWS, 0)]


@hookimpl
def tina_benchmarks():
    yield Benchmark(
        name="arithmetic-heldout",
        summary="generated addition and subtraction, disjoint from the dataset arithmetic",
        source="made here: tina_plugins/arithmetic.py",
        rows=rows,
        license="Apache-2.0",
        expected_rows=ROWS,
        prompt="plain",
        samples=4,
        max_new_tokens=64,
    )
