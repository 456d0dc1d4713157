"""Which run is meant by what was typed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tina_harness.errors import RunError, TinaError, did_you_mean
from tina_harness.runs.run import MANIFEST, Run


def root(option: str | None = None) -> Path:
    """Where runs live: --runs-dir, else TINA_RUNS, else ./runs."""
    return Path(option or os.environ.get("TINA_RUNS") or "runs")


def all_runs(parent: Path) -> list[Run]:
    """Every run under a folder, oldest first. Their manifests may be damaged."""
    try:
        return [Run(parent / name) for name in sorted(os.listdir(parent)) if _holds_a_run(parent / name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise TinaError(f"the runs in {parent} cannot be listed: {error.strerror}") from error


def _holds_a_run(path: Path) -> bool:
    return os.path.exists(path / MANIFEST)  # unlike Path.exists, False where it may not be looked into


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
        raise TinaError(f"there are no runs in {parent}", "start one with 'tina run', or name --runs-dir DIR")
    if reference == "latest":
        return _latest(runs, parent, able, wanted)
    matches = [run for run in runs if run.id.startswith(reference)]
    exact = [run for run in matches if run.id == reference]
    if len(exact or matches) == 1:
        return (exact or matches)[0]
    if matches:
        raise TinaError(f"'{reference}' fits {len(matches)} runs", ", ".join(run.id for run in matches[-5:]))
    hint = did_you_mean(reference, [run.id for run in runs], f"the newest is {runs[-1].id}; see 'tina runs'")
    raise TinaError(f"there is no run '{reference}' in {parent}", hint)


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
