"""Dr.GRPO: GRPO without its length and difficulty biases (Liu et al. 2025, section 3.2)."""

from tina_harness import Algorithm, hookimpl


@hookimpl
def tina_algorithms():
    yield Algorithm(
        name="drgrpo",
        summary="advantage r - mean, no std; token losses summed and divided by a constant length",
        source="Understanding R1-Zero-Like Training, https://arxiv.org/abs/2503.20783, sec. 3.2",
        settings={
            "loss_type": "dr_grpo",
            "scale_rewards": "none",
            "num_iterations": 1,
            "epsilon": 0.2,
            "use_bias_correction_kl": False,  # TRL's default, True, is not in the paper
        },
    )
