"""Minerva: 272 undergraduate science problems; the gold is the last box of the solution."""

from tina_harness import Benchmark, hookimpl
from tina_harness.grading.extract import boxed
from tina_harness.specs import Row


def parse(row: Row) -> tuple[str, str | None]:
    """Problem, and the content of the last box of its solution."""
    found = boxed(row["solution"] or "")
    return row["problem"] or "", found[-1] if found else None


@hookimpl
def tina_benchmarks():
    yield Benchmark(
        name="minerva",
        summary="272 undergraduate science problems (MIT OpenCourseWare)",
        source="Solving Quantitative Reasoning Problems with Language Models, https://arxiv.org/abs/2206.14858",
        repo="knoveleng/Minerva-Math",
        split="train",
        parse=parse,
        columns=("problem", "solution"),
        samples=2,
        expected_rows=272,
    )
