"""samples.parquet, read by the columns that are needed."""

from __future__ import annotations

from pathlib import Path


def scores_by_problem(path: Path) -> dict[str, float]:
    """Problem id -> the mean score of its samples that count.

    Files of version 0.1.0 have no scores; their verdicts say the same.
    """
    import pyarrow.parquet as pq

    columns = [c for c in ("problem_id", "verdict", "score") if c in pq.read_schema(path).names]
    by_problem: dict[str, list[float]] = {}
    for row in pq.read_table(path, columns=columns).to_pylist():
        if "score" in row:
            value = row["score"]
        else:
            value = None if row["verdict"] in ("bad_gold", "error") else float(row["verdict"] == "correct")
        if value is not None:
            by_problem.setdefault(row["problem_id"], []).append(value)
    return {problem: sum(values) / len(values) for problem, values in by_problem.items()}
