"""A mirror: repositories of the hub as folders, complete and checksummed, for machines without network.

Each repository's folder has a `tina-mirror.json`, written last, that lists its files with size and
sha256. A folder without one works too, but then nothing tells whether it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tina_harness.data import cache
from tina_harness.errors import TinaError

MANIFEST = "tina-mirror.json"
SETTLED_NS = 3_000_000_000  # longer than a tick of any file system's clock (2 s at the most)
DATA_FILES = ("*.parquet", "*.jsonl", "*.json", "*.csv", "README.md")


@dataclass(frozen=True)
class Copied:
    """One repository in a mirror. fetched: files that were not there yet; bytes of all."""

    repo: str
    revision: str
    origin: str
    files: int
    fetched: int
    bytes: int


def copy_from_hub(repo: str, kind: str, revision: str, patterns: Sequence[str], destination: Path) -> Copied:
    """Download the files of a revision into destination/repo. kind: "dataset" or "model".

    huggingface_hub continues where an interrupted download stopped. Raises what it raises.
    """
    from huggingface_hub import HfApi, snapshot_download

    info = HfApi().repo_info(repo, repo_type=kind, revision=revision or None)
    folder = destination / repo
    before = _whole(folder)
    snapshot_download(
        repo, repo_type=kind, revision=info.sha, allow_patterns=list(patterns), local_dir=folder
    )
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub's notes on this download
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return _finish(folder, repo, kind, str(info.sha), "hub", files, before)


def copy_from_folder(
    source: Path, repo: str, kind: str, patterns: Sequence[str], destination: Path
) -> Copied:
    """Copy the files of another mirror's folder; those that are there with the right sha256 stay."""
    recorded = read_manifest(source)
    there = _files(source)
    found = [p for p in there if any(p.match(pattern) for pattern in patterns)]
    if not found:
        raise TinaError(f"{source} holds no {kind}: none of its files is {', '.join(patterns)}")
    check(source, [str(p.relative_to(source)) for p in found])
    folder = destination / repo
    if folder.resolve() == source.resolve():
        raise TinaError(f"{source} is the mirror to copy from", "name another folder")
    before = _whole(folder)
    files = []
    for path in found:
        target = folder / path.relative_to(source)
        files.append(target)
        if before.get(str(path.relative_to(source))) != digest(path):
            _copy(path, target)
    revision = str(recorded.get("revision", "")) if recorded else ""
    return _finish(folder, repo, kind, revision, f"mirror {source}", files, before)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """A folder's `tina-mirror.json`, None where it has none. Raises TinaError for one that cannot be read."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        manifest["files"].items()
    except (ValueError, KeyError, AttributeError, OSError) as error:
        raise TinaError(f"{path} cannot be read: {error}", "copy it again: tina mirror NAME DEST") from error
    return manifest


def check(folder: Path, used: Sequence[str] = ()) -> None:
    """Raise TinaError where a listed file is missing or altered: all by size, those used by sha256."""
    manifest = read_manifest(folder)
    if manifest is None:
        return
    again = f"copy it again: tina mirror NAME {folder.parents[1] if len(folder.parents) > 1 else folder}"
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise TinaError(f"the mirror {folder} is not whole: {name} is missing", again)
        if path.stat().st_size != entry["size"]:
            raise TinaError(
                f"the mirror {folder} is not whole: {name} has {path.stat().st_size} bytes "
                f"where {entry['size']} were copied", again
            )  # fmt: skip
    for name in used:
        entry = manifest["files"].get(name)
        if entry is not None and digest(folder / name) != entry["sha256"]:
            raise TinaError(f"the mirror {folder} was altered: {name} is not the file that was copied", again)


def digest(path: Path) -> str:
    """sha256 of a file, remembered while nothing about the file changes.

    Size and time of modification can both be kept by whoever rewrites a file; the time of change (ctime) is
    the file system's own. A file that changed a moment ago is not remembered: within one tick of that clock
    it could change again.
    """
    now, status = time.time_ns(), path.stat()
    times = status.st_mtime_ns, status.st_ctime_ns
    what = [str(path.resolve()), status.st_dev, status.st_ino, status.st_size, *times]
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]
    known = cache.read(f"sha256-{key}")
    if known is None:
        with path.open("rb") as file:
            known = hashlib.file_digest(file, "sha256").hexdigest()
        if now - max(times) > SETTLED_NS:
            cache.write(f"sha256-{key}", known)
    return str(known)


def _files(folder: Path) -> list[Path]:
    found = folder.rglob("*") if folder.is_dir() else ()
    return sorted(p for p in found if p.is_file() and p.name != MANIFEST and p.suffix != ".incomplete")


def _whole(folder: Path) -> dict[str, str]:
    """name -> sha256 of the files that are there now."""
    return {str(p.relative_to(folder)): digest(p) for p in _files(folder)}


def _copy(source: Path, target: Path) -> None:
    """Whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.incomplete")
    with source.open("rb") as reader, temporary.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 2**20)
        writer.flush()
        os.fsync(writer.fileno())
    temporary.replace(target)


def _finish(
    folder: Path,
    repo: str,
    kind: str,
    revision: str,
    origin: str,
    files: Sequence[Path],
    before: dict[str, str],
) -> Copied:
    sizes = {str(p.relative_to(folder)): p.stat().st_size for p in files}
    sums = {str(p.relative_to(folder)): digest(p) for p in files}
    entries = {name: {"size": sizes[name], "sha256": sums[name]} for name in sizes}
    text = json.dumps({"repo": repo, "kind": kind, "revision": revision, "files": entries}, indent=1)
    temporary = folder / f".{MANIFEST}.incomplete"
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(folder / MANIFEST)
    for leftover in folder.rglob(".*.incomplete"):
        leftover.unlink()
    fetched = sum(before.get(name) != digest for name, digest in sums.items())
    return Copied(repo, revision, origin, len(sizes), fetched, sum(sizes.values()))
