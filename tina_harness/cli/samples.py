"""tina samples: read what a model wrote."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from tina_harness.cli.common import Name, RunReference, json_option, runs_dir_option, runs_root


@click.command()
@click.argument("run", metavar="RUN[@STEP|@base|@best|@transition|@all]", type=RunReference())
@click.option("--bench", type=Name("benchmark"), help="Only this benchmark.")
@click.option("--wrong", is_flag=True, help="Only samples that are not correct.")
@click.option("--right", is_flag=True, help="Only correct samples.")
@click.option("--full", is_flag=True, help="Show the thinking, too.")
@runs_dir_option
@json_option
def command(
    run: str,
    bench: str | None,
    wrong: bool,
    right: bool,
    full: bool,
    runs_dir: str | None,
    as_json: bool,
) -> None:
    """Page through the completions of an evaluation, with answer, gold and verdict; thinking is folded.

    \b
    Examples:
      tina samples latest --bench aime24 --wrong
      tina samples latest@base --full
    """
    import pyarrow.parquet as pq

    from tina_harness.reporting import tables
    from tina_harness.runs import reference

    name, which = reference.split(run)
    found, labels = reference.evaluated(
        run if which else f"{name}@all", runs_root(runs_dir), [bench] if bench else []
    )
    results = [r for r in found.results() if r["checkpoint"] in labels and bench in (None, r["benchmark"])]
    results.sort(key=lambda r: labels.index(r["checkpoint"]))
    files = [found.samples_of(r) for r in results]
    rows = [
        {"evaluation": path.parent.name, **row}
        for path in files
        for row in pq.read_table(path).to_pylist()
        if not (wrong and row["verdict"] == "correct") and not (right and row["verdict"] != "correct")
    ]
    if as_json:
        click.echo(tables.as_json(rows))
        return
    click.echo_via_pager(_pages(rows, full))


def _pages(rows: list[dict[str, Any]], full: bool) -> Iterator[str]:
    for number, row in enumerate(rows, start=1):
        head = (
            f"{number}/{len(rows)}  {row['evaluation']}  problem {row['problem_id']}  sample {row['sample']}"
        )
        gold = f"gold {row['gold']}   answer {row['answer']}   {row['verdict']} ({row['rule']})"
        yield _clean(f"{head}\n{gold}   {row['tokens']} tokens, {row['stop_reason']}\n")
        yield _clean(f"\n{_folded(row['completion'], full)}\n\n{'-' * 80}\n")
    if not rows:
        yield "none\n"


def _folded(text: str, full: bool) -> str:
    """The completion, its thinking as one line."""
    before, closed, after = text.rpartition("</think>")
    if full or not closed:
        return text
    return f"[thinking, {len(before)} characters: --full shows it]\n{after.strip()}"


def _clean(text: str) -> str:
    """Without control characters: a completion may hold anything."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
