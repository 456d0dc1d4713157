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
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tina_harness import runs
from tina_harness.config import Resolved, known_keys
from tina_harness.errors import TinaError, did_you_mean
from tina_harness.planning import prepare, sampler_line
from tina_harness.provenance import as_begun
from tina_harness.registry import Registry
from tina_harness.reporting.rows import score_rows
from tina_harness.runs.records import Result
from tina_harness.runs.results import alike, preferred

LONGEST_NAME = 120  # characters of a point's folder, before the digest that then makes it its own


@dataclass(frozen=True)
class Point:
    """One combination of values (dotted key -> the text of the value), and the folder of its run."""

    values: Mapping[str, str]
    folder: Path

    @property
    def name(self) -> str:
        """Such as "lora.r=4 train.learning_rate=1e-6"."""
        return " ".join(f"{k}={v}" for k, v in self.values.items())

    @property
    def options(self) -> list[str]:
        """What it adds to the options of `tina run`."""
        return [word for k, v in self.values.items() for word in ("--set", f"{k}={v}")]

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
    own: dict[str, list[str]] = {}
    for text in given:
        name, equals, rest = text.partition("=")
        key = names.get(name.replace("-", "_"), name)
        values = _split(rest)
        if not equals or not all(values):
            raise TinaError(
                f"--grid {text}: expected KEY=VALUE,VALUE", "for example --grid lr=5e-7,1e-6,5e-6"
            )
        if key not in known and not key.startswith("rewards."):
            raise TinaError(f"--grid {text}: unknown key '{name}'", did_you_mean(name, [*names, *known]))
        if key in own:
            raise TinaError(f"--grid names {key} twice", f"--grid {name}={','.join([*own[key], *values])}")
        own[key] = values
    return grid | own


def _split(text: str) -> list[str]:
    """The values between commas, where those in a TOML list, table or quoted text do not count."""
    values, within, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'" and (within or not values[-1].strip()):
            quote = sign
        elif sign in "[{":
            within += 1
        elif sign in "]}":
            within -= 1
        elif sign == "," and not within:
            values.append("")
            continue
        values[-1] += sign
    if within or quote:
        raise TinaError(f"--grid: a bracket or quotation mark of {text} is not closed")
    return [v.strip() for v in values]


def points(grid: Mapping[str, Sequence[str]], folder: Path) -> list[Point]:
    """Every combination, in the order of the grid, each with a folder of its own."""
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    names = ["_".join(f"{k.rpartition('.')[2]}-{v}" for k, v in named.items()) for named in combinations]
    slugs = [re.sub(r"[^\w.+-]+", "-", name) for name in names]
    uses = Counter(slugs)
    found = []
    for named, slug in zip(combinations, slugs, strict=True):
        unique = uses[slug] == 1 and len(slug) <= LONGEST_NAME
        found.append(Point(named, folder / (slug if unique else f"{slug[:LONGEST_NAME]}-{_digest(named)}")))
    return found


def folder_of(parent: Path, words: Sequence[str], grid: Mapping[str, Sequence[str]]) -> Path:
    """Where a sweep of these options and this grid lives."""
    return parent / f"sweep-{_digest([list(words), {k: list(v) for k, v in grid.items()}])}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]


def check(
    todo: Sequence[Point], resolve: Callable[[Sequence[str]], Resolved], registry: Registry
) -> dict[Path, str]:
    """Plan every point that is not finished, so that a wrong one is found before the first one starts.

    resolve: the options that a point adds -> the configuration of its run. Returns what samples, by folder.
    Raises TinaError that names the point, also where two are the same run.
    """
    known: dict[Any, Any] = {}
    seen: dict[str, Point] = {}
    engines: dict[Path, str] = {}
    for number, point in enumerate(todo, start=1):
        run = point.run()
        if run is not None and run.status() == "finished":
            continue
        try:
            resolved = resolve(point.options)
            same = seen.setdefault(resolved.config.model_dump_json(), point)
            if same is not point:
                raise TinaError(f"it is the same run as {same.name}", "take one of the two out of the grid")
            plan = prepare(resolved if run is None else as_begun(run.manifest()), registry, known)
        except TinaError as error:
            where = f"point {number}/{len(todo)}, {point.name}"
            raise TinaError(f"{where}: {error.message}", error.hint) from error
        engines[point.folder] = sampler_line(plan.engine, plan.dtype, plan.hardware)
    return engines


def carry_out(
    todo: Sequence[Point], words: Sequence[str], engines: Mapping[Path, str], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Run every point that is not finished. Returns a record a point.

    words: options of `tina run`. engines: what samples, by the folder of the point.
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
            begins = "starts" if run is None else "continues"
            say(f"{label}: {begins}, {engines[point.folder]}; its log is {point.folder / 'tina.log'}")
            status = _carry_out(point, run, words)
            say(f"{label}: {status}")
        records.append({**point.values, "status": status})
    return records


def _carry_out(point: Point, run: runs.Run | None, words: Sequence[str]) -> str:
    point.folder.mkdir(parents=True, exist_ok=True)
    if run is None:
        command = ["run", *words, *point.options, "--runs-dir", str(point.folder)]
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
    counted = _comparable(_last(trained))
    for run, record in zip(runs_of, records, strict=True):
        mine = [r for r in counted if run and r["run"] == run.id]
        usd = run.usd(sum(run.seconds().values())) if run else None
        run_cells = {"usd": usd, "run": run.id if run else None}
        for row in score_rows(mine):
            cells = {k: row[k] for k in ("benchmark", "metric", "score", "ci95", "unit")}
            rows.append({**record, **cells, **run_cells})
        if not mine:
            empty = dict.fromkeys(("benchmark", "metric", "score", "ci95", "unit"))
            rows.append({**record, **empty, **run_cells})
    return rows


def _comparable(results: Sequence[Result]) -> list[Result]:
    """Of each run and benchmark one result: obtained as those of most runs, where the run has such a one.

    A grid over how benchmarks are sampled gives each point results of its own kind, which its row names.
    """
    found = [r for group in alike(results).values() for r in group]
    there = {(r["run"], r["benchmark"]) for r in found}
    return found + preferred(r for r in results if (r["run"], r["benchmark"]) not in there)


def _last(results: Sequence[Result]) -> list[Result]:
    """Those of each run's last checkpoint that was evaluated."""
    last: dict[str, int] = {}
    for r in results:
        step = int(r["checkpoint"].rpartition(" ")[2])
        last[r["run"]] = max(step, last.get(r["run"], 0))
    return [r for r in results if r["checkpoint"] == f"step {last[r['run']]}"]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
