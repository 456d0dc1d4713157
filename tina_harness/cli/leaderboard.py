"""tina leaderboard: everything that was evaluated, ranked."""

from __future__ import annotations

from typing import Any

import click

from tina_harness.cli.common import Name, json_option, print_rows, runs_dir_option, runs_root
from tina_harness.errors import TinaError


@click.command()
@click.option("--bench", type=Name("benchmark"), multiple=True, help="Only this benchmark. May be repeated.")
@runs_dir_option
@json_option
def command(bench: tuple[str, ...], runs_dir: str | None, as_json: bool) -> None:
    """Rank everything that was evaluated, with 95% intervals, benchmark by benchmark.

    \b
    Example:
      tina leaderboard --bench aime24
    """
    from tina_harness import runs
    from tina_harness.reporting.tables import numbered, score_rows

    rows: list[dict[str, Any]] = []
    there = [
        (run, [r for r in run.results(_left_out) if not bench or r["benchmark"] in bench])
        for run in runs.all_runs(runs_root(runs_dir))
    ]
    numbers = numbered(r for _, results in there for r in results)
    for run, results in there:
        try:
            rows += score_rows(results, run.usd, numbers)
        except TinaError as error:
            _left_out(error.message)
    rows.sort(key=lambda row: (row["benchmark"], -(row["pass@1"] or 0.0)))
    if bench and not rows:
        raise TinaError(
            f"nothing was evaluated on {', '.join(bench)} yet", "'tina eval MODEL --bench NAME' does it"
        )
    print_rows(rows, as_json)


def _left_out(reason: str) -> None:
    click.echo(f"left out: {reason}", err=True)
