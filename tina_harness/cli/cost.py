"""tina cost: what runs cost, by phase, beside what full-parameter training cost."""

from __future__ import annotations

from typing import Any

import click

from tina_harness.cli.common import (
    RunReference,
    json_option,
    load_registry,
    print_rows,
    runs_dir_option,
    runs_root,
)
from tina_harness.errors import TinaError


@click.command()
@click.argument("references", metavar="RUN...", nargs=-1, required=True, type=RunReference())
@runs_dir_option
@json_option
def command(references: tuple[str, ...], runs_dir: str | None, as_json: bool) -> None:
    """Dollars of runs by phase, over all resumes, and how many of them a published training would pay.

    The price is that of the hardware when the run was started, with its source; the published costs are those
    of [baselines] in registry.toml.

    \b
    Example:
      tina cost latest
    """
    from tina_harness import runs

    registry = load_registry()
    rows: list[dict[str, Any]] = []
    sources = []
    for reference in references:
        run = runs.find(reference, runs_root(runs_dir))
        manifest = run.manifest()
        hardware = manifest.get("hardware", {})
        price, ledger = hardware.get("usd_per_hour"), run.seconds()
        if price is None:
            raise TinaError(
                f"no price is known for {hardware.get('device', f'the hardware of {run.id}')}",
                "add it to a registry.toml:  [hardware.NAME]  match, usd_per_hour, source, date",
            )
        for phase, seconds in [*ledger.items(), ("all", sum(ledger.values()))]:
            usd = run.usd(seconds) or 0.0
            rows.append({"run": run.id, "phase": phase, "seconds": round(seconds, 1), "usd": round(usd, 5)})
        sources.append(
            f"{run.id}: {hardware.get('count', 1)} x {hardware.get('device', 'unknown hardware')} "
            f"at ${price:.2f} an hour ({hardware.get('price_source', 'no source')})"
        )
    total = sum(row["usd"] for row in rows if row["phase"] == "all")
    published = [
        {
            "training": name,
            "usd": b["usd"],
            "ratio": round(b["usd"] / total, 1),
            "source": b["source"],
        }
        for name, b in registry.catalogue.get("baselines", {}).items()
        if total > 0
    ]
    if as_json:
        print_rows([*rows, *published], as_json=True)
        return
    print_rows(rows, as_json=False)
    for line in ["", *sources, ""]:
        click.echo(line)
    if published:
        click.echo("published costs of training other models of 1.5B parameters:")
        print_rows(published, as_json=False)
