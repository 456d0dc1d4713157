"""tina runs: the runs there are."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from tina_harness.cli.common import json_option, print_rows, runs_dir_option, runs_root
from tina_harness.errors import TinaError


@click.command()
@runs_dir_option
@json_option
def command(runs_dir: str | None, as_json: bool) -> None:
    """List the runs, newest last.

    \b
    Example:
      tina runs --json
    """
    from tina_harness import runs

    rows: list[dict[str, Any]] = []
    for run in runs.all_runs(runs_root(runs_dir)):
        with contextlib.suppress(TinaError):
            manifest = run.manifest()
            config = manifest.get("config", {})
            metrics, seconds = run.metrics(), sum(run.seconds().values())
            rows.append(
                {
                    "run": run.id,
                    "status": run.status(),
                    "dataset": config.get("dataset") if manifest.get("kind") == "training" else None,
                    "algo": config.get("algo") if manifest.get("kind") == "training" else None,
                    "model": manifest.get("model", {}).get("name"),
                    "steps": f"{metrics[-1]['step'] if metrics else 0}/{manifest.get('steps', 0)}",
                    "seconds": round(seconds, 1),
                    "usd": run.usd(seconds),
                }
            )
    print_rows(rows, as_json)
