"""DeepScaleR: 40k competition problems: AIME, AMC, Omni-MATH, STILL."""

from tina_harness import Dataset, hookimpl


@hookimpl
def tina_datasets():
    yield Dataset(
        name="deepscaler",
        summary="40k competition problems: AIME, AMC, Omni-MATH, STILL",
        source="DeepScaleR, https://github.com/agentica-project/deepscaler",
        repo="agentica-org/DeepScaleR-Preview-Dataset",
        split="train",
        system="think-answer",
        preset="tina-deepscaler",
        license="MIT",
        expected_rows=40_315,
    )
