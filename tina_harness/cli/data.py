"""tina data: look at a dataset before money is spent on it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from tina_harness.cli.common import Name, json_option, load_registry, print_rows
from tina_harness.errors import TinaError


@click.group()
def command() -> None:
    """Audit datasets, and find what they share with benchmarks.

    \b
    Examples:
      tina data audit limr
      tina data overlap limr --against aime24,aime25,amc23,math500,minerva
    """


_column_options = [
    click.option("--problem-column", metavar="NAME", help="Of a dataset of your own [problem]."),
    click.option("--answer-column", metavar="NAME", help="Of a dataset of your own [answer]."),
]


def _columns(function: Any) -> Any:
    for option in _column_options:
        function = option(function)
    return function


@command.command("audit")
@click.argument("name", type=Name("dataset"))
@_columns
@click.option("--page", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML page, too.")
@click.option(
    "--quarantine",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the rows set aside as parquet.",
)
@json_option
def audit_command(
    name: str,
    problem_column: str | None,
    answer_column: str | None,
    page: Path | None,
    quarantine: Path | None,
    as_json: bool,
) -> None:
    """Count rows, golds that cannot be graded, duplicates, contradictions, lengths and kinds of answers.

    \b
    Examples:
      tina data audit deepscaler --page deepscaler.html
      tina data audit jsonl:mine.jsonl --answer-column gold
    """
    from tina_harness.data import audit as audits
    from tina_harness.data import load_problems, write_quarantine
    from tina_harness.planning import choose_dataset
    from tina_harness.reporting import tables

    registry = load_registry()
    spec = choose_dataset(name, registry, problem_column, answer_column)
    found = audits.audit(name, load_problems(spec, registry.catalogue))
    try:
        if page is not None:
            page.write_text(audits.page(found), encoding="utf-8", errors="replace")
        if quarantine is not None:
            write_quarantine(found.set_aside, quarantine)
    except OSError as error:
        raise TinaError(f"cannot write {error.filename}: {error.strerror}", "name another file") from error
    if as_json:
        click.echo(tables.as_json(found.as_dict()))
        return
    click.echo(f"{name} from {found.origin}, fingerprint {found.fingerprint}\n")
    print_rows(found.table(), False)
    for problem, golds in found.contradictions[:5]:
        click.echo(f"\ncontradiction: {' | '.join(golds)}\n  {_excerpt(problem)}")


@command.command("overlap")
@click.argument("name", type=Name("dataset"))
@_columns
@click.option("--against", required=True, metavar="NAME,...", help="Benchmarks, separated by commas.")
@click.option("--near", type=click.FloatRange(0, 1), help="Jaccard similarity of word 3-grams [0.6].")
@click.option("--share", type=click.FloatRange(0, 1), help="Share of a problem's word 8-grams [0.5].")
@click.option("--pairs", type=click.IntRange(0), default=10, show_default=True, help="Pairs to show.")
@json_option
def overlap_command(
    name: str,
    problem_column: str | None,
    answer_column: str | None,
    against: str,
    near: float | None,
    share: float | None,
    pairs: int,
    as_json: bool,
) -> None:
    """Find the rows of a dataset that are also in benchmarks: exactly, nearly, or by long n-grams.

    `tina run` leaves out the rows that overlap with its own benchmarks (--keep-overlap keeps them).

    \b
    Example:
      tina data overlap limr --against aime24,aime25,amc23,math500,minerva --pairs 20
    """
    from tina_harness.planning import choose_dataset
    from tina_harness.reporting import tables
    from tina_harness.specs import Benchmark

    registry = load_registry()
    spec = choose_dataset(name, registry, problem_column, answer_column)
    benchmarks = [registry.get(Benchmark, b.strip()) for b in against.split(",") if b.strip()]
    if not benchmarks:
        raise TinaError("--against names no benchmark", "for example --against aime24,math500")
    found = _overlap(spec, benchmarks, registry.catalogue, near, share)
    if as_json:
        click.echo(tables.as_json(found))
        return
    click.echo(f"{name}: {found['rows']} rows, {len(found['pairs'])} overlap with {against}\n")
    kinds = ("exact", "near", "ngram")
    counts = {b.name: dict.fromkeys(kinds, 0) for b in benchmarks}
    for pair in found["pairs"]:
        counts[pair["benchmark"]][pair["kind"]] += 1
    print_rows([{"benchmark": b, **by_kind} for b, by_kind in counts.items()], False)
    for pair in found["pairs"][:pairs]:
        click.echo(
            f"\n{pair['kind']} {pair['score']:.2f}: row {pair['row']}, {pair['benchmark']} {pair['problem']}"
        )
        click.echo(f"  {_excerpt(pair['text'])}\n  {_excerpt(pair['problem_text'])}")
    if len(found["pairs"]) > pairs:
        click.echo(f"\n{len(found['pairs']) - pairs} more; --pairs N shows more, --json all of them")


def _overlap(
    spec: Any, benchmarks: list[Any], catalogue: Any, near: float | None, share: float | None
) -> dict[str, Any]:
    """The report with both texts of each pair; from the cache where neither side has changed."""
    from tina_harness.data import cache, load_problems, overlap
    from tina_harness.data.load import source_key

    limits = (overlap.NEAR if near is None else near, overlap.SHARE if share is None else share)
    sources = [source_key(s, catalogue) for s in (spec, *benchmarks)]
    known = [s for s in sources if s is not None]
    digest = sha256("\n".join([overlap.VERSION, str(limits), *known]).encode()).hexdigest()[:24]
    key = f"pairs-{digest}" if len(known) == len(sources) else None
    if key and (found := cache.read(key)):
        return dict(found)
    loaded = load_problems(spec, catalogue)
    problems = {b.name: load_problems(b, catalogue).problems for b in benchmarks}
    texts = {name: [p.problem for p in found] for name, found in problems.items()}
    report = overlap.find_overlap([p.problem for p in loaded.problems], texts, *limits)
    pairs = [
        {
            "row": loaded.rows[m.row],
            "benchmark": m.benchmark,
            "problem": m.problem,
            "kind": m.kind,
            "score": m.score,
            "text": loaded.problems[m.row].problem[:2000],
            "problem_text": texts[m.benchmark][m.problem][:2000],
        }
        for m in report.matches
    ]
    result = {"rows": report.rows, "near": limits[0], "share": limits[1], "pairs": pairs}
    if key:
        cache.write(key, result)
    return result


def _excerpt(text: str) -> str:
    shown = "".join(c if c.isprintable() else " " for c in text[:200])
    return shown + (" ..." if len(text) > 200 else "")
