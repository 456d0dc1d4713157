"""GSM8K: 8.5k grade-school word problems. The gold is what follows `####` in the answer."""

from tina_harness import Benchmark, Dataset, hookimpl

ROWS = {
    "source": "Training Verifiers to Solve Math Word Problems, https://arxiv.org/abs/2110.14168",
    "repo": "openai/gsm8k",
    "config": "main",
    "problem": "question",
    "answer": "answer",
    "answer_after": "####",
    "license": "MIT",
}


@hookimpl
def tina_datasets():
    yield Dataset(
        name="gsm8k",
        summary="7.5k grade-school word problems",
        split="train",
        benchmarks=("gsm8k-test",),
        expected_rows=7473,
        **ROWS,
    )


@hookimpl
def tina_benchmarks():
    yield Benchmark(
        name="gsm8k-test",
        summary="1,319 grade-school word problems",
        split="test",
        max_new_tokens=512,
        expected_rows=1319,
        **ROWS,
    )
