"""AIME24: the 30 problems of AIME I and II, 2024."""

from tina_harness import Benchmark, hookimpl


@hookimpl
def tina_benchmarks():
    yield Benchmark(
        name="aime24",
        summary="the 30 problems of AIME I and II, 2024",
        source="MAA, American Invitational Mathematics Examination 2024",
        repo="HuggingFaceH4/aime_2024",
        split="train",
        samples=16,
        expected_rows=30,
    )
