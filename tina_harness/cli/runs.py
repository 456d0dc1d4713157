"""tina runs: the runs there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tina_harness.cli.common import json_option, print_rows, runs_dir_option, runs_root, uncollected
from tina_harness.errors import TinaError

if TYPE_CHECKING:
    from tina_harness.runs import Run

COLUMNS = ("status", "dataset", "algo", "model", "steps", "seconds", "usd")


@click.command()
@runs_dir_option
@json_option
@uncollected()
def command(runs_dir: str | None, as_json: bool) -> None:
    """List the runs, newest last.

    \b
    Example:
      tina runs --json
    """
    from tina_harness import runs

    print_rows([_row(run) for run in runs.all_runs(runs_root(runs_dir))], as_json)


def _row(run: Run) -> dict[str, Any]:
    from tina_harness.runs import ledger

    row: dict[str, Any] = {"run": run.id, **dict.fromkeys(COLUMNS)}
    try:
        manifest, newest = run.manifest(), run.newest()
        seconds = sum(ledger.seconds_by_phase(manifest, newest).values())
        if manifest.get("kind") == "training":
            row |= {key: manifest.get("config", {}).get(key) for key in ("dataset", "algo")}
        return row | {
            "status": ledger.status(manifest, newest),
            "model": manifest.get("model", {}).get("name"),
            "steps": f"{newest['step'] if newest else 0}/{manifest.get('steps', 0)}",
            "seconds": round(seconds, 1),
            "usd": ledger.usd(manifest.get("hardware", {}), seconds),
        }
    except (TinaError, OSError) as error:
        return row | {"status": f"unreadable: {error.message if isinstance(error, TinaError) else error}"}
