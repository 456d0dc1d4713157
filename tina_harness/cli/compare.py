"""tina compare: can the data tell two models apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tina_harness.cli.common import Name, RunReference, json_option, print_rows, runs_dir_option, runs_root
from tina_harness.errors import TinaError

if TYPE_CHECKING:
    from tina_harness.evaluation.statistics import Comparison


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
            (a_unit, a_scores), (b_unit, b_scores) = first[name], second[name]
            found = compare(a_scores, b_scores, share=a_unit == b_unit == "share")
        except ValueError as error:
            raise TinaError(
                f"{a} and {b} were evaluated on different problems of {name}", str(error)
            ) from error
        rows.append({"benchmark": name, **_cells(found)})
    if as_json:
        click.echo(tables.as_json(rows))
        return
    print_rows([{k: v for k, v in row.items() if k != "verdict"} for row in rows], False)
    click.echo()
    for row in rows:
        click.echo(f"{row['benchmark']}: {row['verdict']}")


def _cells(found: Comparison) -> dict[str, Any]:
    """A comparison as a row: in percent, or as the numbers are where the scores are no shares."""
    factor = 100 if found.share else 1
    mean, *ends = found.difference
    return {
        "problems": found.problems,
        "A": factor * found.a,
        "B": factor * found.b,
        "B - A": factor * mean,
        "ci95": [factor * end for end in ends if end is not None] or None,
        "unit": "%" if found.share else "number",
        "p": found.p_value,
        "verdict": found.verdict,
    }


def _scores(text: str, parent: Path) -> dict[str, tuple[str, dict[str, float]]]:
    """benchmark -> (unit, problem id -> mean score of its samples), of one checkpoint of a run."""
    import pyarrow.parquet as pq

    from tina_harness.runs import reference

    run, (*_, wanted) = reference.evaluated(text, parent)
    scores: dict[str, tuple[str, dict[str, float]]] = {}
    for benchmark, result in {r["benchmark"]: r for r in run.results() if r["checkpoint"] == wanted}.items():
        path = run.evaluation(wanted, benchmark) / "samples.parquet"
        columns = [c for c in ("problem_id", "verdict", "score") if c in pq.read_schema(path).names]
        by_problem: dict[str, list[float]] = {}
        for row in pq.read_table(path, columns=columns).to_pylist():
            if (score := _score(row)) is not None:
                by_problem.setdefault(row["problem_id"], []).append(score)
        means = {p: sum(v) / len(v) for p, v in by_problem.items()}
        scores[benchmark] = (result.get("unit", "share"), means)
    return scores


def _score(row: Mapping[str, Any]) -> float | None:
    """A sample's score; runs of before there were scores have verdicts only. None: it is not counted."""
    if "score" in row:
        return None if row["score"] is None else float(row["score"])
    return None if row["verdict"] in ("bad_gold", "error") else float(row["verdict"] == "correct")
