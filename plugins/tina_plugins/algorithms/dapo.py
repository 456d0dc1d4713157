"""DAPO: token-level loss and a higher upper clip, without a KL term (Yu et al. 2025, eq. 8 to 12).

Its soft overlong punishment is the reward `soft_overlong`. Its dynamic sampling, which replaces groups
without signal, is not done: how many there are is in the metrics (`groups_without_signal`).
"""

from tina_harness import Algorithm, hookimpl


@hookimpl
def tina_algorithms():
    yield Algorithm(
        name="dapo",
        summary="token losses averaged over all tokens of the step; ratio clipped to [0.8, 1.28]; no KL",
        source="DAPO, https://arxiv.org/abs/2503.14476, eq. 8 to 12",
        settings={
            "loss_type": "dapo",
            "scale_rewards": "group",
            "num_iterations": 1,
            "epsilon": 0.2,
            "epsilon_high": 0.28,
            "beta": 0.0,
        },
    )
