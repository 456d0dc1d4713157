"""Results as rows: for JSON as they are, shares in [0, 1]; for tables in percent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tina_harness.runs.identity import digest, protocol, summary
from tina_harness.runs.records import EstimateRecord, Result

SHARES = ("format", "truncated")  # columns that are shares whatever a benchmark's score is


def primary(result: Result) -> EstimateRecord:
    """The estimate that tables show."""
    return result["metrics"][result["primary"]]


def score_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row a result."""
    rows = []
    for r in results:
        found, metrics = primary(r), r["metrics"]
        rows.append(
            {
                "model": r["label"],
                "checkpoint": r["checkpoint"],
                "benchmark": r["benchmark"],
                "metric": r["primary"],
                "score": found["value"],
                "ci95": None if found["low"] is None else [found["low"], found["high"]],
                "unit": found["unit"],
                "format": _value(metrics, "rewards/format"),
                "problems": _part(r),
                "samples": r["samples"],
                "tokens": _value(metrics, "tokens"),
                "truncated": _value(metrics, "truncated"),
                "seconds": r["seconds"],
                "usd": r.get("usd"),
                "run": r["run"],
            }
        )
    return rows


def ranked(results: Iterable[Result]) -> list[tuple[str, list[dict[str, Any]]]]:
    """(what the results of a group have in common, its rows, best first): a group for each protocol.

    Groups with all problems of a benchmark come before those with a part of them.
    """
    groups: dict[tuple[Any, ...], list[Result]] = defaultdict(list)
    for r in results:
        whole = r["problems_of"] in (None, r["problems"])
        groups[r["benchmark"], not whole, protocol(r["identity"])].append(r)
    found = []
    for (_, _, key), mine in sorted(groups.items(), key=lambda g: (g[0][:2], -len(g[1]), g[0][2])):
        mine.sort(key=lambda r: -(primary(r)["value"] or 0.0))
        named = zip(score_rows(mine), _names(mine), strict=True)
        rows = [{**row, "model": name, "identity": key} for row, name in named]
        found.append((summary(mine[0]["identity"]), rows))
    return found


def _names(results: Sequence[Result]) -> list[str]:
    """The labels, with a piece of a digest where different models would share one."""
    models = [
        digest(r["identity"]["compared"]) if r["schema"] > 1 else f"{r['run']} {r['checkpoint']}"
        for r in results
    ]
    several: dict[tuple[str, str], set[str]] = defaultdict(set)
    for r, model in zip(results, models, strict=True):
        several[r["label"], r["checkpoint"]].add(model)
    return [
        r["label"] if len(several[r["label"], r["checkpoint"]]) == 1 else f"{r['label']} #{digest(model)[:4]}"
        for r, model in zip(results, models, strict=True)
    ]


def shown(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows as a table shows them: shares in percent, other scores as they are."""
    return [_shown(row) for row in rows]


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    share = row["unit"] == "share"
    factor, digits = (100, 2) if share else (1, 4)
    more: dict[str, Any] = {}
    if "model" in row:
        more = {c: None if row[c] is None else round(100 * row[c], 2) for c in SHARES}
        more |= {"tokens": _round(row["tokens"], 1), "seconds": _round(row["seconds"], 1)}
    name = row["benchmark"]
    if name is not None and row.get("metric") not in (None, "pass@1"):
        name = f"{name} ({row['metric']})"
    changed = {
        "benchmark": name,
        "score": None if row["score"] is None else round(factor * row["score"], digits),
        "ci95": None if row["ci95"] is None else [round(factor * end, digits) for end in row["ci95"]],
        "unit": None if row["unit"] is None else "%" if share else row["unit"],
        "usd": _round(row["usd"], 5),
        **more,
    }
    return {k: changed.get(k, v) for k, v in row.items() if k not in ("metric", "identity")}


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _value(metrics: Mapping[str, EstimateRecord], name: str) -> float | None:
    return metrics[name]["value"] if name in metrics else None


def _part(result: Result) -> str:
    """How many problems: "30", or "10/200"."""
    of = result["problems_of"]
    return f"{result['problems']}/{of}" if of and of != result["problems"] else str(result["problems"])
