"""tina grade: is this answer right, and why."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from tina_harness.cli.common import json_option, print_rows
from tina_harness.errors import TinaError, did_you_mean

if TYPE_CHECKING:
    from tina_harness.grading import Grader, Verdict

_BATCH = 500  # rows graded, and written, at a time


@click.command()
@click.argument("gold", required=False)
@click.argument("answer", required=False)
@click.option("--kind", default="math", help="What the gold is; 'math' tells it from the gold [math].")
@click.option("--policy", default="bare", help="What counts as the answer of a completion [bare].")
@click.option("--explain", is_flag=True, help="Show how the verdict came about.")
@click.option(
    "--file", "source", type=click.Path(), help="Grade rows: .parquet, .jsonl or .csv with gold, prediction."
)
@click.option("--out", type=click.Path(dir_okay=False), help="Where the graded rows go, one JSON a line.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Worker processes.")
@click.option("--deadline", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True,
              metavar="SECONDS", help="For one comparison.")  # fmt: skip
@json_option
def command(
    gold: str | None,
    answer: str | None,
    kind: str,
    policy: str,
    explain: bool,
    source: str | None,
    out: str | None,
    workers: int,
    deadline: float,
    as_json: bool,
) -> None:
    r"""Grade ANSWER, a completion or a bare answer, against GOLD; or every row of a file.

    \b
    Kinds: math, number, expression, interval, set, tuple, equation, matrix, text, choice.
    Policies: tina (the \boxed{} after </think>, or <answer>), bare (tina, and a text without
    either is an answer as a whole), last-box, and math-verify and trl, as those packages do it.
    The exit code is 0 where an answer is correct, or a file was graded, and 1 otherwise.

    \b
    Examples:
      tina grade '\frac{1}{2}' 0.5 --explain
      tina grade --file pairs.parquet --out verdicts.jsonl
    """
    from tina_harness.grading import Grader

    _checked(kind, policy)
    if source is not None:
        if gold is not None or out is None:
            raise TinaError("--file goes with --out, and without GOLD and ANSWER",
                            "tina grade --file pairs.parquet --out verdicts.jsonl")  # fmt: skip
        with Grader(workers, deadline) as grader:
            _grade_file(grader, Path(source), Path(out), kind, policy, as_json)
        return
    if gold is None or answer is None:
        raise TinaError(
            "GOLD and ANSWER are missing", "tina grade '\\frac{1}{2}' 0.5, or --file FILE --out FILE"
        )
    _grade_one(Grader(1, deadline), gold, answer, kind, policy, explain, as_json)


def _checked(kind: str, policy: str) -> None:
    from tina_harness.grading.extract import policy_named
    from tina_harness.grading.rules import KINDS

    policy_named(policy)
    if kind not in KINDS:
        raise TinaError(f"there is no kind of answer '{kind}'", did_you_mean(kind, KINDS))


def _grade_one(
    grader: Grader, gold: str, answer: str, kind: str, policy: str, explain: bool, as_json: bool
) -> None:
    from tina_harness.grading import Item
    from tina_harness.grading.rules import kind_of

    with grader:
        verdict = grader.grade([Item(gold, answer, kind, policy)])[0]
    if as_json:
        import json

        click.echo(json.dumps(_columns(verdict, full=True)))
    elif explain:
        steps = {
            "verdict": verdict.outcome,
            "kind": kind if kind != "math" else f"math (read as {kind_of(gold)})",
            "gold": gold,
            "answer": "(none)" if verdict.answer is None else verdict.answer,
            "gold read as": verdict.gold_form or "-",
            "answer read as": verdict.answer_form or "-",
            "decided by": verdict.rule,
            "seconds": f"{verdict.seconds:.4f}",
        }
        for name, value in steps.items():
            click.echo(f"{name:15} {_printable(value)}")
    else:
        click.echo(verdict.outcome)
    if verdict.outcome != "correct":
        raise SystemExit(1)


def _grade_file(grader: Grader, source: Path, out: Path, kind: str, policy: str, as_json: bool) -> None:
    from tina_harness.grading import Item

    total, batches = _read(source)
    counts: Counter[str] = Counter()
    done = 0
    bar: Any
    partial = out.with_name(out.name + ".partial")
    try:
        with (
            partial.open("w", encoding="utf-8") as file,
            click.progressbar(
                length=total,
                label="grading",
                file=sys.stderr,
                show_pos=True,
                item_show_func=lambda _: _counted(counts),
            ) as bar,
        ):
            for batch in batches:
                items = []
                for number, row in enumerate(batch, start=done + 1):
                    row_kind = str(row.get("kind") or kind)
                    _row_checked(row, number, row_kind, source)
                    items.append(Item(_text(row["gold"]), _text(row["prediction"]), row_kind, policy))
                verdicts = grader.grade(items)
                grader.check()
                _write(file, batch, verdicts)
                counts.update(v.outcome for v in verdicts)
                done += len(batch)
                bar.update(len(batch), batch)
        partial.replace(out)
    except OSError as error:
        raise TinaError(f"cannot write {out}: {error.strerror}", "name another file with --out") from error
    rows = [{"verdict": k, "rows": n, "share": round(n / max(1, done), 4)} for k, n in counts.most_common()]
    print_rows(rows, as_json)
    if not as_json:
        click.echo(f"{done} rows in {out}")


def _row_checked(row: Mapping[str, Any], number: int, kind: str, source: Path) -> None:
    from tina_harness.grading.rules import KINDS

    for column in ("gold", "prediction"):
        if column not in row:
            names = ", ".join(row) or "none"
            raise TinaError(
                f"{source}, row {number}: there is no column '{column}' (columns: {names})",
                "the columns are gold, prediction and, if wanted, kind",
            )
    if kind not in KINDS:
        raise TinaError(f"{source}, row {number}: no kind of answer '{kind}'", did_you_mean(kind, KINDS))


def _text(value: Any) -> str:
    """A cell as text; an empty one is an empty gold or no answer, never the word None."""
    return "" if value is None else str(value)


def _columns(verdict: Verdict, full: bool = False) -> dict[str, Any]:
    columns = {"verdict": verdict.outcome, "answer": verdict.answer, "seconds": verdict.seconds}
    if full:
        columns |= {"rule": verdict.rule, "gold_form": verdict.gold_form, "answer_form": verdict.answer_form}
    return columns


def _write(file: IO[str], rows: list[dict[str, Any]], verdicts: list[Verdict]) -> None:
    import json

    for row, verdict in zip(rows, verdicts, strict=True):
        file.write(json.dumps(row | _columns(verdict) | {"rule": verdict.rule}, default=str) + "\n")


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.most_common())


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _read(source: Path) -> tuple[int, Iterator[list[dict[str, Any]]]]:
    """How many rows a file has, and the rows in batches. Raises TinaError for one that cannot be read."""
    readers = {".parquet": _parquet, ".jsonl": _jsonl, ".csv": _csv}
    if source.suffix not in readers:
        raise TinaError(
            f"cannot read {source}: not a {', '.join(readers)} file", "convert it to one of these"
        )
    if not source.is_file():
        raise TinaError(f"there is no file {source}")
    return readers[source.suffix](source)


def _parquet(source: Path) -> tuple[int, Iterator[list[dict[str, Any]]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(source)
    except (pa.ArrowException, OSError) as error:
        raise TinaError(f"{source} is not a readable parquet file: {str(error)[:200]}") from error
    return file.metadata.num_rows, (batch.to_pylist() for batch in file.iter_batches(_BATCH))


def _jsonl(source: Path) -> tuple[int, Iterator[list[dict[str, Any]]]]:
    import json

    def rows() -> Iterator[dict[str, Any]]:
        with source.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line.decode("utf-8-sig"))
                except ValueError as error:
                    raise TinaError(f"{source}, line {number}: not JSON: {error}") from error
                if not isinstance(row, dict):
                    raise TinaError(f"{source}, line {number}: not a JSON object",
                                    '{"gold": "1/2", "prediction": "0.5"}')  # fmt: skip
                yield row

    with source.open("rb") as file:
        total = sum(1 for line in file if line.strip())
    return total, _batched(rows())


def _csv(source: Path) -> tuple[int, Iterator[list[dict[str, Any]]]]:
    import csv

    csv.field_size_limit(2**31 - 1)

    def rows() -> Iterator[dict[str, Any]]:
        with source.open(encoding="utf-8-sig", newline="") as file:
            try:
                for row in csv.DictReader(file):
                    yield {str(k): v for k, v in row.items() if k is not None}
            except (csv.Error, UnicodeDecodeError) as error:
                raise TinaError(f"{source} is not a readable CSV file: {error}") from error

    return sum(1 for _ in rows()), _batched(rows())


def _batched(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
