"""Generated addition and subtraction: the embedded default, with neither hub nor network."""

from collections.abc import Iterable

from tina_harness import Dataset, hookimpl
from tina_harness.specs import Row
from tina_plugins.arithmetic import problems

ROWS = 2000


def rows(seed: int) -> Iterable[Row]:
    """Distinct training problems; those of `arithmetic-heldout` are never among them."""
    return [{"problem": question, "answer": gold} for question, gold in problems("train", ROWS, seed)]


@hookimpl
def tina_datasets():
    yield Dataset(
        name="arithmetic",
        summary="generated addition and subtraction of small numbers, seeded",
        source="made here: tina_plugins/arithmetic.py",
        rows=rows,
        license="Apache-2.0",
        expected_rows=ROWS,
        preset="embedded",
        benchmarks=("arithmetic-heldout",),
    )
