"""Which checkpoint of a run is meant: RUN, RUN@STEP, RUN@best, RUN@transition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tina_harness.errors import TinaError

if TYPE_CHECKING:
    from tina_harness.runs import Run


def find_checkpoint(
    reference: str, runs_dir: str | None, able: Callable[[Run], bool] | None = None
) -> tuple[Run, int, Path]:
    """(run, step, folder) of RUN[@STEP] as typed; the last checkpoint where no step is named.

    able: what "latest" asks of a run; a checkpoint, where it is None. Raises TinaError where the checkpoint
    is damaged.
    """
    from tina_harness import runs

    name, _, which = reference.partition("@")
    run = runs.find(name, runs.root(runs_dir), able or has_checkpoints, "has such a checkpoint")
    if run.manifest().get("kind") != "training":
        raise TinaError(f"{run.id} has no checkpoint", "only a training has")
    step = named(run, which)
    return run, step, run.checkpoint(step)


def has_checkpoints(run: Run) -> bool:
    """Whether a run is a training that has saved a checkpoint."""
    return bool(run.checkpoints()) and run.manifest().get("kind") == "training"


def has_adapter(run: Run) -> bool:
    """Whether a run has saved a checkpoint that is an adapter."""
    return has_checkpoints(run) and not run.manifest().get("config", {}).get("full")


def has_results(run: Run) -> bool:
    """Whether something of a run was evaluated."""
    return bool(run.results())


def named(run: Run, which: str, others: str = "") -> int:
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


def _at_transition(run: Run, steps: list[int]) -> int:
    """The checkpoint that was saved when the phase transition was seen."""
    seen = run.manifest().get("transition")
    if seen is None:
        raise TinaError(f"{run.id} has had no phase transition", "docs/training.md says what one is")
    return min((s for s in steps if s >= seen["checkpoint"]), default=steps[-1])


def _best(run: Run) -> int:
    """The checkpoint with the highest mean Pass@1 over the benchmarks that all evaluated ones share."""
    scores: dict[str, dict[str, float]] = {}
    for result in run.results():
        score = result["pass@1"]
        if result["checkpoint"].startswith("step ") and score is not None:
            scores.setdefault(result["checkpoint"], {})[result["benchmark"]] = score
    shared = set.intersection(*(set(s) for s in scores.values())) if scores else set()
    if not shared:
        raise TinaError(
            f"no checkpoints of {run.id} were evaluated on a benchmark in common",
            f"tina eval {run.id}@all --bench NAME does it",
        )
    best = max(scores, key=lambda c: (sum(scores[c][b] for b in shared), -int(c.removeprefix("step "))))
    return int(best.removeprefix("step "))
