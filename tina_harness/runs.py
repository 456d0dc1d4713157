"""The run directory: manifest, metrics, completions, checkpoints, evaluations.

Every file is written whole (temporary name, fsync, rename) or append-only by lines, so that a run
that was killed at any instant is readable. One process at a time holds a run, by a file lock.
"""

from __future__ import annotations

import contextlib
import errno
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

from tina_harness.errors import RunError, TinaError, did_you_mean

MANIFEST = "manifest.json"
CHECKSUMS = "checksums.json"


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
        return self.path / "metrics.jsonl"

    @property
    def checkpoints_dir(self) -> Path:
        """Adapters and trainer state, a folder a step."""
        return self.path / "checkpoints"

    def manifest(self) -> dict[str, Any]:
        """The run's manifest. Raises RunError where it is damaged."""
        try:
            manifest: dict[str, Any] = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / MANIFEST} cannot be read: {error}") from error
        return manifest

    def update(self, **changes: Any) -> None:
        """Change entries of the manifest, whole."""
        write_json(self.path / MANIFEST, {**self.manifest(), **changes, "updated": now()})

    def seconds(self) -> dict[str, float]:
        """Seconds by phase, over all resumes.

        A phase that is under way, or that a kill ended, counts until the run's last sign of life: the newest
        of the files that it writes as it goes.
        """
        manifest = self.manifest()
        ledger: dict[str, float] = dict(manifest.get("seconds", {}))
        if phase := manifest.get("phase"):
            signs = [p.stat().st_mtime for p in (self._metrics, self.log, self.path / MANIFEST) if p.exists()]
            spent = max(0.0, max(signs) - phase["since"])
            ledger[phase["name"]] = round(ledger.get(phase["name"], 0.0) + spent, 3)
        return ledger

    def usd(self, seconds: float) -> float | None:
        """The price of that many seconds on its hardware, as known when it was started."""
        hardware = self.manifest().get("hardware", {})
        price = hardware.get("usd_per_hour")
        devices = hardware.get("count", 1) + hardware.get("elsewhere", 0)
        return None if price is None else price * devices * seconds / 3600

    def touch(self) -> None:
        """A sign of life, from work that writes elsewhere."""
        os.utime(self.path / MANIFEST)

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
        """One JSON object a line. NaN and infinities become null."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        with open(self._metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps(clean) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl in order of steps; after a resume, a step's last line counts.

        A last line that was cut by a kill is left out.
        """
        by_step: dict[int, dict[str, Any]] = {}
        try:
            text = self._metrics.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        for line in text.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                record = json.loads(line)
                by_step[record["step"]] = record
        return [by_step[step] for step in sorted(by_step)]

    def save_completions(self, step: int, columns: Mapping[str, Sequence[Any]], keep: int) -> None:
        """The rollouts of one step, with their rewards, as parquet; the newest `keep` steps stay."""
        if not keep:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = self.path / "completions"
        folder.mkdir(exist_ok=True)
        target = folder / f"step-{step:06d}.parquet"
        temporary = target.with_suffix(".tmp")
        pq.write_table(pa.table(dict(columns)), temporary)
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

    def whole_checkpoints(self, say: Callable[[str], None]) -> list[tuple[int, Path]]:
        """The checkpoints whose newest one has every file as it was written; say is told of damaged ones."""
        found = self.checkpoints()
        while found and (damage := damaged(found[-1][1])):
            say(f"the checkpoint of step {found[-1][0]} is damaged ({damage}); the one before it is used")
            found.pop()
        return found

    def evaluation(self, checkpoint: str, benchmark: str) -> Path:
        """The folder under evals/ for "base", "step N" or "adapter NAME", such as "step-000040-aime24"."""
        kind, _, which = checkpoint.partition(" ")
        part = f"{kind}-{int(which):06d}" if kind == "step" else checkpoint
        return self.path / "evals" / re.sub(r"[^\w.-]+", "-", f"{part}-{benchmark}")

    def results(self) -> list[dict[str, Any]]:
        """Every results.json under evals/."""
        found = []
        for path in sorted(self.path.glob("evals/*/results.json")):
            with contextlib.suppress(OSError, ValueError):
                found.append(json.loads(path.read_text(encoding="utf-8")))
        return found

    def status(self) -> str:
        """As in the manifest, but "killed" where it says running and no process holds the run."""
        status = str(self.manifest().get("status", "?"))
        if status != "running":
            return status
        try:
            with self.locked():
                return "killed"
        except TinaError:
            return status

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


def root(option: str | None = None) -> Path:
    """Where runs live: --runs-dir, else TINA_RUNS, else ./runs."""
    return Path(option or os.environ.get("TINA_RUNS") or "runs")


def create(parent: Path, dataset: str, algo: str, manifest: Mapping[str, Any]) -> Run:
    """A new run directory with its first manifest. Raises TinaError where it cannot be written."""
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True, default=str).encode())
    digest.update(str(time.time_ns()).encode())
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in f"{dataset}-{algo}")
    path = parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{safe}-{digest.hexdigest()[:6]}"
    try:
        path.mkdir(parents=True)
        write_json(path / MANIFEST, {"id": path.name, "created": now(), "status": "running", **manifest})
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


def all_runs(parent: Path) -> list[Run]:
    """Every run under a folder, oldest first."""
    if not parent.is_dir():
        return []
    return [Run(p) for p in sorted(parent.iterdir()) if (p / MANIFEST).exists()]


def find(reference: str, parent: Path) -> Run:
    """RUN as typed: an id, a unique prefix, a path, or "latest"."""
    path = Path(reference)
    if (path / MANIFEST).exists():
        return Run(path.resolve() if reference in (".", "..") else path)
    runs = all_runs(parent)
    if not runs:
        raise TinaError(f"there are no runs in {parent}", "start one with 'tina run', or name --runs-dir DIR")
    if reference == "latest":
        return max(runs, key=lambda run: run.manifest()["created"])
    matches = [run for run in runs if run.id.startswith(reference)]
    exact = [run for run in matches if run.id == reference]
    if len(exact or matches) == 1:
        return (exact or matches)[0]
    if matches:
        raise TinaError(f"'{reference}' fits {len(matches)} runs", ", ".join(run.id for run in matches[-5:]))
    hint = did_you_mean(reference, [run.id for run in runs], f"the newest is {runs[-1].id}; see 'tina runs'")
    raise TinaError(f"there is no run '{reference}' in {parent}", hint)


def seal(folder: Path) -> None:
    """Write the checksums of a folder's files, the last of them: a folder without them was not finished."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != CHECKSUMS]
    write_json(folder / CHECKSUMS, {str(p.relative_to(folder)): _sha256(p) for p in files})


def damaged(folder: Path) -> str:
    """What is wrong with a sealed folder, in a few words; "" where nothing is."""
    try:
        sums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        for name, digest in sums.items():
            if _sha256(folder / name) != digest:
                return f"{name} has changed"
    except (OSError, ValueError, AttributeError) as error:
        return str(error) or type(error).__name__
    return ""


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole: temporary name, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=2, default=str)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def now() -> str:
    """UTC, to the millisecond."""
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"
