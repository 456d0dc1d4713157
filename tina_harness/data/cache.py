"""What was computed from data and will be asked for again, as JSON in the user's cache folder."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any


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
