"""GRPO: group-relative policy optimisation (Shao et al. 2024, DeepSeekMath, eq. 3)."""

from tina_harness import Algorithm, hookimpl


@hookimpl
def tina_algorithms():
    yield Algorithm(
        name="grpo",
        summary="advantage (r - mean) / std in the group; loss averaged per sequence, then over sequences",
        source="DeepSeekMath, https://arxiv.org/abs/2402.03300, eq. 3",
        settings={
            "loss_type": "grpo",
            "scale_rewards": "group",
            "num_iterations": 1,
            "epsilon": 0.2,
            "use_bias_correction_kl": False,  # TRL's default, True, is not in the paper
        },
    )
