"""tina compare: can the data tell two models apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tina_harness.cli.common import Name, RunReference, json_option, print_rows, runs_dir_option, runs_root
from tina_harness.errors import TinaError


@click.command()
@click.argument("a", metavar="A", type=RunReference())
@click.argument("b", metavar="B", type=RunReference())
@click.option("--bench", type=Name("benchmark"), multiple=True, help="May be repeated [all in common].")
@runs_dir_option
@json_option
def command(a: str, b: str, bench: tuple[str, ...], runs_dir: str | None, as_json: bool) -> None:
    """Compare two evaluated models, problem by problem: difference, 95% interval, p-value, in words.

    A and B are RUN (its last checkpoint that was evaluated), RUN@STEP, RUN@base, RUN@best or RUN@transition;
    RUN is an id, a unique prefix, a path or "latest".

    \b
    Examples:
      tina compare latest@base latest
      tina compare 20261123-1015@180 20261123-1410@180 --bench aime24
    """
    from tina_harness.evaluation.statistics import compare
    from tina_harness.reporting import tables

    parent = runs_root(runs_dir)
    first, second = _scores(a, parent), _scores(b, parent)
    names = list(bench) or sorted(first.keys() & second.keys())
    missing = [f"{n} of {t}" for n in names for t, s in ((a, first), (b, second)) if n not in s]
    if not names or missing:
        raise TinaError(
            f"not evaluated: {', '.join(missing)}" if missing else f"{a} and {b} have no benchmark in common",
            f"{a} has {', '.join(first) or 'none'}; {b} has {', '.join(second) or 'none'}",
        )
    rows: list[dict[str, Any]] = []
    for name in names:
        try:
            found = compare(first[name], second[name])
        except ValueError as error:
            raise TinaError(
                f"{a} and {b} were evaluated on different problems of {name}", str(error)
            ) from error
        rows.append(
            {
                "benchmark": name,
                "problems": found.problems,
                "A": 100 * found.a,
                "B": 100 * found.b,
                "B - A": 100 * found.difference.mean,
                "ci95": [100 * found.difference.low, 100 * found.difference.high],
                "p": found.p_value,
                "verdict": found.verdict,
            }
        )
    if as_json:
        click.echo(tables.as_json(rows))
        return
    print_rows([{k: v for k, v in row.items() if k != "verdict"} for row in rows], False)
    click.echo()
    for row in rows:
        click.echo(f"{row['benchmark']}: {row['verdict']}")


def _scores(text: str, parent: Path) -> dict[str, dict[str, float]]:
    """benchmark -> problem id -> mean score of its samples, of one checkpoint of a run."""
    import pyarrow.parquet as pq

    from tina_harness.runs import reference

    run, (*_, wanted) = reference.evaluated(text, parent)
    scores: dict[str, dict[str, float]] = {}
    for benchmark in sorted({r["benchmark"] for r in run.results() if r["checkpoint"] == wanted}):
        path = run.evaluation(wanted, benchmark) / "samples.parquet"
        table = pq.read_table(path, columns=["problem_id", "verdict"]).to_pylist()
        by_problem: dict[str, list[float]] = {}
        for row in table:
            if row["verdict"] not in ("bad_gold", "error"):
                by_problem.setdefault(row["problem_id"], []).append(float(row["verdict"] == "correct"))
        scores[benchmark] = {p: sum(v) / len(v) for p, v in by_problem.items()}
    return scores
