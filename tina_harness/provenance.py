"""Where a run comes from: what its manifest says about data, weights, versions, machine and code."""

from __future__ import annotations

import contextlib
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tina_harness.config import Resolved, RunConfig
from tina_harness.errors import RunError
from tina_harness.hardware import Hardware
from tina_harness.planning import Plan
from tina_harness.registry import Registry
from tina_harness.runs.records import Manifest


def manifest_of(plan: Plan, registry: Registry) -> dict[str, Any]:
    """The first manifest of a training run."""
    return {
        "kind": "training",
        "config": plan.config.model_dump(),
        "origins": dict(plan.resolved.origins),
        "dataset": {
            "name": plan.dataset.name,
            "repo": plan.dataset.repo,
            "origin": plan.loaded.origin,
            "revision": plan.loaded.revision,
            "fingerprint": plan.loaded.fingerprint,
            "rows": len(plan.loaded.problems),
            "left_out": dict(plan.left_out),
        },
        "model": {
            "name": plan.model.name,
            "repo": plan.model.repo,
            "origin": plan.model_origin,
            "fingerprint": _weights_hash(plan.folder),
        },
        "benchmarks": [b.name for b in plan.benchmarks],
        "engine": plan.engine.name,
        "engine_version": plan.engine.version,
        "dtype": plan.dtype,
        "steps": plan.steps,
        "schedule_steps": plan.schedule_steps,
        **environment(registry, plan.hardware),
    }


def resolved_of(manifest: Manifest) -> Resolved:
    """The configuration that a manifest holds. Raises RunError where this version cannot read it."""
    try:
        # runs from before contradictory golds were set aside trained on them, and go on with the same rows
        config = RunConfig.model_validate({"keep_contradictions": True, **manifest["config"]})
        return Resolved(config, manifest.get("origins", {}))
    except (KeyError, ValidationError) as error:
        reason = "it has none" if isinstance(error, KeyError) else error.errors()[0]["msg"]
        raise RunError(
            f"the configuration of {manifest.get('id', 'the run')} cannot be read: {reason}",
            "use the version of tina-harness that made it: its manifest.json names it",
        ) from error


def as_begun(manifest: Manifest) -> Resolved:
    """The configuration of a training that goes on: with the engine it began with, whatever is installed now.

    No value counts as one that a user asks for now. Raises RunError where this version cannot read it.
    """
    found = resolved_of(manifest)
    origins = {key: f"manifest: {origin}" for key, origin in found.origins.items()}
    engine = manifest.get("engine", found.config.engine)
    return Resolved(found.config, origins).replaced({"engine": (engine, "manifest: engine")})


def environment(registry: Registry, hardware: Hardware) -> dict[str, Any]:
    """Hardware, versions, plugin distributions and git state, as every manifest records them."""
    from importlib import metadata

    packages = ("torch", "transformers", "trl", "peft", "datasets", "math-verify", "vllm", "tina-harness")
    versions = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    used = {e.origin for by in registry.entries.values() for es in by.values() for e in es}
    return {
        "hardware": asdict(hardware),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "plugins": sorted(used),
        "git": _git_state(),
        "seconds": {},
    }


def _git_state() -> dict[str, Any] | None:
    """Commit of the working directory and whether it was changed, where it is a git checkout."""
    import shutil
    import subprocess

    git = shutil.which("git")
    if not git:
        return None

    def ask(*words: str) -> str:
        done = subprocess.run([git, *words], capture_output=True, text=True, timeout=10, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = ask("rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(ask("status", "--porcelain"))} if commit else None
    except (OSError, subprocess.TimeoutExpired):
        return None


def _weights_hash(folder: Path) -> str:
    """sha256 over the weight files."""
    import hashlib

    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as file:
            while block := file.read(2**24):
                digest.update(block)
    return digest.hexdigest()[:16]
