"""AIME25: the 30 problems of AIME I and II, 2025."""

from tina_harness import Benchmark, hookimpl


@hookimpl
def tina_benchmarks():
    yield Benchmark(
        name="aime25",
        summary="the 30 problems of AIME I and II, 2025",
        source="MAA, American Invitational Mathematics Examination 2025",
        repo="yentinglin/aime_2025",
        split="train",
        samples=16,
        expected_rows=30,
    )
