"""Open-RS: 7k problems mixed from open-s1 and open-deepscaler."""

from tina_harness import Dataset, hookimpl


@hookimpl
def tina_datasets():
    yield Dataset(
        name="open-rs",
        summary="7k problems mixed from open-s1 and open-deepscaler",
        source="Reinforcement Learning for Reasoning in Small LLMs, https://arxiv.org/abs/2503.16219",
        repo="knoveleng/open-rs",
        split="train",
        system="think-boxed",
        preset="tina-open-rs3",
        license="MIT",
        expected_rows=7_000,
    )
