"""tina show: what a name is, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from tina_harness.cli.common import Name, json_option, load_registry
from tina_harness.errors import TinaError, did_you_mean
from tina_harness.registry import KINDS, Registry


@click.command()
@click.argument("name", type=Name(*KINDS, "preset"))
@json_option
def command(name: str, as_json: bool) -> None:
    """Show what NAME is: its kind, distribution and version, source, revision and defaults.

    \b
    Example:
      tina show limr
    """
    from tina_harness.reporting import tables

    registry = load_registry()
    found = [_spec(registry, kind, entry) for kind, entry in registry.find(name)] + _preset(registry, name)
    if not found:
        known = {n for kind in KINDS for n in registry.names(kind)} | set(
            registry.catalogue.get("presets", {})
        )
        for kind in KINDS:  # a broken or disabled plugin explains itself
            hint = registry._why_missing(kind, name)
            if "plugin" in hint.partition("\n")[0]:
                raise TinaError(f"there is no '{name}'", hint)
        raise TinaError(f"there is no '{name}'", did_you_mean(name, known, "'tina list' shows all names"))
    if as_json:
        click.echo(tables.as_json(found))
        return
    for record in found:
        click.echo(
            tables.as_table(
                [{"": k, name: v if isinstance(v, str) else tables.cell(v)} for k, v in record.items()]
            )
        )
        click.echo()


def _spec(registry: Registry, kind: str, entry: Any) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": kind, "from": entry.origin}
    if entry.plugin:
        record["plugin"] = entry.plugin.value
    for field in entry.spec.fields:
        value = getattr(entry.spec, field)
        if callable(value):
            value = f"{value.__module__}.{value.__qualname__}"
        elif isinstance(value, Mapping):
            value = ", ".join(f"{k} = {v}" for k, v in value.items())
        if value not in (None, "", (), 0) and field != "name":
            record[field] = value
    if repo := getattr(entry.spec, "repo", ""):
        record["revision"] = registry.catalogue.get("revisions", {}).get(repo) or "not pinned: the newest"
    if (prompt := record.get("prompt") or record.get("system")) and prompt in registry.catalogue["prompts"]:
        record["prompt text"] = registry.catalogue["prompts"][prompt]["text"].strip()
    return record


def _preset(registry: Registry, name: str) -> list[dict[str, Any]]:
    preset = registry.catalogue.get("presets", {}).get(name)
    if preset is None:
        return []
    from tina_harness.config import Layers

    resolved = Layers(registry).add_preset(name)
    values = dict(sorted(resolved.origins.items()))
    record = {"kind": "preset", "from": "registry.toml"}
    record |= {k: preset[k] for k in ("summary", "source", "extends") if k in preset}
    record |= {f"grid {k}": ", ".join(map(str, v)) for k, v in preset.get("grid", {}).items()}
    for key, origin in values.items():
        value: Any = resolved.values
        for part in key.split("."):
            value = value[part]
        record[key] = value if origin == f"preset {name}" else f"{value}  ({origin})"
    return [record]
