"""A dataset or benchmark by spec: rows -> problems with golds, and those that had to be set aside."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tina_harness.data import hub
from tina_harness.errors import TinaError
from tina_harness.grading.extract import closing_brace
from tina_harness.specs import Benchmark, Problem, Row, RowSource


@dataclass(frozen=True)
class Loaded:
    """Problems in the order of the rows, the rows set aside as (row number, reason), and their origin.

    fingerprint: sha256 over the sorted (id, gold) pairs; the same rows give the same one anywhere.
    """

    problems: tuple[Problem, ...]
    set_aside: tuple[tuple[int, str], ...]
    origin: str
    revision: str

    @property
    def fingerprint(self) -> str:
        """Hex digest of what was loaded, whatever the order."""
        digest = hashlib.sha256()
        for pair in sorted(f"{p.id}\t{p.gold}\n" for p in self.problems):
            digest.update(pair.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]


def load_problems(
    spec: RowSource, catalogue: Mapping[str, Any], seed: int = 0, limit: int | None = None
) -> Loaded:
    """Load what a spec describes.

    limit: the first rows only. Raises TinaError for a missing repo, split or column, and where no
    row has both a problem and a gold.
    """
    rows, origin, revision = _rows(spec, catalogue, seed)
    problems: list[Problem] = []
    set_aside: list[tuple[int, str]] = []
    kind = spec.answer_kind if isinstance(spec, Benchmark) else "math"
    for number, row in enumerate(rows):
        if limit is not None and len(problems) == limit:
            break
        text, gold = _parse(spec, row)
        if not text.strip():
            set_aside.append((number, "no problem text"))
        elif gold is None or not gold.strip():
            set_aside.append((number, "no gold answer"))
        else:
            problems.append(Problem(problem_id(text), text.strip(), unwrap(gold), kind, spec.name))
    if not problems:
        raise TinaError(
            f"{spec.kind} '{spec.name}' has no usable row ({origin}): {len(set_aside)} were set aside",
            f"the first reason: {set_aside[0][1]}" if set_aside else "it is empty",
        )
    return Loaded(tuple(problems), tuple(set_aside), origin, revision)


def _rows(spec: RowSource, catalogue: Mapping[str, Any], seed: int) -> tuple[Iterable[Row], str, str]:
    if spec.rows is not None:
        return spec.rows(seed), "generated", ""
    if not spec.repo:
        raise TinaError(f"the {spec.kind} '{spec.name}' names neither a repo nor a generator of rows")
    pinned = catalogue.get("revisions", {}).get(spec.repo, "")
    table = hub.table(spec.repo, spec.config, spec.split, spec.needed_columns, pinned)
    return _batches(table.rows), table.origin, table.revision


def _batches(table: Any) -> Iterable[Row]:
    for batch in table.to_batches(max_chunksize=1000):
        yield from batch.to_pylist()


def _parse(spec: RowSource, row: Row) -> tuple[str, str | None]:
    if spec.parse is not None:
        return spec.parse(row)
    gold = row[spec.answer]
    if isinstance(gold, list | tuple):  # some sets keep a list of one
        gold = gold[0] if len(gold) == 1 else None
    if isinstance(gold, float) and gold.is_integer():
        gold = int(gold)
    if gold is not None and spec.answer_after:
        _, found, after = str(gold).rpartition(spec.answer_after)
        gold = after if found else None
    return str(row[spec.problem] or ""), None if gold is None else str(gold)


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
