"""tina compare: can the data tell two models apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from tina_harness.cli.common import Name, RunReference, json_option, print_rows, runs_dir_option, runs_root
from tina_harness.errors import TinaError
from tina_harness.runs.identity import ACROSS

if TYPE_CHECKING:
    from tina_harness.runs import Run
    from tina_harness.runs.records import Result
    from tina_harness.statistics import Comparison


@click.command()
@click.argument("a", metavar="A", type=RunReference())
@click.argument("b", metavar="B", type=RunReference())
@click.option("--bench", type=Name("benchmark"), multiple=True, help="May be repeated [all in common].")
@click.option(
    "--across",
    type=click.Choice(ACROSS),
    multiple=True,
    help="Compare although this differs. May be repeated.",
)
@runs_dir_option
@json_option
def command(
    a: str, b: str, bench: tuple[str, ...], across: tuple[str, ...], runs_dir: str | None, as_json: bool
) -> None:
    """Compare two evaluated models, problem by problem: difference, 95% interval, p-value, in words.

    A and B are RUN (its last checkpoint that was evaluated), RUN@STEP, RUN@base, RUN@best or RUN@transition;
    RUN is an id, a unique prefix, a path or "latest". Results are compared only where they were obtained in
    the same way: benchmark, problems, scorer, prompt, sampling and engine agree. --across names a part that
    may differ.

    \b
    Examples:
      tina compare latest@base latest
      tina compare 20261123-1015@180 20261123-1410@180 --bench aime24
      tina compare RUN RUN2 --across sampling
    """
    from tina_harness.reporting import tables
    from tina_harness.runs import reference

    parent = runs_root(runs_dir)
    (run_a, (*_, of_a)), (run_b, (*_, of_b)) = (reference.evaluated(text, parent) for text in (a, b))
    first, second = run_a.results(checkpoint=of_a), run_b.results(checkpoint=of_b)
    rows: list[dict[str, Any]] = []
    for name in _benchmarks(bench, (a, first), (b, second)):
        mine, theirs = ([r for r in results if r["benchmark"] == name] for results in (first, second))
        one, other = _pair((a, mine), (b, theirs), across)
        rows.append(_row(run_a, one, run_b, other, across))
    if as_json:
        click.echo(tables.as_json(rows))
        return
    print_rows([_shown(row) for row in rows], False)
    click.echo()
    for row in rows:
        click.echo(f"{row['benchmark']}: {row['verdict']}")
        for part, difference in (*row["across"].items(), *row["noted"].items()):
            click.echo(f"  differs: {part} ({difference})")
        if row["not_recorded"]:
            click.echo(f"  not recorded by an earlier version: {', '.join(row['not_recorded'])}")


def _benchmarks(
    asked: Sequence[str], first: tuple[str, list[Result]], second: tuple[str, list[Result]]
) -> list[str]:
    """The benchmarks to compare on. Raises TinaError where one was not evaluated on both sides."""
    (a, in_a), (b, in_b) = ((text, {r["benchmark"] for r in results}) for text, results in (first, second))
    names = list(asked) or sorted(in_a & in_b)
    missing = [f"{n} of {text}" for n in names for text, there in ((a, in_a), (b, in_b)) if n not in there]
    if not names or missing:
        raise TinaError(
            f"not evaluated: {', '.join(missing)}" if missing else f"{a} and {b} have no benchmark in common",
            f"{a} has {', '.join(sorted(in_a))}; {b} has {', '.join(sorted(in_b))}",
        )
    return names


def _pair(
    first: tuple[str, list[Result]], second: tuple[str, list[Result]], across: Sequence[str]
) -> tuple[Result, Result]:
    """The two results that agree in what has to, with the most samples; an error where none or several do."""
    from tina_harness.runs.identity import disagreements, told

    (a, in_a), (b, in_b) = first, second
    apart = {
        (i, j): disagreements(x["identity"], y["identity"], across)
        for i, x in enumerate(in_a)
        for j, y in enumerate(in_b)
    }
    alike = [(in_a[i], in_b[j]) for (i, j), parts in apart.items() if not parts]
    if not alike:
        parts = min(apart.values(), key=len)
        said = "; ".join(f"{part} ({told(*values)})" for part, values in parts.items())
        allowed = " ".join(f"--across {part}" for part in parts if part in ACROSS)
        hint = "evaluate both in the same way" + (f", or compare all the same: {allowed}" if allowed else "")
        raise TinaError(
            f"{a} and {b} were evaluated on {in_a[0]['benchmark']} in different ways: {said}", hint
        )
    most = max(x["samples"] + y["samples"] for x, y in alike)
    best = [pair for pair in alike if sum(r["samples"] for r in pair) == most]
    if len(best) > 1:
        listed = "\n".join(f"    {_noted(x)}  and  {_noted(y)}" for x, y in best[:8])
        raise TinaError(
            f"{a} and {b} have {len(best)} pairs of results on {in_a[0]['benchmark']} that agree, "
            f"with as many samples:\n{listed}",
            "evaluate both with more samples, or with one seed and version; then that pair is taken",
        )
    return best[0]


def _noted(result: Result) -> str:
    identity = result["identity"]
    seed, digest = identity["noted"].get("seed"), identity["digest"][:8]
    return f"{result['run']} {result['checkpoint']} (seed {seed}, {digest})"


def _row(run_a: Run, a: Result, run_b: Run, b: Result, across: Sequence[str]) -> dict[str, Any]:
    from tina_harness.runs.identity import disagreements, told, unrecorded
    from tina_harness.runs.samples import scores_by_problem
    from tina_harness.statistics import compare

    share = all(r["metrics"][r["primary"]]["unit"] == "share" for r in (a, b))
    try:
        first, second = scores_by_problem(run_a.samples_of(a)), scores_by_problem(run_b.samples_of(b))
        found = compare(first, second, share=share)
    except ValueError as error:
        raise TinaError(
            f"{run_a.id} and {run_b.id} share no problem of {a['benchmark']}", str(error)
        ) from error
    one, other = a["identity"], b["identity"]
    in_a, in_b = one["noted"], other["noted"]
    noted = {k: (in_a[k], in_b[k]) for k in in_a if k in in_b and in_a[k] != in_b[k]}
    return {
        "benchmark": a["benchmark"],
        "metric": a["primary"],
        **_cells(found),
        "across": {part: told(*v) for part, v in disagreements(one, other).items() if part in across},
        "noted": {k: told(*v) for k, v in noted.items()},
        "not_recorded": unrecorded(one, other),
    }


def _cells(found: Comparison) -> dict[str, Any]:
    mean, *ends = found.difference
    return {
        "problems": found.problems,
        "A": found.a,
        "B": found.b,
        "B - A": mean,
        "ci95": [end for end in ends if end is not None] or None,
        "unit": "share" if found.share else "number",
        "p": found.p_value,
        "verdict": found.verdict,
    }


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A comparison for a table: shares in percent."""
    factor = 100 if row["unit"] == "share" else 1
    ends = row["ci95"]
    return {
        "benchmark": row["benchmark"],
        "problems": row["problems"],
        **{k: factor * row[k] for k in ("A", "B", "B - A")},
        "ci95": None if ends is None else [factor * end for end in ends],
        "unit": "%" if row["unit"] == "share" else row["unit"],
        "p": row["p"],
    }
