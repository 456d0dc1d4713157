"""tina merge: an adapter put into its model."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tina_harness.cli.common import RunReference, load_registry, runs_dir_option, runs_root
from tina_harness.errors import TinaError


@click.command()
@click.argument("run", metavar="RUN[@STEP|@best|@transition]", type=RunReference())
@click.argument("destination", metavar="DEST", type=click.Path(path_type=Path))
@runs_dir_option
def command(run: str, destination: Path, runs_dir: str | None) -> None:
    """Write a run's model with a checkpoint's adapter merged into its weights, as safetensors.

    RUN takes its last checkpoint; RUN@STEP, RUN@best and RUN@transition that one. DEST is a folder that any
    tool of the field loads, and so does `tina eval DEST`.

    \b
    Example:
      tina merge latest my-model
    """
    from tina_harness import planning
    from tina_harness.evaluation.adapters import check_adapter
    from tina_harness.hardware import detect
    from tina_harness.reporting.console import Console
    from tina_harness.runs import reference
    from tina_harness.training.merge import merge

    able = (reference.has_adapter, "has an adapter")
    found, step, checkpoint = reference.one_checkpoint(run, runs_root(runs_dir), able)
    if found.manifest()["config"].get("full"):
        raise TinaError(
            f"{found.id} was trained in full: there is no adapter to merge", f"the model is {checkpoint}"
        )
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise TinaError(f"{destination} exists and is not an empty folder", "choose another DEST")
    registry = load_registry()
    name = found.manifest()["model"]["name"]
    model = planning.choose_model(name, registry, detect(registry.catalogue))
    folder, _ = planning.locate(model, registry)
    check_adapter(checkpoint, folder)
    with Console().quiet(Path(os.devnull)):
        merge(folder, checkpoint, destination)
    click.echo(f"{destination}: {name} with the adapter of {found.id}, step {step}")
