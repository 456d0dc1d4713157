"""samples.parquet, read by the columns that are needed."""

from __future__ import annotations

from pathlib import Path


def scores_by_problem(path: Path) -> dict[str, float]:
    """Problem id -> the mean score of its samples that count.

    Files of version 0.1.0 have no scores; their verdicts say the same.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    names = pq.read_schema(path).names
    table = pq.read_table(path, columns=["problem_id", "score" if "score" in names else "verdict"])
    if "score" not in names:
        verdict = table["verdict"]
        counts = pc.invert(pc.is_in(verdict, pa.array(["bad_gold", "error"])))
        score = pc.if_else(counts, pc.equal(verdict, "correct").cast("float64"), None)
        table = table.select(["problem_id"]).append_column("score", score)
    means = (
        table.filter(pc.is_valid(table["score"]))
        .group_by("problem_id", use_threads=False)
        .aggregate([("score", "mean")])
    )
    return dict(zip(means["problem_id"].to_pylist(), means["score_mean"].to_pylist(), strict=True))
