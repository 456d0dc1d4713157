"""tina publish: a run's result on the hub."""

from __future__ import annotations

import re

import click

from tina_harness.cli.common import RunReference, load_registry, runs_dir_option, runs_root
from tina_harness.errors import TinaError


@click.command()
@click.argument("run", metavar="RUN[@STEP|@best|@transition]", type=RunReference())
@click.option("--repo", required=True, metavar="OWNER/NAME", help="Where it goes on the hub.")
@click.option("--private", is_flag=True, help="Where the repository is made: only for its owner.")
@click.option("--dry-run", is_flag=True, help="Write the folder and upload nothing.")
@runs_dir_option
def command(run: str, repo: str, private: bool, dry_run: bool, runs_dir: str | None) -> None:
    """Upload a checkpoint with a model card: recipe, data, results with intervals, cost, metrics.

    RUN takes its last checkpoint. The folder stays in the run directory, under publish/, and holds no path
    of this machine. The login is that of 'hf auth login' or HF_TOKEN.

    \b
    Example:
      tina publish latest --repo me/tina-limr --dry-run
    """
    from tina_harness import publishing
    from tina_harness.runs import reference

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise TinaError(f"--repo {repo}: a repository is OWNER/NAME", "for example --repo me/tina-limr")
    found, step, checkpoint = reference.one_checkpoint(run, runs_root(runs_dir))
    folder = found.path / "publish"
    publishing.write_folder(found, step, checkpoint, repo, folder, load_registry())
    click.echo(f"{folder}: {', '.join(sorted(p.name for p in folder.iterdir()))}")
    if dry_run:
        click.echo("nothing was uploaded (--dry-run)")
        return
    click.echo(publishing.upload(folder, repo, private))
