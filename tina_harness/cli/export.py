"""tina export: what is defined here, for other tools."""

from __future__ import annotations

from pathlib import Path

import click

from tina_harness.cli.common import load_registry
from tina_harness.errors import TinaError


@click.group()
def command() -> None:
    """Write what is defined here for other tools to use.

    \b
    Example:
      tina export lighteval tina_tasks.py
    """


@command.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def lighteval(file: Path, force: bool) -> None:
    """Write the benchmarks as a module of lighteval tasks.

    \b
    Example:
      tina export lighteval tina_tasks.py
      lighteval accelerate "model_name=gpt2" "tina:math500|0" --custom-tasks tina_tasks.py
    """
    from tina_harness.lighteval_tasks import export_text

    if file.exists() and not force:
        raise TinaError(f"{file} exists", "choose another name, or --force")
    try:
        file.write_text(export_text(load_registry()), encoding="utf-8")
    except OSError as error:
        raise TinaError(f"{file} cannot be written: {error.strerror}") from error
    click.echo(f"{file}: for lighteval's --custom-tasks")
