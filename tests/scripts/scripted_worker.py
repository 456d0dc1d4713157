"""A training process whose rollouts and rewards follow from the prompt alone, whatever samples them.

`python -m torch.distributed.run --nproc_per_node N scripted_worker.py RUN_DIRECTORY`
"""

import random

from trl import GRPOTrainer

from tina_harness import worker
from tina_harness.training.rewards import Scorer


def generate(self, prompt_ids, images, fields, num_generations, has_tool_images=False):
    completions = []
    for place, ids in enumerate(prompt_ids):
        chosen = random.Random(f"{ids}{place % self.num_generations}")
        completions.append([chosen.randrange(3, 60) for _ in range(chosen.randrange(4, 12))])
    return completions, None


def functions(self):
    def reward(name, modulus):
        def of(completion_ids, **_):
            return [sum(ids) % modulus / modulus for ids in completion_ids]

        of.__name__ = name
        return of

    return [reward(name, n) for n, name in zip((5, 7), self.rewards, strict=True)]


GRPOTrainer._generate_single_turn = generate
Scorer.functions = functions
if __name__ == "__main__":
    worker.main()
