"""Everything a plugin can say, one function each. Read this page first.

A plugin is a module (or object) that an installed distribution names in the entry-point group
`tina_harness`. Its functions, named as below and marked `@hookimpl`, are called by `tina`. The
first eight offer things by name; the rest are told what happens in a run. Any argument may be
left out of an implementation. Functions are called in pluggy's order (the plugin that came last comes first,
`tryfirst` before, `trylast` after); hook wrappers are refused. One that raises costs a warning, not the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

from tina_harness.discovery import GROUP
from tina_harness.specs import Algorithm, Benchmark, Dataset, Engine, Metric, Model, Reward

if TYPE_CHECKING:
    from pathlib import Path

    import click

    from tina_harness.runs import Run

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def tina_datasets() -> Iterable[Dataset]:  # type: ignore[empty-body]
    """Datasets to train on: `--dataset NAME`."""


@hookspec
def tina_rewards() -> Iterable[Reward]:  # type: ignore[empty-body]
    """Reward functions: `[rewards.NAME]` in a recipe, `--reward NAME=WEIGHT`."""


@hookspec
def tina_algorithms() -> Iterable[Algorithm]:  # type: ignore[empty-body]
    """Reinforcement-learning algorithms: `--algo NAME`."""


@hookspec
def tina_benchmarks() -> Iterable[Benchmark]:  # type: ignore[empty-body]
    """Benchmarks to evaluate on: `--bench NAME`."""


@hookspec
def tina_engines() -> Iterable[Engine]:  # type: ignore[empty-body]
    """Engines that sample completions: `--engine NAME`."""


@hookspec
def tina_models() -> Iterable[Model]:  # type: ignore[empty-body]
    """Models: `--model NAME`."""


@hookspec
def tina_estimators() -> Iterable[Metric]:  # type: ignore[empty-body]
    """Metrics: `--metric NAME`. (`tina_metrics` below is told of each step of a training.)"""


@hookspec
def tina_commands(cli: click.Group) -> None:
    """Add commands of your own to the `tina` command line: `cli.add_command(...)`."""


@hookspec
def tina_run_started(run: Run) -> None:
    """A run has a directory and a manifest, and is about to load its model."""


@hookspec
def tina_metrics(run: Run, metrics: Mapping[str, Any]) -> None:
    """One optimizer step is done; `metrics` is the line that `metrics.jsonl` got."""


@hookspec
def tina_checkpoint_saved(run: Run, path: Path, step: int) -> None:
    """A checkpoint is whole on disk at `path`."""


@hookspec
def tina_evaluated(run: Run, result: Mapping[str, Any]) -> None:
    """One checkpoint has been scored on one benchmark; `result` is its `results.json`."""


@hookspec
def tina_run_finished(run: Run, status: str) -> None:
    """The run has ended: "finished", "interrupted" or "failed"."""
