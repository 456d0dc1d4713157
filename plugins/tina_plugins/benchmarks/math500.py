"""MATH500: 500 problems of MATH's test split."""

from tina_harness import Benchmark, hookimpl


@hookimpl
def tina_benchmarks():
    yield Benchmark(
        name="math500",
        summary="500 problems of MATH's test split",
        source="Let's Verify Step by Step, https://arxiv.org/abs/2305.20050",
        repo="HuggingFaceH4/MATH-500",
        split="test",
        samples=2,
        expected_rows=500,
    )
