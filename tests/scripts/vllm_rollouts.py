"""`tina` with vLLM's colocated rollouts on a CPU: `vllm_rollouts.py [deaf] WORDS...`.

On a CPU vLLM packs the weights of linear layers, after which it cannot take new ones; here they stay as they
are. "deaf": the engine does not take new weights at all, as one that ignores the adapter.
"""

import sys

import torch
from trl.generation.vllm_generation import VLLMGeneration
from vllm.model_executor.layers import linear, utils, vocab_parallel_embedding

from tina_harness import planning
from tina_harness.cli import main


def plain(layer, remove_weight):
    layer.cpu_linear = torch.nn.functional.linear


for module in (linear, utils, vocab_parallel_embedding):
    if hasattr(module, "dispatch_cpu_unquantized_gemm"):
        module.dispatch_cpu_unquantized_gemm = plain
chosen = planning.choose_engine


def without_a_gpu(name, registry, hardware):
    engine = chosen(name, registry, hardware)
    object.__setattr__(engine, "needs_gpu", False)
    return engine


planning.choose_engine = without_a_gpu
if sys.argv[1] == "deaf":
    VLLMGeneration.sync_weights = lambda self: None
if __name__ == "__main__":  # vLLM starts processes that import this again
    main([word for word in sys.argv[1:] if word != "deaf"])
