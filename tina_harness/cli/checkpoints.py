"""Which checkpoint of a run is meant: RUN, RUN@STEP, RUN@best, RUN@transition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tina_harness.errors import TinaError


def find_checkpoint(reference: str, runs_dir: str | None) -> tuple[Any, int, Path]:
    """(run, step, folder) of RUN[@STEP] as typed; the last checkpoint where no step is named."""
    from tina_harness import runs

    name, _, which = reference.partition("@")
    run = runs.find(name, runs.root(runs_dir))
    if run.manifest()["kind"] != "training":
        raise TinaError(f"{run.id} has no checkpoint", "only a training has")
    step = named(run, which)
    return run, step, dict(run.checkpoints())[step]


def named(run: Any, which: str, others: str = "") -> int:
    """The step of a run's checkpoint; which: as after the @, "" for the last. others: for the error."""
    steps = [step for step, _ in run.checkpoints()]
    if not steps:
        raise TinaError(f"{run.id} has no checkpoint yet", f"continue it with 'tina resume {run.id}'")
    if which == "transition":
        return _at_transition(run, steps)
    if which == "best":
        return _best(run)
    if which and not (which.isdigit() and int(which) in steps):
        there = ", ".join(map(str, steps))
        raise TinaError(
            f"{run.id} has no checkpoint '{which}'", f"it has steps {there}; or {others}best, transition"
        )
    return int(which) if which else steps[-1]


def _at_transition(run: Any, steps: list[int]) -> int:
    """The checkpoint that was saved when the phase transition was seen."""
    seen = run.manifest().get("transition")
    if seen is None:
        raise TinaError(f"{run.id} has had no phase transition", "docs/training.md says what one is")
    return min((s for s in steps if s >= seen["checkpoint"]), default=steps[-1])


def _best(run: Any) -> int:
    """The checkpoint with the highest mean Pass@1 over the benchmarks that all evaluated ones share."""
    scores: dict[str, dict[str, float]] = {}
    for result in run.results():
        if result["checkpoint"].startswith("step ") and result["pass@1"] is not None:
            scores.setdefault(result["checkpoint"], {})[result["benchmark"]] = result["pass@1"]
    shared = set.intersection(*(set(s) for s in scores.values())) if scores else set()
    if not shared:
        raise TinaError(
            f"no checkpoints of {run.id} were evaluated on a benchmark in common",
            f"tina eval {run.id}@all --bench NAME does it",
        )
    best = max(scores, key=lambda c: (sum(scores[c][b] for b in shared), -int(c.removeprefix("step "))))
    return int(best.removeprefix("step "))
