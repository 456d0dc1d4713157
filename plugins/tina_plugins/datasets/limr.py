"""LIMR: 1,389 problems chosen from MATH by how well they track learning."""

from tina_harness import Dataset, hookimpl


@hookimpl
def tina_datasets():
    yield Dataset(
        name="limr",
        summary="1,389 problems chosen from MATH by how well they track learning",
        source="LIMR: Less is More for RL Scaling, https://arxiv.org/abs/2502.11886",
        repo="GAIR/LIMR",
        split="train",
        problem="prompt",
        system="think-answer",
        preset="tina-limr",
        license="see its page on the hub",
        expected_rows=1_389,
    )
