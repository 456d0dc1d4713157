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
    from tabulate import tabulate

    if not rows:
        return "(none)"
    cells = [[cell(row.get(key)) for key in rows[0]] for row in rows]
    return str(tabulate(cells, headers=list(rows[0]), tablefmt="simple", disable_numparse=True))


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
