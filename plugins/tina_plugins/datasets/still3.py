"""STILL-3: 30k problems used to train STILL-3-1.5B-preview."""

from tina_harness import Dataset, hookimpl


@hookimpl
def tina_datasets():
    yield Dataset(
        name="still3",
        summary="30k problems used to train STILL-3-1.5B-preview",
        source="STILL-3, https://github.com/RUCAIBox/Slow_Thinking_with_LLMs",
        repo="RUC-AIBOX/STILL-3-Preview-RL-Data",
        split="train",
        problem="question",
        system="think-answer",
        preset="tina-still3",
        license="see its page on the hub",
        expected_rows=29_925,
    )
