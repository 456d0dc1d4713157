"""tina leaderboard: everything that was evaluated, ranked."""

from __future__ import annotations

import click

from tina_harness.cli.common import Name, json_option, runs_dir_option, runs_root, uncollected
from tina_harness.errors import TinaError


@click.command()
@click.option("--bench", type=Name("benchmark"), multiple=True, help="Only this benchmark. May be repeated.")
@runs_dir_option
@json_option
@uncollected()
def command(bench: tuple[str, ...], runs_dir: str | None, as_json: bool) -> None:
    """Rank everything that was evaluated, with 95% intervals, benchmark by benchmark.

    Only results that were obtained in the same way (problems, scorer, prompt, sampling, engine) are ranked
    together; a line above each table says how.

    \b
    Example:
      tina leaderboard --bench aime24
    """
    from tina_harness import runs
    from tina_harness.reporting import rows, tables

    results = [
        r
        for run in runs.all_runs(runs_root(runs_dir))
        for r in run.results(_left_out)
        if not bench or r["benchmark"] in bench
    ]
    if bench and not results:
        raise TinaError(
            f"nothing was evaluated on {', '.join(bench)} yet", "'tina eval MODEL --bench NAME' does it"
        )
    groups = rows.ranked(results)
    if as_json:
        click.echo(tables.as_json([row for _, group in groups for row in group]))
        return
    for heading, group in groups:
        click.echo(f"{heading}\n\n{tables.as_table(rows.shown(group))}\n")
    if not groups:
        click.echo(tables.as_table([]))


def _left_out(reason: str) -> None:
    click.echo(f"left out: {reason}", err=True)
