"""tina resume: continue a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tina_harness.cli.common import RunReference, json_option, load_registry, runs_dir_option, runs_root

if TYPE_CHECKING:
    from tina_harness.runs import Run


@click.command()
@click.argument("run", type=RunReference())
@runs_dir_option
@json_option
def command(run: str, runs_dir: str | None, as_json: bool) -> None:
    """Continue a run that was interrupted or killed, from its last checkpoint.

    RUN is an id, a unique prefix, a path, or "latest".

    \b
    Example:
      tina resume latest
    """
    from tina_harness import orchestrator, runs
    from tina_harness.cli.run import _start

    found = runs.find(run, runs_root(runs_dir), _resumable, "can be resumed")
    registry = load_registry()
    _start(lambda console: orchestrator.resume(found, registry, console), as_json)


def _resumable(run: Run) -> bool:
    return run.manifest().get("kind") == "training" and run.status() not in ("finished", "running")
