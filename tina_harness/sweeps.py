"""Sweeps: one run for each point of a grid, one after another, each in a process and a folder of its own.

A sweep's folder is named by what it runs, so the same command finds it again: points that are finished are
left alone, a point that was interrupted is resumed, one that failed is tried again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tina_harness import runs
from tina_harness.config import known_keys
from tina_harness.errors import TinaError, did_you_mean
from tina_harness.reporting.rows import score_rows
from tina_harness.runs.records import Result
from tina_harness.runs.results import alike


@dataclass(frozen=True)
class Point:
    """One combination of values (dotted key -> the text of the value), and the folder of its run."""

    values: Mapping[str, str]
    folder: Path

    @property
    def name(self) -> str:
        """Such as "lora.r=4 train.learning_rate=1e-6"."""
        return " ".join(f"{k}={v}" for k, v in self.values.items())

    def run(self) -> runs.Run | None:
        """Its run, once there is one."""
        found = runs.all_runs(self.folder) if self.folder.is_dir() else []
        return found[-1] if found else None


def grid_from(
    given: Sequence[str], names: Mapping[str, str], of_preset: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Dotted key -> values. given: "lr=1e-6,5e-6"; names: short name -> key; a preset's grid comes first."""
    grid = {key: [_text(v) for v in values] for key, values in of_preset.items()}
    known = set(known_keys())
    for text in given:
        name, equals, values = text.partition("=")
        key = names.get(name.replace("-", "_"), name)
        if not equals or not all(v.strip() for v in values.split(",")):
            raise TinaError(
                f"--grid {text}: expected KEY=VALUE,VALUE", "for example --grid lr=5e-7,1e-6,5e-6"
            )
        if key not in known and not key.startswith("rewards."):
            raise TinaError(f"--grid {text}: unknown key '{name}'", did_you_mean(name, [*names, *known]))
        grid[key] = [v.strip() for v in values.split(",")]
    return grid


def points(grid: Mapping[str, Sequence[str]], folder: Path) -> list[Point]:
    """Every combination, in the order of the grid."""
    found = []
    for values in itertools.product(*grid.values()):
        named = dict(zip(grid, values, strict=True))
        slug = "_".join(f"{k.rpartition('.')[2]}-{v}" for k, v in named.items())
        found.append(Point(named, folder / re.sub(r"[^\w.+-]+", "-", slug)))
    return found


def folder_of(parent: Path, words: Sequence[str], grid: Mapping[str, Sequence[str]]) -> Path:
    """Where a sweep of these options and this grid lives."""
    text = json.dumps([list(words), {k: list(v) for k, v in grid.items()}])
    return parent / f"sweep-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def carry_out(
    todo: Sequence[Point], words: Sequence[str], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Run every point that is not finished; words: options of `tina run`. Returns a record a point.

    A point that fails is recorded and the next one is run. Ctrl-C and SIGTERM stop after the point that runs
    has saved: KeyboardInterrupt, with its exit code.
    """
    records = []
    for number, point in enumerate(todo, start=1):
        run = point.run()
        status = run.status() if run else "new"
        label = f"point {number}/{len(todo)}, {point.name}"
        if status == "finished":
            say(f"{label}: was finished before")
        else:
            say(
                f"{label}: {'starts' if run is None else 'continues'}; its log is {point.folder / 'tina.log'}"
            )
            status = _carry_out(point, run, words)
            say(f"{label}: {status}")
        records.append({**point.values, "status": status})
    return records


def _carry_out(point: Point, run: runs.Run | None, words: Sequence[str]) -> str:
    point.folder.mkdir(parents=True, exist_ok=True)
    if run is None:
        settings = [w for k, v in point.values.items() for w in ("--set", f"{k}={v}")]
        command = ["run", *words, *settings, "--runs-dir", str(point.folder)]
    else:
        command = ["resume", run.id, "--runs-dir", str(point.folder)]
    with open(point.folder / "tina.log", "ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "tina_harness", *command], stdout=log, stderr=log)
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # it saves, and ends with 143
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
    if code == 0:
        return "finished"
    if code in (130, 143):
        raise KeyboardInterrupt(code)
    lines = (point.folder / "tina.log").read_text(encoding="utf-8", errors="replace").splitlines()
    reason = next((line for line in reversed(lines) if line.startswith(("error:", "Error:", "Usage:"))), "")
    return f"failed ({code}): {reason}".strip()


def table(todo: Sequence[Point], records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each point and benchmark: the last checkpoint's score with its interval and their unit."""
    rows = []
    runs_of = [point.run() for point in todo]
    trained = [r for run in runs_of if run for r in run.results() if r["checkpoint"] != "base"]
    counted = [r for group in alike(_last(trained)).values() for r in group]
    for run, record in zip(runs_of, records, strict=True):
        mine = [r for r in counted if run and r["run"] == run.id]
        usd = run.usd(sum(run.seconds().values())) if run else None
        run_cells = {"usd": usd, "run": run.id if run else None}
        for row in score_rows(mine, lambda _: None):
            cells = {k: row[k] for k in ("benchmark", "metric", "score", "ci95", "unit")}
            rows.append({**record, **cells, **run_cells})
        if not mine:
            empty = dict.fromkeys(("benchmark", "metric", "score", "ci95", "unit"))
            rows.append({**record, **empty, **run_cells})
    return rows


def _last(results: Sequence[Result]) -> list[Result]:
    """Those of each run's last checkpoint that was evaluated."""
    last: dict[str, int] = {}
    for r in results:
        step = int(r["checkpoint"].rpartition(" ")[2])
        last[r["run"]] = max(step, last.get(r["run"], 0))
    return [r for r in results if r["checkpoint"] == f"step {last[r['run']]}"]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
