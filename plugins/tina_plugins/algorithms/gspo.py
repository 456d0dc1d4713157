"""GSPO: the importance ratio of a whole sequence, clipped as one (Zheng et al. 2025, eq. 5 to 7)."""

from tina_harness import Algorithm, hookimpl


@hookimpl
def tina_algorithms():
    yield Algorithm(
        name="gspo",
        summary="one length-normalised ratio a sequence, clipped to [1 - 3e-4, 1 + 4e-4]; no KL",
        source="Group Sequence Policy Optimization, https://arxiv.org/abs/2507.18071, eq. 5 to 7, sec. 5.1",
        settings={
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "scale_rewards": "group",
            "num_iterations": 1,
            "epsilon": 3e-4,
            "epsilon_high": 4e-4,
            "beta": 0.0,
        },
    )
