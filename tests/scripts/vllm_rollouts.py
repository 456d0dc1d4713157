"""`tina` with vLLM's rollouts on a CPU: `vllm_rollouts.py [deaf] WORDS...`.

"deaf": the engine does not take new weights at all, as one that ignores the adapter.
"""

import sys

import vllm_on_cpu  # noqa: F401
from trl.generation.vllm_generation import VLLMGeneration

from tina_harness import planning
from tina_harness.cli import main

planning._need_gpu = lambda *_: None
if sys.argv[1] == "deaf":
    VLLMGeneration.sync_weights = lambda self: None
if __name__ == "__main__":  # vLLM starts processes that import this again
    main([word for word in sys.argv[1:] if word != "deaf"])
