"""drgrpo-tina: what the Tina code's "Dr.GRPO" is meant to compute, which is not the paper's formula.

Without the division by the standard deviation, that code sums the token losses and divides by the number of
completion tokens in the batch, where Liu et al. 2025 divide by a constant. Its published recipe
misspells the setting, which the library it pins drops in silence: as committed, it runs plain GRPO.
"""

from tina_harness import Algorithm, hookimpl


@hookimpl
def tina_algorithms():
    yield Algorithm(
        name="drgrpo-tina",
        summary="advantage r - mean, no std; token losses over the batch's completion tokens",
        source="the public code of Tina, https://arxiv.org/abs/2504.15777",
        settings={
            "loss_type": "bnpo",
            "scale_rewards": "none",
            "num_iterations": 1,
            "epsilon": 0.2,
            "use_bias_correction_kl": False,  # TRL's default, True, is not in that code
        },
    )
