"""The random streams of a training: taken, put back, and written as the trainer reads them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch


def random_state(one_gpu: bool = False) -> dict[str, Any]:
    """The state of every stream that a checkpoint keeps; of the current GPU only, or of all."""
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "cpu": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available():
        gpu = torch.cuda.random
        state["cuda"] = gpu.get_rng_state() if one_gpu else gpu.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Go back to it."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.random.set_rng_state(state["cpu"])
    if "cuda" in state:
        one = isinstance(state["cuda"], torch.Tensor)
        (torch.cuda.random.set_rng_state if one else torch.cuda.random.set_rng_state_all)(state["cuda"])


def save_random_states(states: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write those of all processes, by rank, under the names that `transformers.Trainer` looks for."""
    for rank, state in enumerate(states):
        torch.save(state, folder / ("rng_state.pth" if len(states) == 1 else f"rng_state_{rank}.pth"))
