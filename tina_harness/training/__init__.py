"""A TRL trainer assembled from specs, and what happens at each of its steps."""

from tina_harness.training.train import Training, train

__all__ = ["Training", "train"]
