"""Tables for people, JSON for programs, from the same rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(cell(v) for v in value) + "]"
    return str(value)


def numbered(results: Iterable[Mapping[str, Any]]) -> set[str]:
    """The benchmarks whose scores are no shares in one of these results; they are shown so in all of them."""
    return {r["benchmark"] for r in results if r.get("unit") == "number"}


def score_cells(result: Mapping[str, Any], numbers: Collection[str]) -> dict[str, Any]:
    """A result's score, interval and their unit: percent, or as they are for the benchmarks in `numbers`."""
    number = result["benchmark"] in numbers
    factor, digits = (1, 4) if number else (100, 2)
    score, ends = result["pass@1"], result["ci95"]
    return {
        "pass@1": None if score is None else round(factor * score, digits),
        "ci95": [round(factor * end, digits) for end in ends] if ends else None,
        "unit": "number" if number else "%",
    }


def score_rows(
    results: Sequence[Mapping[str, Any]],
    usd: Callable[[float], float | None],
    numbers: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """results.json files as rows of a leaderboard. usd: seconds of the run -> dollars.

    numbers: the benchmarks whose scores are no shares; None: what these results say.
    """
    numbers = numbered(results) if numbers is None else numbers
    rows = []
    for r in results:
        of = r.get("problems_of")
        part = f"{r['problems']}/{of}" if of and of != r["problems"] else str(r["problems"])
        metric = r.get("metric", "pass@1")
        dollars = r["usd"] if "usd" in r else usd(r["seconds"])
        row = {
            "model": r["label"],
            "checkpoint": r["checkpoint"],
            "benchmark": r["benchmark"] + (f" ({metric})" if metric != "pass@1" else ""),
            **score_cells(r, numbers),
            "format": _percent(r["rewards"].get("format")),
            "problems": part,
            "samples": r["samples"],
            "tokens": round(r["mean_tokens"], 1),
            "truncated": _percent(r["truncated"]),
            "seconds": round(r["seconds"], 1),
            "usd": None if dollars is None else round(dollars, 5),
            "run": r["run"],
        }
        rows.append(row)
    return rows


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)
