"""A TRL trainer assembled from specs, and what happens at each of its steps."""

from tina_harness.training.settings import Training
from tina_harness.training.train import train

__all__ = ["Training", "train"]
