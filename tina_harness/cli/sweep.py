"""tina sweep: one run for each point of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tina_harness.cli.common import json_option, load_registry, print_rows, runs_dir_option, runs_root
from tina_harness.cli.run import FLAGS, resolve
from tina_harness.cli.run import command as run_command
from tina_harness.errors import TinaError


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--grid", multiple=True, metavar="KEY=V1,V2", help="Values of one key. May be repeated.")
@click.option("--dry-run", is_flag=True, help="Plan and list the points, and stop.")
@runs_dir_option
@json_option
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF tina run]")
def command(
    grid: tuple[str, ...], dry_run: bool, runs_dir: str | None, as_json: bool, words: tuple[str, ...]
) -> None:
    """Run every combination of some values, one after another, and show one table and one plot.

    KEY is a short name (dataset, algo, lr, lora_rank, seed, ...) or any key of the configuration. A preset
    may bring a grid of its own; a comma in a list or in quotation marks is part of a value. All points are
    planned before the first one starts, so that a wrong value costs nothing. The same command continues a
    sweep that was interrupted: finished points are kept, the others resumed. A point that fails does not stop
    the others.

    \b
    Examples:
      tina sweep --grid lr=1e-4,3e-4 --grid lora_rank=4,16 --max-steps 20
      tina sweep --preset ablation-rank
    """
    from tina_harness import sweeps

    registry = load_registry()

    def options(more: Sequence[str]) -> dict[str, Any]:
        """As a point's own process will read them; misspelt ones end here."""
        with run_command.make_context("run", [*words, *more]) as context:
            return context.params

    preset = options(())["preset"]
    own = registry.catalogue.get("presets", {}).get(preset, {}).get("grid", {}) if preset else {}
    values = sweeps.grid_from(grid, FLAGS, own)
    if not values:
        raise TinaError(
            "a sweep needs --grid or a preset with a grid", "for example --grid lr=5e-7,1e-6,5e-6"
        )
    folder = sweeps.folder_of(runs_root(runs_dir), words, values)
    todo = sweeps.points(values, folder)
    engines = sweeps.check(todo, lambda more: resolve(options(more), registry), registry)
    if dry_run:
        print_rows([{**p.values, "folder": str(p.folder)} for p in todo], as_json)
        return
    try:
        records = sweeps.carry_out(todo, words, engines, lambda line: click.echo(line, err=as_json))
    except KeyboardInterrupt as error:
        click.echo("interrupted; the same command continues", err=True)
        raise SystemExit(error.args[0] if error.args else 130) from None
    rows = sweeps.table(todo, records)
    from tina_harness.reporting.rows import shown

    plot = _plot(rows, list(values), folder)
    click.echo("", err=as_json)
    print_rows(rows if as_json else shown(rows), as_json)
    if plot:
        click.echo(f"\nplot: {plot}", err=as_json)
    if any(r["status"] != "finished" for r in records):
        raise SystemExit(1)


def _plot(rows: list[dict[str, Any]], keys: list[str], folder: Path) -> Path | None:
    from tina_harness.reporting.plots import intervals
    from tina_harness.reporting.rows import shown

    scored = [r for r in shown(rows) if r["score"] is not None]
    if not scored:
        return None
    target = folder / "sweep.png"
    intervals(
        [("\n".join(str(r[k]) for k in keys), r["benchmark"], r["score"], r["ci95"]) for r in scored],
        target,
        "\n".join(keys),
    )
    return target
