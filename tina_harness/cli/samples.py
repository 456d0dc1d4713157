"""tina samples: read what a model wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tina_harness.cli.common import Name, RunReference, json_option, runs_dir_option, runs_root
from tina_harness.errors import TinaError

if TYPE_CHECKING:
    from tina_harness.runs import Run


@click.command()
@click.argument("run", metavar="RUN[@STEP]", type=RunReference())
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

    from tina_harness import runs
    from tina_harness.reporting import tables

    name, _, step = run.partition("@")
    found = runs.find(
        name, runs_root(runs_dir), lambda run: bool(_files(run, step, bench)), "has such samples"
    )
    files = _files(found, step, bench)
    if not files:
        there = ", ".join(sorted(p.parent.name for p in found.path.glob("evals/*/samples.parquet")))
        raise TinaError(f"{found.id} has no such samples", f"it has: {there or 'none'}")
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


def _files(run: Run, step: str, bench: str | None) -> list[Path]:
    """The samples of one checkpoint ("" for all), on one benchmark or all."""
    prefix = (
        "" if not step else "base-" if step == "base" else f"step-{int(step):06d}-" if step.isdigit() else "?"
    )
    return [
        path
        for path in sorted(run.path.glob("evals/*/samples.parquet"))
        if path.parent.name.startswith(prefix) and (not bench or path.parent.name.endswith(f"-{bench}"))
    ]


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
