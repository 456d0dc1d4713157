"""tina mirror: copies for a machine without network."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tina_harness.cli.common import Name, json_option, load_registry, print_rows
from tina_harness.errors import TinaError, did_you_mean
from tina_harness.registry import Registry

if TYPE_CHECKING:
    from tina_harness.data.mirror import Copied


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME... DEST", type=Name("dataset"))
@click.option("--kind", type=click.Choice(["dataset", "model"]), help="Of a hub id (OWNER/NAME).")
@json_option
def command(names: tuple[str, ...], kind: str | None, as_json: bool) -> None:
    """Copy datasets, benchmarks and models to the folder DEST, at their pinned revisions, checksummed.

    NAME is a registry name, or a hub id with --kind. Interrupted, it continues where it was. On the
    other machine, TINA_MIRROR=DEST; it may name several folders, separated as in PATH.

    \b
    Example:
      tina mirror limr aime24 r1-distill-qwen-1.5b /media/disk/mirror
    """
    *wanted, destination = names
    if not wanted:
        raise TinaError("NAME or DEST is missing", f"for example: tina mirror limr {destination}")
    registry = load_registry()
    sources = [source for name in wanted for source in _sources(name, kind, registry)]
    rows = [asdict(_copy(repo, of, registry, Path(destination).expanduser())) for repo, of in sources]
    print_rows(rows, as_json)
    if not as_json:
        click.echo(f"use it with:  TINA_MIRROR={destination}")


def _sources(name: str, kind: str | None, registry: Registry) -> list[tuple[str, str]]:
    """(repo, "dataset" or "model") of a name."""
    if kind is not None and name.count("/") == 1:
        return [(name, kind)]
    found = [
        (of, entry.spec)
        for of in ("dataset", "benchmark", "model")
        for entry in registry.entries[of].get(name, ())[:1]
    ]
    if not found:
        everything = [n for of in ("dataset", "benchmark", "model") for n in registry.names(of)]
        hint = did_you_mean(
            name, everything, "'tina list' shows the names; a hub id (OWNER/NAME) needs --kind"
        )
        raise TinaError(f"there is no dataset, benchmark or model '{name}'", hint)
    sources = [(getattr(s, "repo", ""), "model" if of == "model" else "dataset") for of, s in found]
    if not any(repo for repo, _ in sources):
        raise TinaError(f"'{name}' comes with the package: there is nothing to copy")
    return [source for source in sources if source[0]]


def _copy(repo: str, kind: str, registry: Registry, destination: Path) -> Copied:
    from tina_harness.data import hub, mirror

    patterns = hub.MODEL_FILES if kind == "model" else mirror.DATA_FILES
    revision = str(registry.catalogue.get("revisions", {}).get(repo, ""))
    try:
        destination.mkdir(parents=True, exist_ok=True)
        source = hub.mirrored(repo)
        if source is not None and source.resolve() != (destination / repo).resolve():
            return mirror.copy_from_folder(source, repo, kind, patterns, destination)
        return hub.download(repo, kind, revision, patterns, destination)
    except OSError as error:
        what = f"{error.strerror}: {error.filename or destination}"
        raise TinaError(
            f"cannot write the mirror: {what}", "free some space, or name another DEST"
        ) from error
