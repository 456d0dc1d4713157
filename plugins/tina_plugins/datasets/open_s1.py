"""Open-S1: 18.6k problems filtered from s1."""

from tina_harness import Dataset, hookimpl


@hookimpl
def tina_datasets():
    yield Dataset(
        name="open-s1",
        summary="18.6k problems filtered from s1",
        source="Reinforcement Learning for Reasoning in Small LLMs, https://arxiv.org/abs/2503.16219",
        repo="knoveleng/open-s1",
        split="train",
        system="think-boxed",
        preset="tina-open-rs1",
        license="MIT",
        expected_rows=18_615,
    )
