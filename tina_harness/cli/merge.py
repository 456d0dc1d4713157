"""tina merge: an adapter put into its model."""

from __future__ import annotations

from pathlib import Path

import click

from tina_harness.cli.common import RunReference, load_registry, runs_dir_option, runs_root
from tina_harness.errors import TinaError


@click.command()
@click.argument("run", metavar="RUN[@STEP]", type=RunReference())
@click.argument("destination", metavar="DEST", type=click.Path(path_type=Path))
@runs_dir_option
def command(run: str, destination: Path, runs_dir: str | None) -> None:
    """Write a run's model with a checkpoint's adapter merged into its weights, as safetensors.

    RUN takes its last checkpoint, RUN@STEP that one. DEST is a folder that any tool of the field loads, and
    so does `tina eval DEST`.

    \b
    Example:
      tina merge latest my-model
    """
    from tina_harness import planning, runs
    from tina_harness.evaluation.adapters import check_adapter
    from tina_harness.hardware import detect
    from tina_harness.training.merge import merge

    reference, _, step = run.partition("@")
    found = runs.find(reference, runs_root(runs_dir))
    kept = dict(found.checkpoints())
    if not kept:
        raise TinaError(f"{found.id} has no checkpoint", "only a training has")
    if step and not (step.isdigit() and int(step) in kept):
        raise TinaError(f"{found.id} has no checkpoint '{step}'", f"it has: {', '.join(map(str, kept))}")
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise TinaError(f"{destination} exists and is not an empty folder", "choose another DEST")
    registry = load_registry()
    name = found.manifest()["model"]["name"]
    model = planning.choose_model(name, registry, detect(registry.catalogue))
    folder, _ = planning.locate(model, registry)
    adapter = kept[int(step) if step else max(kept)]
    check_adapter(adapter, folder)
    merge(folder, adapter, destination)
    click.echo(f"{destination}: {name} with the adapter of {found.id}, step {step or max(kept)}")
