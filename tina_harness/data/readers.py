"""Rows of a file, one reader a format: a file has the same golds, whichever way it was found.

Values stay as they were written: a cell of CSV is text, and a number of JSON keeps its digits.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tina_harness.errors import TinaError
from tina_harness.specs import Row

_PACKED = (".gz", ".bz2", ".zst")
_BATCH = 1000  # rows of a parquet file that are Python values at a time
_LONGEST_CELL = 2**31 - 1  # the csv module's default is 131,072 characters: some solutions are longer
_LONGEST_INTEGER = 4000  # digits; Python converts 4,300


def can_read(path: Path | str) -> bool:
    """Whether there is a reader for a file, which its name tells."""
    return _format(Path(path)) in _READERS


def read(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a file, with these columns only; what a row lacks is None.

    Raises TinaError that names the file, and the line where there are lines: for a file that is missing, in
    another format, damaged or not UTF-8, a column that is missing or there twice, a row that is no row.
    """
    if not path.is_file():
        raise TinaError(f"there is no file {path}")
    if not can_read(path):
        raise TinaError(
            f"cannot read {path}: not a {', '.join(_READERS)} file",
            "convert it to one of these, or name it after what it is",
        )
    return _READERS[_format(path)](path, columns)


def check_columns(there: Sequence[str], wanted: Sequence[str], where: str) -> None:
    """Raise TinaError that names the columns that are missing, or there twice, and those there are."""
    for name in wanted:
        if name not in there:
            missing = " and no column ".join(repr(c) for c in wanted if c not in there)
            raise TinaError(f"{where} has no column {missing}", f"it has: {', '.join(there)}")
        if there.count(name) > 1:
            raise TinaError(
                f"{where} has the column '{name}' {there.count(name)} times", "rename all but one"
            )


def _format(path: Path) -> str:
    """The suffix that says the format, in lower case: ".csv" of `A.CSV` and `a.csv.gz`."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in _PACKED else suffix


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            check_columns(file.schema_arrow.names, columns, str(path))
            for batch in file.iter_batches(_BATCH, columns=list(columns)):
                values = [_python_values(batch.column(name)) for name in columns]
                yield from (dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise TinaError(f"{path} cannot be read: {str(error)[:200]}", "is it complete?") from error


def _python_values(column: Any) -> list[Any]:
    import pyarrow as pa

    if pa.types.is_float32(column.type):  # as it prints: the float32 0.1 is 0.10000000149 as a float
        column = column.cast(pa.string()).cast(pa.float64())
    return column.to_pylist()


def _json_lines(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """One JSON object a line; empty lines are none."""

    def values() -> Iterator[tuple[str, Any]]:
        for number, text in _lines(path):
            if text.strip():
                with _named(path, number, number):
                    value = _DECODER.decode(text.strip())
                yield f"line {number}", value

    return _objects(path, values(), columns)


def _json(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """One array of objects, or objects one after the other, each on as many lines as it likes."""

    def values(text: str) -> Iterator[tuple[str, Any]]:
        line, end = 1, 0
        while (start := _SPACE.match(text, end).end()) < len(text):  # type: ignore[union-attr]
            line += text.count("\n", end, start)
            with _named(path, line, 1):
                value, end = _DECODER.raw_decode(text, start)
            yield f"line {line}", value
            line += text.count("\n", start, end)

    found = values("".join(text for _, text in _lines(path)))
    first = next(found, None)
    if first is None:
        return iter(())
    if isinstance(first[1], list):
        items = ((f"item {number}", item) for number, item in enumerate(first[1], start=1))
        return _objects(path, _then(items, found), columns)
    return _objects(path, _then([first], found), columns)


def _then(*parts: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    for part in parts:
        yield from part


def _objects(path: Path, values: Iterable[tuple[str, Any]], columns: Sequence[str]) -> Iterator[Row]:
    """Rows of (place, JSON value) pairs. Each column has to be in some row."""
    rows = []
    seen: dict[str, None] = {}
    for place, value in values:
        if not isinstance(value, dict):
            raise TinaError(f"{path}, {place}: not a JSON object", 'for example {"problem": "1 + 1"}')
        seen.update(dict.fromkeys(value))
        rows.append({name: value.get(name) for name in columns})
    if rows:
        check_columns(list(seen), columns, str(path))
    return iter(rows)


def _csv(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """A header and rows of as many cells; a cell in double quotes may hold commas and newlines."""
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        reader = csv.reader((text for _, text in _lines(path)), strict=True)
        return iter(list(_csv_rows(path, reader, columns)))
    finally:
        csv.field_size_limit(before)


def _csv_rows(path: Path, reader: Any, columns: Sequence[str]) -> Iterator[Row]:
    header: list[str] = []
    start = 1  # where the row begins: reader.line_num is where it ends
    try:
        for cells in reader:
            if cells and not header:
                header = cells
                check_columns(header, columns, str(path))
                places = [header.index(name) for name in columns]
            elif cells and len(cells) != len(header):
                raise TinaError(
                    f"{path}, line {start}: {len(cells)} cells, where the header has {len(header)}",
                    'put text that holds commas in double quotes: "1,000"',
                )
            elif cells:
                yield {name: cells[place] for name, place in zip(columns, places, strict=True)}
            start = reader.line_num + 1
    except csv.Error as error:
        raise TinaError(
            f"{path}, line {start}: not CSV: {error}",
            'put a cell with quotes or newlines in double quotes, and double those inside: "a ""b"""',
        ) from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, text with its end) of each line, without a byte order mark."""
    import pyarrow as pa

    number = 0
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            for number, raw in enumerate(io.BufferedReader(stream), start=1):
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise TinaError(
            f"{path}, line {number}: not UTF-8: {error.reason} at byte {error.start + 1} of the line",
            f"convert it, for example with: iconv -f latin1 -t utf-8 {path}",
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise TinaError(f"{path} cannot be read: {str(error)[:200]}", "is it complete?") from error


@contextlib.contextmanager
def _named(path: Path, line: int, first: int) -> Iterator[None]:
    """What is wrong with the value that begins at a line, as an error. first: the line of the whole text."""
    try:
        yield
    except json.JSONDecodeError as error:
        raise TinaError(
            f"{path}, line {first + error.lineno - 1}: not JSON: {error.msg} at column {error.colno}",
            "a .jsonl file holds one JSON object a line; a .json file may hold one array of objects",
        ) from error
    except (ValueError, RecursionError) as error:
        raise TinaError(f"{path}, line {line}: not read: {error}") from error


class _Number(float):
    """A JSON number that remembers how it was written: `1e400` and `0.10` are not what a float prints."""

    def __init__(self, written: str) -> None:
        self.written = written

    def __str__(self) -> str:
        return self.written


def _integer(written: str) -> int | str:
    return int(written) if len(written) < _LONGEST_INTEGER else written


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{next(n for n in names if names.count(n) > 1)}' is there twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_Number, parse_int=_integer)
_SPACE = re.compile(r"[ \t\r\n]*")
_READERS: dict[str, Callable[[Path, Sequence[str]], Iterator[Row]]] = {
    ".parquet": _parquet,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
}
