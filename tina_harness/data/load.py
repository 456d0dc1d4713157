"""A dataset or benchmark by spec: rows -> problems with golds, and those that had to be set aside."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from tina_harness import checked
from tina_harness.data import hub, readers
from tina_harness.data.golds import contradicting, unusable
from tina_harness.errors import TinaError, did_you_mean
from tina_harness.grading import rules
from tina_harness.grading.extract import POLICIES, closing_brace
from tina_harness.registry import Registry
from tina_harness.specs import Benchmark, Extra, Problem, Row, RowSource

CONTRADICTORY = "contradictory golds"
_LONGEST_NUMBER = 400  # digits of a number that is written out


class SetAside(NamedTuple):
    """A row that is not used, and why. row: its number, from 0."""

    row: int
    reason: str
    problem: str
    gold: str


@dataclass(frozen=True)
class Loaded:
    """Problems in the order of the rows, the rows set aside, and their origin.

    rows: of each problem, the number of its row.

    fingerprint: sha256 over the sorted (id, gold) pairs; the same rows give the same one anywhere.
    """

    problems: tuple[Problem, ...]
    set_aside: tuple[SetAside, ...]
    origin: str
    revision: str
    rows: tuple[int, ...] = ()

    def aside(self, place: int, reason: str) -> SetAside:
        """The problem at a place, as one that is not used."""
        problem = self.problems[place]
        return SetAside(self.rows[place], reason, problem.problem, problem.gold)

    @property
    def order_print(self) -> str:
        """Hex digest of the problems in their order."""
        digest = hashlib.sha256("".join(p.id for p in self.problems).encode())
        return digest.hexdigest()[:16]

    @property
    def fingerprint(self) -> str:
        """Hex digest of what was loaded, whatever the order."""
        digest = hashlib.sha256()
        for pair in sorted(f"{p.id}\t{p.gold}\n" for p in self.problems):
            digest.update(pair.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]


def load_problems(
    spec: RowSource,
    catalogue: Mapping[str, Any],
    seed: int = 0,
    limit: int | None = None,
    keep_contradictions: bool = False,
) -> Loaded:
    """Load what a spec describes.

    limit: the first rows only. Of datasets, golds that cannot be read, or are not equal to themselves, are
    set aside, and so are all rows of a problem whose golds, among these rows, contradict each other. Raises
    TinaError for a missing repo, split or column, an unknown kind or policy, and where no row is left.
    """
    _check_answers(spec)
    rows, origin, revision = _rows(spec, catalogue, seed)
    problems: list[Problem] = []
    numbers: list[int] = []
    set_aside: list[SetAside] = []
    for number, row in enumerate(rows):
        if limit is not None and len(problems) == limit:
            break
        text, gold = parse_row(spec, row, f"row {number}")
        text, gold = _valid(text), None if gold is None else _valid(gold)
        if not text.strip():
            set_aside.append(SetAside(number, "no problem text", text, gold or ""))
        elif gold is None or not gold.strip():
            set_aside.append(SetAside(number, "no gold answer", text, ""))
        else:
            extra = Extra({name: row[name] for name in spec.extra})
            text, gold = text.strip(), unwrap(gold)
            problems.append(Problem(problem_id(text), text, gold, spec.answer_kind, spec.name, extra))
            numbers.append(number)
    if not isinstance(spec, Benchmark):
        bad = _unfit(problems, spec.answer_kind, keep_contradictions)
        set_aside += [
            SetAside(numbers[i], why, problems[i].problem, problems[i].gold) for i, why in bad.items()
        ]
        numbers = [n for i, n in enumerate(numbers) if i not in bad]
        problems = [p for i, p in enumerate(problems) if i not in bad]
    if not problems:
        raise TinaError(
            f"{spec.kind} '{spec.name}' has no usable row ({origin}): {len(set_aside)} were set aside",
            f"the first reason: {set_aside[0].reason}" if set_aside else "it is empty",
        )
    return Loaded(tuple(problems), tuple(sorted(set_aside)), origin, revision, tuple(numbers))


def _check_answers(spec: RowSource) -> None:
    known = {"answer_kind": rules.KINDS, "answer_policy": POLICIES}
    for field, names in known.items():
        if (name := getattr(spec, field)) not in names:
            hint = did_you_mean(name, names, f"there are: {', '.join(names)}")
            raise TinaError(f"{spec.named} has {field}='{name}', which does not exist", hint)


def _unfit(problems: Sequence[Problem], kind: str, keep_contradictions: bool) -> dict[int, str]:
    """place -> why a problem cannot be trained on.

    All rows of a problem with two different answers are unfit: nothing says which is right.
    """
    unreadable = unusable([p.gold for p in problems], kind)
    bad = {i: unreadable[p.gold] for i, p in enumerate(problems) if p.gold in unreadable}
    if keep_contradictions:
        return bad
    golds: dict[str, dict[str, None]] = {}
    for problem in problems:
        if problem.gold not in unreadable:
            golds.setdefault(problem.id, {})[problem.gold] = None
    several = {key: list(found) for key, found in golds.items() if len(found) > 1}
    reasons = {key: f"{CONTRADICTORY}: {' | '.join(several[key])}" for key in contradicting(several, kind)}
    return {i: reasons[p.id] for i, p in enumerate(problems) if i not in bad and p.id in reasons} | bad


def load_benchmark(spec: Benchmark, registry: Registry, limit: int | None = None) -> Loaded:
    """What a benchmark describes, loaded once for a registry, and so for a command.

    limit: the first problems only.
    """
    if spec not in registry.loaded:
        registry.loaded[spec] = load_problems(spec, registry.catalogue)
    loaded: Loaded = registry.loaded[spec]
    if limit is None:
        return loaded
    return replace(loaded, problems=loaded.problems[:limit], rows=loaded.rows[:limit])


def write_quarantine(rows: Iterable[SetAside], path: Path) -> None:
    """Write what is not used, with the reasons, as parquet: row, reason, problem, gold. No file for none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {name: [] for name in SetAside._fields}
    for row in rows:
        for name, value in row._asdict().items():
            text = value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
            columns[name].append(text)
    if columns["row"]:
        temporary = path.with_name(f"{path.name}.tmp")
        pq.write_table(pa.table(columns), temporary)
        temporary.replace(path)


def _rows(spec: RowSource, catalogue: Mapping[str, Any], seed: int) -> tuple[Iterable[Row], str, str]:
    if spec.rows is not None:
        return checked.rows(spec, spec.rows, seed), "generated", ""
    if spec.files:
        path = Path(spec.files).expanduser()
        return readers.read(path, spec.needed_columns), f"file {path}", ""
    if not spec.repo:
        raise TinaError(f"the {spec.kind} '{spec.name}' names neither a repo nor a generator of rows")
    pinned = catalogue.get("revisions", {}).get(spec.repo, "")
    table = hub.table(spec.repo, spec.config, spec.split, spec.needed_columns, pinned)
    return table.rows, table.origin, table.revision


def parse_row(spec: RowSource, row: Row, place: str = "a row") -> tuple[str, str | None]:
    """(problem, gold) of a row as a spec reads it; the gold is None where there is none.

    place: what the row is called in an error.
    """
    if spec.parse is not None:
        return checked.parsed(spec, spec.parse, row, place)
    gold = cell_text(row[spec.answer])
    if gold is not None and spec.answer_after:
        _, found, after = gold.rpartition(spec.answer_after)
        gold = after if found else None
    return cell_text(row[spec.problem]) or "", gold


def cell_text(cell: Any) -> str | None:
    """A cell as text, the same whatever stands in other rows; None for one that says no single value.

    A list of one is its item. Numbers are written out: `27.0` as 27, `1e5` as 100000.
    """
    if isinstance(cell, list | tuple):
        cell = cell[0] if len(cell) == 1 else None
    if isinstance(cell, float | Decimal):
        return _digits(str(cell))
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    if isinstance(cell, bool):
        return str(cell).lower()
    return None if cell is None or isinstance(cell, list | tuple | dict) else str(cell)


def _valid(text: str) -> str:
    """Without lone surrogates, which JSON can hold and tokenizers and files cannot."""
    return text.encode("utf-8", "replace").decode()


def _digits(written: str) -> str | None:
    number = Decimal(written)
    if not number.is_finite():
        return None
    if abs(number.adjusted()) > _LONGEST_NUMBER:
        return written
    return str(int(number)) if number == number.to_integral_value() else format(number, "f")


def problem_id(text: str) -> str:
    """16 hex digits of the problem's text, the same whatever the white space and Unicode form."""
    normal = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip()
    return hashlib.sha256(normal.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def unwrap(gold: str) -> str:
    r"""A gold without the wrapping that sets put around it: `$..$`, `\boxed{..}`, `27.0`.

    >>> unwrap("$\\boxed{27.0}$")
    '27'
    """
    gold = gold.strip()
    while True:
        inner = gold
        for opening, closing in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
            if inner.startswith(opening) and inner.endswith(closing) and len(inner) > 2 * len(opening):
                middle = inner[len(opening) : -len(closing)]
                if opening[0] not in middle if opening[0] == "$" else opening not in middle:
                    inner = middle.strip()
                    break
        for command in (r"\boxed{", r"\fbox{"):
            if inner.startswith(command) and closing_brace(inner, len(command)) == len(inner) - 1:
                inner = inner[len(command) : -1].strip()
        if inner == gold or not inner:
            break
        gold = inner
    return re.sub(r"^([+-]?\d+)\.0+$", r"\1", gold)


def source_key(spec: RowSource, catalogue: Mapping[str, Any], seed: int = 0) -> str | None:
    """A digest of where a source's rows come from, which changes when they may have; None: unknown.

    Files count by name, size and time of change, the hub by its pinned revision.
    """
    parts: list[str] = [spec.name, spec.repo, str(spec.config), spec.split, spec.problem, spec.answer]
    mirrored = hub.mirrored(spec.repo) if spec.repo else None
    if spec.files or mirrored:
        root = Path(spec.files).expanduser() if spec.files else mirrored
        assert root is not None
        files = sorted(p for p in ([root] if root.is_file() else root.rglob("*")) if p.is_file())
        parts += [f"{p}:{p.stat().st_size}:{p.stat().st_mtime_ns}" for p in files]
    elif spec.rows is not None:
        parts.append(f"generated:{seed}")
    elif revision := str(catalogue.get("revisions", {}).get(spec.repo, "")):
        parts.append(revision)
    else:
        return None
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:24]
