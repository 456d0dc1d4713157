"""tina list: what can be named."""

from __future__ import annotations

import click

from tina_harness import __version__
from tina_harness.cli.common import json_option, load_registry
from tina_harness.errors import TinaError, did_you_mean
from tina_harness.registry import KINDS

PLURALS = {f"{kind}s": kind for kind in KINDS}
HOME = (f"tina-harness {__version__}", "registry.toml")


@click.command()
@click.argument("kind", required=False, metavar=f"[{'|'.join([*PLURALS, 'presets'])}]")
@json_option
def command(kind: str | None, as_json: bool) -> None:
    """List what can be named: datasets, rewards, algorithms, benchmarks, engines, models, presets.

    \b
    Examples:
      tina list
      tina list benchmarks --json
    """
    if kind and kind not in PLURALS and f"{kind}s" in [*PLURALS, "presets"]:
        kind = f"{kind}s"
    if kind and kind not in [*PLURALS, "presets"]:
        raise TinaError(
            f"there are no '{kind}'", did_you_mean(kind, [*PLURALS, "presets"], ", ".join(PLURALS))
        )
    registry = load_registry()
    rows = []
    for plural, one in PLURALS.items():
        if kind in (None, plural):
            for name in registry.names(one):
                for entry in registry.entries[one][name]:
                    row = {"kind": one, "name": name, "summary": entry.spec.summary, "from": entry.origin}
                    rows.append(row)
    if kind in (None, "presets"):
        presets = registry.catalogue.get("presets", {})
        rows += [
            {"kind": "preset", "name": n, "summary": p.get("summary", ""), "from": "registry.toml"}
            for n, p in sorted(presets.items())
        ]
    for one, name, entries in registry.conflicts():
        origins = " and ".join(e.origin for e in entries)
        click.echo(f"warning: the {one} '{name}' is claimed by {origins}; settle it in [prefer]", err=True)
    if as_json:
        from tina_harness.reporting.tables import as_json as to_json

        click.echo(to_json(rows))
    else:
        _print(rows)


def _print(rows: list[dict[str, str]]) -> None:
    """A section a kind; aligned here, because importing tabulate takes as long as all the rest."""
    lines = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        section = [row for row in rows if row["kind"] == kind]
        width = max(len(row["name"]) for row in section)
        lines.append(f"{kind}s:")
        for row in section:
            origin = "" if row["from"] in HOME else f"  [{row['from']}]"
            lines.append(f"  {row['name']:{width}}  {row['summary']}{origin}")
        lines.append("")
    click.echo("\n".join(lines), nl=False)
