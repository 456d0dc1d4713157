"""Which run, and which of its checkpoints, is meant by what was typed: RUN or RUN@WHICH, for every command.

RUN is an id, a unique prefix, a path or "latest". WHICH is a step, "base" (the model that the run started
from), "best" (the highest mean Pass@1 of those that were evaluated), "transition" (the one that was saved
when the phase transition was seen) or "all"; without it the last checkpoint is meant.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tina_harness.errors import RunError, TinaError, did_you_mean
from tina_harness.runs.results import alike, value
from tina_harness.runs.run import MANIFEST, Run

WORDS = ("base", "best", "transition", "all")
Able = tuple[Callable[[Run], bool], str]  # what "latest" asks of a run, and that in words


class RunNotFound(TinaError):
    """There is no run of that name."""


def split(text: str) -> tuple[str, str]:
    """(RUN, WHICH) of what was typed; WHICH is "" where there is none. A path may hold an @ itself.

    >>> split("latest@base"), split("latest")
    (('latest', 'base'), ('latest', ''))
    """
    if "@" not in text or _holds_a_run(Path(text)):
        return text, ""
    name, _, which = text.rpartition("@")
    return name, which


def one_checkpoint(text: str, parent: Path, able: Able | None = None) -> tuple[Run, int, Path]:
    """(run, step, folder) of a trained checkpoint that is whole. Raises TinaError where there is none."""
    name, which = split(text)
    run = find(name, parent, *(able or (has_checkpoints, "has a checkpoint")))
    if run.manifest().get("kind") != "training":
        raise TinaError(f"{run.id} has no checkpoint", "only a training has")
    if which in ("base", "all"):
        raise TinaError(
            f"{text} is not one checkpoint", f"name a step, for example {run.id}@{_steps(run)[-1]}"
        )
    step = _step(run, which)
    return run, step, run.checkpoint(step)


def to_evaluate(text: str, parent: Path) -> tuple[Run, list[int | None]]:
    """(run, the steps of the checkpoints that are meant; None: its base). They may be damaged."""
    name, which = split(text)
    run = find(
        name,
        parent,
        *((has_model, "has a model") if which == "base" else (has_checkpoints, "has a checkpoint")),
    )
    steps: list[int | None] = [step for step, _ in run.checkpoints()]
    if which == "base" or (not which and not steps and run.manifest().get("kind") != "training"):
        return run, [None]
    return run, steps if which == "all" and steps else [_step(run, which, WORDS)]


def evaluated(text: str, parent: Path, bench: Sequence[str] = ()) -> tuple[Run, list[str]]:
    """(run, the checkpoints that are meant and have results, as the results name them).

    Without WHICH the last one that was evaluated is meant. bench: results on these benchmarks only.
    """
    name, which = split(text)

    def there(run: Run) -> list[str]:
        labels = {r["checkpoint"] for r in run.results() if not bench or r["benchmark"] in bench}
        return sorted(labels, key=_order)

    run = find(name, parent, lambda run: bool(_chosen(run, which, there(run))), "was evaluated so")
    labels = there(run)
    chosen = _chosen(run, which, labels)
    if not chosen:
        of = f" of {label(int(which)) if which.isdecimal() else which}" if which not in ("", "all") else ""
        on = f" on {', '.join(bench)}" if bench else ""
        there_is = [f"{r['checkpoint']} on {r['benchmark']}" for r in run.results()]
        raise TinaError(
            f"{run.id} has no evaluation{of}{on}", f"it has: {', '.join(sorted(there_is)) or 'none'}"
        )
    return run, chosen


def _chosen(run: Run, which: str, labels: Sequence[str]) -> list[str]:
    if which == "all":
        return list(labels)
    if not which:
        return list(labels[-1:])
    try:
        wanted = label(None if which == "base" else _step(run, which) if which in WORDS else int(which))
    except (TinaError, ValueError):
        wanted = f"adapter {which}"
    return [wanted] if wanted in labels else []


def label(step: int | None) -> str:
    """A checkpoint as results name it: "base" or "step 40"."""
    return "base" if step is None else f"step {step}"


def has_checkpoints(run: Run) -> bool:
    """Whether a run is a training that has saved a checkpoint."""
    return bool(run.checkpoints()) and run.manifest().get("kind") == "training"


def has_adapter(run: Run) -> bool:
    """Whether a run has saved a checkpoint that is an adapter."""
    return has_checkpoints(run) and not run.manifest().get("config", {}).get("full")


def has_model(run: Run) -> bool:
    """Whether it is known what model a run started from."""
    return "config" in run.manifest()


def suggestions(text: str, parent: Path) -> list[str]:
    """What the shell may complete: runs, and after an @ the checkpoints of the run and the words for them."""
    name, at, _ = text.rpartition("@")
    if not at:
        return [r for r in [*(run.id for run in all_runs(parent)), "latest"] if r.startswith(text)]
    try:
        steps = _steps(find(name, parent))
    except TinaError:
        steps = []
    return [f for which in (*WORDS, *steps) if (f := f"{name}@{which}").startswith(text)]


def _steps(run: Run) -> list[int]:
    return [step for step, _ in run.checkpoints()]


def _step(run: Run, which: str, words: Sequence[str] = ("best", "transition")) -> int:
    """The step of a checkpoint; which: "" for the last, a step, "best" or "transition".

    words: what may stand in place of a step, for the error.
    """
    steps = _steps(run)
    if not steps:
        raise TinaError(f"{run.id} has no checkpoint yet", f"continue it with 'tina resume {run.id}'")
    if which == "transition":
        return _at_transition(run, steps)
    if which == "best":
        return _best(run)
    if which and not (which.isdecimal() and int(which) in steps):
        there = ", ".join(map(str, steps))
        raise TinaError(
            f"{run.id} has no checkpoint '{which}'", f"it has steps {there}; or {', '.join(words)}"
        )
    return int(which) if which else steps[-1]


def _at_transition(run: Run, steps: list[int]) -> int:
    seen = run.manifest().get("transition")
    if seen is None:
        raise TinaError(f"{run.id} has had no phase transition", "docs/training.md says what one is")
    return min((s for s in steps if s >= seen["checkpoint"]), default=steps[-1])


def _best(run: Run) -> int:
    """The checkpoint with the highest mean score over the benchmarks that all evaluated ones share.

    Only results count that were obtained in the same way.
    """
    scores: dict[str, dict[str, float]] = {}
    for results in alike(r for r in run.results() if r["checkpoint"].startswith("step ")).values():
        for result in results:
            if (score := value(result)) is not None:
                scores.setdefault(result["checkpoint"], {})[result["benchmark"]] = score
    shared = set.intersection(*(set(s) for s in scores.values())) if scores else set()
    if not shared:
        raise TinaError(
            f"no checkpoints of {run.id} were evaluated on a benchmark in common",
            f"tina eval {run.id}@all --bench NAME does it",
        )
    best = max(scores, key=lambda c: (sum(scores[c][b] for b in shared), -int(c.removeprefix("step "))))
    return int(best.removeprefix("step "))


def _order(checkpoint: str) -> int:
    step = checkpoint.removeprefix("step ")
    return int(step) if step.isdigit() else -1 if checkpoint == "base" else 0


def root(option: str | None = None) -> Path:
    """Where runs live: --runs-dir, else TINA_RUNS, else ./runs."""
    return Path(option or os.environ.get("TINA_RUNS") or "runs")


def all_runs(parent: Path) -> list[Run]:
    """Every run under a folder, oldest first. Their manifests may be damaged."""
    try:
        return [
            Run(parent / name)
            for name in sorted(os.listdir(parent))
            if _holds_a_run(f"{parent}{os.sep}{name}")
        ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise TinaError(f"the runs in {parent} cannot be listed: {error.strerror}") from error


def _holds_a_run(path: Path | str) -> bool:
    return os.path.exists(
        f"{path}{os.sep}{MANIFEST}"
    )  # unlike Path.exists, False where it may not be looked into


def find(
    reference: str, parent: Path, able: Callable[[Run], bool] = lambda _: True, wanted: str = "can be read"
) -> Run:
    """RUN as typed: an id, a unique prefix, a path, or "latest".

    "latest" is the newest run for which `able` holds; wanted: in words, for the error where there is none.
    """
    path = Path(reference)
    if _holds_a_run(path):
        return Run(path.resolve() if reference in (".", "..") else path)
    runs = all_runs(parent)
    if not runs:
        raise RunNotFound(
            f"there are no runs in {parent}", "start one with 'tina run', or name --runs-dir DIR"
        )
    if reference == "latest":
        return _latest(runs, parent, able, wanted)
    matches = [run for run in runs if run.id.startswith(reference)]
    exact = [run for run in matches if run.id == reference]
    if len(exact or matches) == 1:
        return (exact or matches)[0]
    if matches:
        raise TinaError(f"'{reference}' fits {len(matches)} runs", ", ".join(run.id for run in matches[-5:]))
    hint = did_you_mean(reference, [run.id for run in runs], f"the newest is {runs[-1].id}; see 'tina runs'")
    raise RunNotFound(f"there is no run '{reference}' in {parent}", hint)


def _latest(runs: list[Run], parent: Path, able: Callable[[Run], bool], wanted: str) -> Run:
    dated = []
    for run in runs:
        try:
            dated.append((run.manifest()["created"], run))
        except RunError:
            continue  # it costs its own row in `tina runs`, where the reason is shown
    for _, run in sorted(dated, key=lambda pair: pair[0], reverse=True):
        if able(run):
            return run
    raise TinaError(f"no run in {parent} {wanted}", "'tina runs' shows those there are")
