"""Rank 1 stands still in the rollouts of the third step."""

import os

if os.environ["RANK"] == "1":
    import signal

    from trl import GRPOTrainer

    generate = GRPOTrainer._generate_single_turn

    def stand_still(self, *words, **options):
        if self.state.global_step == 2:
            os.kill(os.getpid(), signal.SIGSTOP)
        return generate(self, *words, **options)

    GRPOTrainer._generate_single_turn = stand_still
