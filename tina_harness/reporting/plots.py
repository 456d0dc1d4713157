"""Plots of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def reward_curves(metrics: Sequence[Mapping[str, Any]], target: Path, title: str) -> None:
    """Each reward's mean and the completion length (tokens, right axis) over steps, as an image file.

    Bold lines are means of the last ten steps, thin ones the steps. A vertical line marks the transition.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot()
    steps = [m["step"] for m in metrics]
    names = sorted({k for m in metrics for k in m if k.startswith("rewards/")})
    for name in names:
        values = [_number(m.get(name)) for m in metrics]
        (line,) = axes.plot(steps, _running_mean(values), label=name.removeprefix("rewards/"), lw=2)
        axes.plot(steps, values, color=line.get_color(), lw=0.7, alpha=0.35)
    for place in [m["transition"] for m in metrics if "transition" in m]:
        axes.axvline(place, color="0.8", lw=1)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("mean reward of the rollouts")
    axes.set_title(title, fontsize=10)
    lengths = axes.twinx()
    lengths.plot(steps, [_number(m.get("completion_length")) for m in metrics], color="0.6", ls=":")
    lengths.set_ylabel("completion length, tokens (dotted)")
    figure.legend(loc="outside lower center", ncols=max(1, len(names)), frameon=False)
    temporary = target.with_name(f".{target.name}")
    figure.savefig(temporary, format=target.suffix[1:], dpi=130)
    temporary.replace(target)


def _running_mean(values: Sequence[float], width: int = 10) -> list[float]:
    """At each place the mean of the last `width` values, fewer at the start, leaving out NaN."""
    means = []
    for end in range(1, len(values) + 1):
        known = [v for v in values[max(0, end - width) : end] if v == v]
        means.append(sum(known) / len(known) if known else float("nan"))
    return means


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def intervals(
    rows: Sequence[tuple[str, str, float, Sequence[float] | None]], target: Path, keys: str
) -> None:
    """Scores with their intervals: (point, benchmark, score, [low, high] or None) rows, as an image file."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    places = {point: n for n, point in enumerate(dict.fromkeys(r[0] for r in rows))}
    figure = Figure(figsize=(max(5.0, 1.1 * len(places)), 3.6), layout="constrained")
    axes = figure.add_subplot()
    benchmarks = list(dict.fromkeys(r[1] for r in rows))
    for number, benchmark in enumerate(benchmarks):
        mine = [r for r in rows if r[1] == benchmark]
        shift = (number - (len(benchmarks) - 1) / 2) * 0.08
        scores = [r[2] for r in mine]
        ends = [r[3] or (r[2], r[2]) for r in mine]
        errors = [
            [score - low for score, (low, _) in zip(scores, ends, strict=True)],
            [high - score for score, (_, high) in zip(scores, ends, strict=True)],
        ]
        axes.errorbar(
            [places[r[0]] + shift for r in mine], scores, errors, fmt="o", capsize=3, label=benchmark
        )
    axes.set_xticks(list(places.values()), list(places))
    axes.set_xlabel(keys)
    axes.set_ylabel("score (Pass@1 in percent), with 95% interval")
    axes.legend(frameon=False)
    temporary = target.with_name(f".{target.name}")
    figure.savefig(temporary, format=target.suffix[1:], dpi=130)
    temporary.replace(target)
