"""What was computed from data and will be asked for again, as JSON in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tina_harness.specs import RowSource


def folder() -> Path:
    """Where the cache lives: XDG_CACHE_HOME, else ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "tina-harness"


def read(key: str) -> Any:
    """What was written under a key, or None. A damaged entry is none."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder() / f"{key}.json").read_text(encoding="utf-8"))
    return None


def write(key: str, value: Any) -> None:
    """Keep a value under a key; where the cache cannot be written, it is computed again."""
    with contextlib.suppress(OSError):
        target = folder() / f"{key}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{target.name}.{os.getpid()}")
        temporary.write_text(json.dumps(value), encoding="utf-8")
        temporary.replace(target)


def source_key(spec: RowSource, catalogue: Mapping[str, Any], seed: int = 0) -> str | None:
    """A digest of where a source's rows come from, which changes when they may have; None: unknown.

    Files count by name, size and time of change, the hub by its pinned revision.
    """
    from tina_harness.data import hub  # which verifies mirrors with this cache

    parts: list[str] = [spec.name, spec.repo, str(spec.config), spec.split, spec.problem, spec.answer]
    mirrored = hub.mirrored(spec.repo) if spec.repo else None
    if spec.files or mirrored:
        root = Path(spec.files).expanduser() if spec.files else mirrored
        assert root is not None
        files = sorted(p for p in ([root] if root.is_file() else root.rglob("*")) if p.is_file())
        parts += [f"{p}:{p.stat().st_size}:{p.stat().st_mtime_ns}" for p in files]
    elif spec.rows is not None:
        parts.append(f"generated:{seed}")
    elif revision := str(catalogue.get("revisions", {}).get(spec.repo, "")):
        parts.append(revision)
    else:
        return None
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:24]
