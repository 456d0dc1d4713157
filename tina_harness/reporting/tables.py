"""Tables for people, JSON for programs, from the same rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def as_json(rows: Any) -> str:
    """Rows as JSON."""
    return json.dumps(rows, indent=2, default=str)


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as an aligned table. The columns are the first row's keys."""
    if not rows:
        return "(none)"
    cells = [[cell(row.get(key)).strip() for key in rows[0]] for row in rows]
    widths = [
        max(len(name) + 2, max(map(len, column)))
        for name, column in zip(rows[0], zip(*cells, strict=True), strict=True)
    ]
    lines = [list(rows[0]), ["-" * width for width in widths], *cells]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def cell(value: Any) -> str:
    """One value as text; an interval as "[0.31, 0.40]"."""
    if isinstance(value, str):
        return value
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(cell(v) for v in value) + "]"
    return str(value)
