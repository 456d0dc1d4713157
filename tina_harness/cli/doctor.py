"""tina doctor: is this machine ready?"""

from __future__ import annotations

import platform
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from tina_harness.cli.common import json_option, print_rows, runs_dir_option, runs_root
from tina_harness.errors import TinaError


@click.command()
@runs_dir_option
@json_option
def command(runs_dir: str | None, as_json: bool) -> int:
    """Check Python, packages against the tested ranges, GPU, disk, hub or mirror, and plugins.

    Exits with 1 where something is wrong.

    \b
    Example:
      tina doctor
    """
    rows = [*_python(), *_packages(), *_gpu(), *_disk(runs_root(runs_dir)), *_hub(), *_plugins()]
    print_rows(rows, as_json)
    return 1 if any(row["state"] == "wrong" for row in rows) else 0


def _row(check: str, state: str, detail: str) -> dict[str, Any]:
    return {"check": check, "state": state, "detail": detail}


def _python() -> Iterator[dict[str, Any]]:
    state = "ok" if sys.version_info >= (3, 11) else "wrong"
    yield _row("Python", state, f"{platform.python_version()} (needs >= 3.11)")


def _packages() -> Iterator[dict[str, Any]]:
    """Each dependency that the distribution declares, against its range."""
    from packaging.requirements import Requirement

    for text in metadata.requires("tina-harness") or []:
        requirement = Requirement(text)
        optional = requirement.marker is not None
        if optional and "vllm" not in text:
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            if not optional:
                yield _row(
                    requirement.name,
                    "wrong",
                    f"missing: pip install '{requirement.name}{requirement.specifier}'",
                )
            continue
        public = re.sub(r"\+.*", "", version)
        fits = requirement.specifier.contains(public, prereleases=True)
        state = "ok" if fits else "warn" if optional else "wrong"
        yield _row(requirement.name, state, f"{version} (tested: {requirement.specifier or 'any'})")


def _gpu() -> Iterator[dict[str, Any]]:
    from tina_harness.hardware import gpus

    found = gpus()
    yield _row("GPU", "ok" if found else "warn", ", ".join(found) or "none: tiny models only, on the CPU")


def _disk(root: Path) -> Iterator[dict[str, Any]]:
    place = root.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    yield _row("disk", "ok" if free > 5 else "warn", f"{free:.1f} GiB free for {root}")


def _hub() -> Iterator[dict[str, Any]]:
    from tina_harness.data.hub import mirrors

    try:
        folders = mirrors()
    except TinaError as error:
        yield _row("mirror", "wrong", error.message)
        return
    for folder in folders:
        repos = sum(1 for _ in folder.glob("*/*/"))
        yield _row("mirror", "ok", f"{folder}: {repos} repositories")
    from huggingface_hub.constants import ENDPOINT

    host = ENDPOINT.partition("://")[2].partition("/")[0].partition(":")[0]
    try:
        with socket.create_connection((host, 443), timeout=3):
            yield _row("hub", "ok", f"{ENDPOINT} answers")
    except OSError as error:
        detail = f"{ENDPOINT} is out of reach ({error.strerror or error}); TINA_MIRROR names folders to use"
        yield _row("hub", "ok" if folders else "warn", detail)


def _plugins() -> Iterator[dict[str, Any]]:
    from tina_harness import registry
    from tina_harness.discovery import discover

    try:
        loaded = registry.load()
    except TinaError as error:
        yield _row("registry.toml", "wrong", str(error))
        return
    good = len(discover()) - len(loaded.broken) - len(loaded.disabled)
    yield _row("plugins", "ok", f"{good} loaded")
    for broken in loaded.broken:
        yield _row("plugin", "wrong", str(broken))
    for kind, name, entries in loaded.conflicts():
        origins = " and ".join(e.origin for e in entries)
        yield _row("plugin", "wrong", f"{kind} '{name}' is claimed by {origins}; settle it in [prefer]")
