"""From scores to numbers: metrics, their intervals, and comparisons."""

from tina_harness.statistics.comparisons import Comparison, compare
from tina_harness.statistics.intervals import Interval, bootstrap_mean
from tina_harness.statistics.metrics import counted, estimate, majority, pass_at_k, unit_of

__all__ = [
    "Comparison",
    "Interval",
    "bootstrap_mean",
    "compare",
    "counted",
    "estimate",
    "majority",
    "pass_at_k",
    "unit_of",
]
