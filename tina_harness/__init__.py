"""tina-harness: train and evaluate tiny reasoning models with LoRA and reinforcement learning.

The names a plugin author needs are here; `tina_harness.hookspecs` says what a plugin can do. They
are imported when they are first used, so that `tina --help` starts as fast as click does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tina_harness.errors import TinaError
    from tina_harness.hookspecs import hookimpl
    from tina_harness.specs import (
        Algorithm,
        Benchmark,
        Completion,
        Dataset,
        Engine,
        EngineSession,
        Estimate,
        Metric,
        Model,
        Problem,
        Reward,
        RewardContext,
        Sampling,
        Score,
    )

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "Benchmark",
    "Completion",
    "Dataset",
    "Engine",
    "EngineSession",
    "Estimate",
    "Metric",
    "Model",
    "Problem",
    "Reward",
    "RewardContext",
    "Sampling",
    "Score",
    "TinaError",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = {"TinaError": "errors", "hookimpl": "hookspecs"}.get(name, "specs")
    value = globals()[name] = getattr(import_module(f"tina_harness.{module}"), name)
    return value
