"""What plugin authors call in their own tests."""

from tina_harness.testing.hostile import HOSTILE, Hostile

__all__ = ["HOSTILE", "Hostile"]
