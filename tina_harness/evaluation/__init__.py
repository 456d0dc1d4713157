"""Sampling benchmarks through an engine, grading the samples, and saying how sure the numbers are."""

from tina_harness.evaluation.evaluate import Subject, Task, evaluate
from tina_harness.statistics import Interval, bootstrap_mean

__all__ = ["Interval", "Subject", "Task", "bootstrap_mean", "evaluate"]
