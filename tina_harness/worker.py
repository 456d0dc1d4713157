"""One training process among several, which `launching.py` starts."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tina_harness.errors import TinaError
from tina_harness.launching import ENDED, end_with_parent
from tina_harness.orchestrator import train_in_this_process
from tina_harness.planning import prepare
from tina_harness.provenance import as_begun
from tina_harness.registry import load as load_registry
from tina_harness.reporting.console import Console, libraries_aside
from tina_harness.runs import Run
from tina_harness.stopping import stoppable


class Follower(Run):
    """The run as a rank other than 0 has it: read, and not written."""

    leads = False

    def update(self, **changes: Any) -> None:
        """Rank 0 does it."""

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Rank 0 does it."""

    def save_completions(self, step: int, columns: Mapping[str, Sequence[Any]], keep: int) -> None:
        """Rank 0 does it."""


def main() -> None:
    """`python -m tina_harness.worker RUN_DIRECTORY`, with this process's rank in RANK."""
    end_with_parent()
    rank = int(os.environ["RANK"])
    path = Path(sys.argv[1])
    run = Run(path) if rank == 0 else Follower(path)
    with reported(run, rank):
        work(run, rank)


def work(run: Run, rank: int) -> None:
    """This process's share of the training of a run that another process holds."""
    registry = load_registry()
    plan = prepare(as_begun(run.manifest()), registry)
    console = Console() if rank == 0 else Console(silent=True)
    done = run.whole_checkpoints(console.say)
    with stoppable(console.say, gives_up=False) as stop, libraries_aside(console, run):
        try:
            train_in_this_process(run, plan, registry, console, done[-1][1] if done else None, stop)
        finally:
            for line in registry.failures():
                console.say(line)


@contextlib.contextmanager
def reported(run: Run, rank: int) -> Iterator[None]:
    """Tell the parent how rank 0 ended."""
    said: dict[str, Any] = {"message": "a training process was killed"}
    try:
        yield
        said = {}
    except TinaError as error:
        said = {"message": error.message, "hint": error.hint}
        raise
    except Exception as error:
        said = {
            "message": f"a training process failed: {(str(error) or type(error).__name__).splitlines()[0]}"
        }
        raise
    finally:
        if rank == 0:
            (run.path / ENDED).write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main()
