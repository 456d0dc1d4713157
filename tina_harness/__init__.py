"""tina-harness: train and evaluate tiny reasoning models with LoRA and reinforcement learning.

The names a plugin author needs are here; `tina_harness.hookspecs` says what a plugin can do.
"""

from tina_harness.errors import TinaError
from tina_harness.hookspecs import hookimpl
from tina_harness.specs import (
    Algorithm,
    Benchmark,
    Completion,
    Dataset,
    Engine,
    EngineSession,
    Model,
    Problem,
    Reward,
    RewardContext,
    Sampling,
)

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "Benchmark",
    "Completion",
    "Dataset",
    "Engine",
    "EngineSession",
    "Model",
    "Problem",
    "Reward",
    "RewardContext",
    "Sampling",
    "TinaError",
    "hookimpl",
]
