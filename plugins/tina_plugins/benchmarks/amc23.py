"""AMC23: 40 problems of AMC 12, 2023."""

from tina_harness import Benchmark, hookimpl


@hookimpl
def tina_benchmarks():
    yield Benchmark(
        name="amc23",
        summary="40 problems of AMC 12, 2023",
        source="MAA, American Mathematics Competitions 2023",
        repo="knoveleng/AMC-23",
        split="train",
        samples=16,
        expected_rows=40,
    )
