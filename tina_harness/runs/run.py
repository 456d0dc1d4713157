"""The run directory: manifest, metrics, completions, checkpoints, evaluations.

Every file is written whole (temporary name, fsync, rename) or append-only by lines, so that a run
that was killed at any instant is readable. One process at a time holds a run, by a file lock.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tina_harness.errors import RunError, TinaError
from tina_harness.files import write_json
from tina_harness.runs.checkpoints import CHECKSUMS, damaged, not_finite
from tina_harness.runs.ledger import moment, now, seconds_by_phase, status, this_process, usd
from tina_harness.runs.records import SCHEMA, Manifest, Result, read, read_result

MANIFEST = "manifest.json"
METRICS = "metrics.jsonl"
SIGN_EVERY_S = 5.0
TAIL = 4096  # bytes that hold the last lines of metrics
ROLLOUT_TEXTS = ("problem_id", "prompt", "completion", "gold")  # in completions/*.parquet; others: numbers


@dataclass(frozen=True)
class Run:
    """One run directory. Create with `create`, find again with `find`."""

    path: Path
    leads: ClassVar[bool] = True  # whether this process writes it; see worker.Follower

    @property
    def id(self) -> str:
        """The folder's name: <time>-<dataset>-<algo>-<hash>."""
        return self.path.name

    @property
    def log(self) -> Path:
        """Where the chatter of libraries goes."""
        return self.path / "log.txt"

    @property
    def give_up(self) -> Path:
        """Asks rank 0 to give the step under way up; see `stopping.give_up_when`."""
        return self.path / ".give-up"

    @property
    def _metrics(self) -> Path:
        return self.path / METRICS

    @property
    def checkpoints_dir(self) -> Path:
        """Adapters and trainer state, a folder a step."""
        return self.path / "checkpoints"

    def manifest(self) -> Manifest:
        """The run's manifest. Raises RunError where it is damaged."""
        return read(f"{self.path}{os.sep}{MANIFEST}", Manifest)

    def update(self, **changes: Any) -> None:
        """Change entries of the manifest, whole."""
        write_json(self.path / MANIFEST, {**self.manifest(), **changes, "updated": now()})

    def seconds(self) -> dict[str, float]:
        """Seconds by phase, over all resumes; see `ledger.seconds_by_phase`."""
        return seconds_by_phase(self.manifest(), self.newest())

    def usd(self, seconds: float) -> float | None:
        """The price of that many seconds on its hardware, as known when it was started."""
        return self.price()(seconds)

    def price(self) -> Callable[[float], float | None]:
        """`usd` for several amounts of seconds: the manifest is read once, when it is first needed."""
        hardware = functools.cache(lambda: self.manifest().get("hardware", {}))
        return lambda seconds: usd(hardware(), seconds)

    def touch(self) -> None:
        """A sign of life, from work that writes elsewhere; written at most every few seconds."""
        if time.time() - (moment(self.manifest().get("updated")) or 0.0) >= SIGN_EVERY_S:
            self.update()

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Count the time inside as that phase's, however it ends; nothing is to be written before it."""
        before = self.seconds()
        start = time.monotonic()
        self.update(seconds=before, phase={"name": phase, "since": time.time()})
        try:
            yield
        finally:
            spent = round(before.get(phase, 0.0) + time.monotonic() - start, 3)
            with contextlib.suppress(OSError):  # a full disk must not hide the error that is on its way
                self.update(seconds={**before, phase: spent}, phase=None)

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """One JSON object a line, with the time. NaN and infinities become null."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        with open(self._metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps({**clean, "when": now()}) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl in order of steps; after a resume, a step's last line counts.

        A line that was cut by a kill, or is damaged, is left out.
        """
        try:
            text = self._metrics.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        by_step = {line["step"]: line for line in _lines(text)}
        return [by_step[step] for step in sorted(by_step)]

    def newest(self) -> dict[str, Any] | None:
        """The last whole line of metrics.jsonl; None where there is none. Only the file's end is read."""
        try:
            with open(f"{self.path}{os.sep}{METRICS}", "rb", buffering=0) as file:
                size, length = os.fstat(file.fileno()).st_size, TAIL
                while True:
                    start = max(0, size - length)
                    file.seek(start)
                    end = file.read(length).decode("utf-8", errors="replace")
                    whole = end if start == 0 else end.partition("\n")[2]
                    if (line := next(_lines(whole, backwards=True), None)) or start == 0:
                        return line
                    length *= 4
        except FileNotFoundError:
            return None

    def save_completions(self, step: int, columns: Mapping[str, Sequence[Any]], keep: int) -> None:
        """The rollouts of one step as parquet; the newest `keep` steps stay. Numbers may be None."""
        if not keep:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = self.path / "completions"
        folder.mkdir(exist_ok=True)
        target = folder / f"step-{step:06d}.parquet"
        temporary = target.with_suffix(".tmp")
        types = {name: pa.string() if name in ROLLOUT_TEXTS else pa.float64() for name in columns}
        pq.write_table(pa.table(dict(columns), schema=pa.schema(types.items())), temporary)
        temporary.replace(target)
        for old in sorted(folder.glob("step-*.parquet"))[: -keep or None]:
            old.unlink()

    def checkpoints(self) -> list[tuple[int, Path]]:
        """(step, folder) of every checkpoint that was written to its end, oldest first."""
        found = []
        if self.checkpoints_dir.is_dir():
            for folder in self.checkpoints_dir.iterdir():
                step = folder.name.removeprefix("checkpoint-")
                if step.isdigit() and (folder / CHECKSUMS).exists():
                    found.append((int(step), folder))
        return sorted(found)

    def checkpoint(self, step: int) -> Path:
        """The folder of a checkpoint that is as it was written.

        Raises RunError, which names the steps that are whole, where it is damaged or not there.
        """
        found = dict(self.checkpoints())
        damage = _damage(found[step]) if step in found else "it is not there"
        if not damage:
            return found[step]
        whole = [str(s) for s, folder in found.items() if s != step and not _damage(folder)]
        raise RunError(
            f"the checkpoint of step {step} of {self.id} is damaged: {damage}",
            f"these steps are whole: {', '.join(whole)}; name one as {self.id}@{whole[-1]}"
            if whole
            else "it has no whole checkpoint",
        )

    def whole_checkpoints(self, say: Callable[[str], None]) -> list[tuple[int, Path]]:
        """The checkpoints whose newest one has every file as it was written; say is told of damaged ones."""
        found = self.checkpoints()
        while found and (damage := damaged(found[-1][1])):
            say(f"the checkpoint of step {found[-1][0]} is damaged ({damage}); the one before it is used")
            found.pop()
        return found

    def evaluation(self, checkpoint: str, benchmark: str, digest: str = "") -> Path:
        """The folder under evals/ for "base", "step N" or "adapter NAME": "step-000040-aime24-0f3a81c2".

        digest: of the result's identity; without one, the folder of version 0.1.0.
        """
        kind, _, which = checkpoint.partition(" ")
        part = f"{kind}-{int(which):06d}" if kind == "step" else checkpoint
        name = "-".join(filter(None, [part, benchmark, digest[:8]]))
        return self.path / "evals" / re.sub(r"[^\w.-]+", "-", name)

    def samples_of(self, result: Result) -> Path:
        """The samples.parquet of a result of this run."""
        digest = result["identity"]["digest"] if result["schema"] > 1 else ""
        return self.evaluation(result["checkpoint"], result["benchmark"], digest) / "samples.parquet"

    def results(
        self,
        say: Callable[[str], None] = lambda _: None,
        *,
        benchmark: str | None = None,
        checkpoint: str | None = None,
    ) -> list[Result]:
        """The results under evals/, of one benchmark and checkpoint or all, oldest first.

        say: is told of those that cannot be read.
        """
        found = []
        manifest = functools.cache(self.manifest)  # schema 1 needs it
        for path in self._results():
            try:
                result = read_result(path, lambda: manifest().get("engine"))
                if result["schema"] == 1:
                    result["usd"] = usd(manifest().get("hardware", {}), result["seconds"])
            except RunError as error:
                say(error.message)
                continue
            if benchmark in (None, result["benchmark"]) and checkpoint in (None, result["checkpoint"]):
                result["run"] = self.id  # the folder may have been renamed
                found.append(result)
        return sorted(found, key=lambda r: r.get("when", ""))

    def _results(self) -> list[str]:
        """The paths of results.json under evals/, in order."""
        evals = f"{self.path}{os.sep}evals"
        try:
            names = sorted(os.listdir(evals))
        except OSError:  # nothing was evaluated, or it may not be looked into
            return []
        paths = [f"{evals}{os.sep}{name}{os.sep}results.json" for name in names]
        return [path for path in paths if os.path.exists(path)]

    def status(self) -> str:
        """Its status now; see `ledger.status`."""
        return status(self.manifest(), self.newest())

    @contextlib.contextmanager
    def locked(self) -> Iterator[Run]:
        """Hold the run. Raises TinaError where another process holds it."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise TinaError(
                f"another process is working on {self.path}",
                "wait for it, or stop it and use 'tina resume'",
            ) from error
        try:
            yield self
        finally:
            lock.release()


def _damage(checkpoint: Path) -> str:
    return damaged(checkpoint) or not_finite(checkpoint)


def _lines(text: str, backwards: bool = False) -> Iterator[dict[str, Any]]:
    """The lines of metrics that are whole."""
    lines = text.splitlines()
    for line in reversed(lines) if backwards else lines:
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict) and type(record.get("step")) is int:
                yield record


def create(parent: Path, dataset: str, algo: str, manifest: Mapping[str, Any]) -> Run:
    """A new run directory with its first manifest. Raises TinaError where it cannot be written."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True, default=str).encode())
    digest.update(str(time.time_ns()).encode())
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in f"{dataset}-{algo}")
    path = parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{safe}-{digest.hexdigest()[:6]}"
    try:
        path.mkdir(parents=True)
        write_json(
            path / MANIFEST,
            {
                "schema": SCHEMA,
                "id": path.name,
                "created": now(),
                "status": "running",
                "process": this_process(),
                **manifest,
            },
        )
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise RunError(*disk_full(path)) from error
        raise TinaError(
            f"cannot write a run directory in {parent}: {error.strerror}",
            "name another with --runs-dir DIR or TINA_RUNS",
        ) from error
    return Run(path)


def is_disk_full(error: Exception, path: Path) -> bool:
    """Whether a full disk is behind an error; torch and safetensors raise classes of their own for it."""
    if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left" in str(error):
        return True
    with contextlib.suppress(OSError):
        return not isinstance(error, TinaError) and shutil.disk_usage(path).free < 2**20
    return False


def disk_full(path: Path) -> tuple[str, str]:
    """Message and hint for a full disk."""
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(path if path.exists() else path.parent).free // 2**20
        return (
            f"the disk that holds {path} is full ({free} MiB free)",
            "what was finished is kept; make room and continue with 'tina resume', or use --runs-dir",
        )
    return f"the disk that holds {path} is full", "make room, or use --runs-dir DIR"
