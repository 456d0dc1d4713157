"""Rows from a file of one's own: parquet, JSON lines or CSV."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tina_harness.data.hub import check_columns
from tina_harness.errors import TinaError


def read_file(path: Path, columns: Sequence[str]) -> Any:
    """The columns as an Arrow table. Raises TinaError that names the file, and of JSON lines the line."""
    if not path.is_file():
        raise TinaError(f"there is no file {path}")
    if path.suffix not in _READERS:
        raise TinaError(f"cannot read {path}: not a {', '.join(_READERS)} file", "convert it to one of these")
    try:
        return _READERS[path.suffix](path, columns)
    except UnicodeDecodeError as error:
        raise TinaError(f"{path} is not UTF-8: {error.reason} at byte {error.start}",
                        f"convert it, for example with: iconv -t utf-8 {path}") from error  # fmt: skip


def _parquet(path: Path, columns: Sequence[str]) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        check_columns(pq.read_schema(path).names, columns, str(path))
        return pq.read_table(path, columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise TinaError(f"{path} cannot be read: {str(error)[:200]}", "is it complete?") from error


def read_json_lines(path: Path, columns: Sequence[str]) -> Any:
    """One JSON object a line. A column that mixes types becomes text; missing keys become null."""
    import pyarrow as pa

    found: dict[str, list[Any]] = {c: [] for c in columns}
    seen: dict[str, None] = {}
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                row = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8")) if raw.strip() else None
            except UnicodeDecodeError as error:
                raise TinaError(f"{path}, line {number}: not UTF-8: {error.reason}") from error
            except ValueError as error:
                raise TinaError(f"{path}, line {number}: not JSON: {error}") from error
            if row is None:
                continue
            if not isinstance(row, dict):
                raise TinaError(
                    f"{path}, line {number}: not a JSON object", 'for example {"problem": "1 + 1"}'
                )
            seen.update(dict.fromkeys(row))
            for column in columns:
                found[column].append(row.get(column))
    if seen:
        check_columns(list(seen), columns, str(path))
    return pa.table({c: _column(values) for c, values in found.items()})


def _column(values: list[Any]) -> Any:
    import pyarrow as pa

    kinds = {type(v) for v in values if v is not None}
    if len(kinds) > 1 or kinds & {bool}:
        values = [_text(v) for v in values]
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        texts = [_text(v) for v in values]
        return pa.array([t if t is None else t.encode("utf-8", "replace").decode() for t in texts])


def _text(value: Any) -> str | None:
    """A cell of a column that mixes types; a list of one is its item."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _csv(path: Path, columns: Sequence[str]) -> Any:
    import pyarrow as pa
    import pyarrow.csv as pc

    path.read_bytes().decode("utf-8-sig")  # names the byte that is not UTF-8
    options = pc.ConvertOptions(column_types={c: pa.string() for c in columns}, strings_can_be_null=False)
    try:
        rows = pc.read_csv(
            path, parse_options=pc.ParseOptions(newlines_in_values=True), convert_options=options
        )
    except pa.ArrowException as error:
        raise TinaError(f"{path} cannot be read: {str(error)[:200]}") from error
    check_columns(rows.column_names, columns, str(path))
    return rows.select(list(columns))


_READERS = {".parquet": _parquet, ".jsonl": read_json_lines, ".csv": _csv}
