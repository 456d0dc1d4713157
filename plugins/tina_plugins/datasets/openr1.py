"""OpenR1-Math-220k: 93.7k NuminaMath problems with checked R1 traces (default split)."""

from tina_harness import Dataset, hookimpl


@hookimpl
def tina_datasets():
    yield Dataset(
        name="openr1",
        summary="93.7k NuminaMath problems with checked R1 traces (default split)",
        source="Open-R1, https://github.com/huggingface/open-r1",
        repo="open-r1/OpenR1-Math-220k",
        config="default",
        split="train",
        system="think-answer",
        preset="tina-openr1",
        license="Apache-2.0",
        expected_rows=93_733,
    )
