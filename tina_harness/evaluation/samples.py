"""Samples that are never lost and never computed twice.

Each finished sample is appended to a file at once. The file's name is a hash of everything the sample
depends on besides prompt and seed: the files of model, tokenizer and adapter, sampling settings, engine,
versions of the libraries, device. So a checkpoint that was rewritten at the same path has another file, and
what was sampled before a crash, or in another run, is found again. KEY.json beside KEY.jsonl says what that
was.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tina_harness import checked
from tina_harness.discovery import version_of
from tina_harness.errors import TinaError
from tina_harness.evaluation.adapters import adapter_settings
from tina_harness.evaluation.entries import Entries, as_line
from tina_harness.runs import write_json
from tina_harness.specs import Completion, Engine, Sampling

LOCK_SECONDS = 60  # an entry takes a ten-thousandth of one
LIBRARIES = ("torch", "transformers", "peft")
# Files in a model's folder that no engine reads: documentation, and the state that a training resumes from.
NO_INPUT = (
    "readme*", "license*", "notice*", "*.md", "*.pdf", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.webp",
    ".*", "*.lock", "*.log", "checksums.json", "tina-mirror.json", "optimizer*.pt", "optimizer*.bin",
    "scheduler.pt", "scaler.pt", "rng_state*.pth", "trainer_state.json", "training_args.bin",
)  # fmt: skip
# What peft notes about an adapter's origin. It does not change what the adapter computes.
ORIGIN = ("base_model_name_or_path", "revision", "inference_mode", "peft_version", "auto_mapping")
# peft keeps these as sets, and writes them in a random order.
UNORDERED = ("target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern")


class SampleStore:
    """The samples of one model, adapter and setting.

    identity: what they depend on, see `identity`. earlier: the same by `earlier_identity`; samples that an
    earlier version kept under it are given, too, and counted in `earlier_used`. say: takes a line about a
    file that was damaged. label: of the model and adapter, for the reader of KEY.json.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        say: Callable[[str], None],
        earlier: Mapping[str, Any] | None = None,
        label: str = "",
    ) -> None:
        self.key = _key(identity)
        self.path = folder / f"{self.key}.jsonl"
        self.earlier_used = 0
        self._about = {"of": label, "identity": identity}
        self._lock = FileLock(self.path.with_suffix(".lock"), timeout=LOCK_SECONDS, poll_interval=0.002)
        self._say = say
        self._files = [Entries(self.path)]
        if self._files[0].damaged:
            self._set_aside()
        if earlier is not None:
            self._files.append(Entries(folder / f"{_key(earlier)}.jsonl"))

    def get(self, prompt: str, seed: int) -> Completion | None:
        """A sample that is here already."""
        for at, entries in enumerate(self._files):
            found, damaged = entries.get((_digest(prompt), seed))
            if damaged:
                self._say(f"{damaged} samples in {entries.path} are damaged; they are not used")
            if found is not None:
                self.earlier_used += at
                return found
        return None

    def add(self, prompt: str, seed: int, completion: Completion) -> None:
        """Keep a sample, on disk before this returns (a kill cannot lose it).

        Raises OSError where it cannot be written, TinaError where another process holds the file.
        """
        line = as_line((_digest(prompt), seed), completion)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._held():
            # Opened anew each time: another process may have replaced the file (`_set_aside`).
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                if os.write(descriptor, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            finally:
                os.close(descriptor)
            if self._about and not (about := self.path.with_suffix(".json")).exists():
                write_json(about, self._about)
            self._about = {}

    def forget(self) -> None:
        """Use none of the samples that are here; what is sampled now is kept beside them."""
        self._files = []

    @contextmanager
    def _held(self) -> Iterator[None]:
        """No other process adds to the file, or replaces it, meanwhile."""
        try:
            self._lock.acquire()
        except Timeout as error:
            raise TinaError(
                f"another process has held {self._lock.lock_file} for {LOCK_SECONDS} s",
                "a process that was stopped may hold it: let it go on, or end it",
            ) from error
        try:
            yield
        finally:
            self._lock.release()

    def _set_aside(self) -> None:
        """Keep a copy of a damaged file, and go on with its whole samples."""
        with self._held():
            entries = Entries(self.path)
            damaged = entries.damaged
            if damaged:  # otherwise another process was here first
                aside = self.path.with_suffix(".damaged")
                shutil.copyfile(self.path, aside)
                temporary = self.path.with_suffix(".tmp")
                with open(temporary, "wb") as file:
                    for text in entries.whole():
                        damaged += text is None
                        file.write(b"" if text is None else text + b"\n")
                temporary.replace(self.path)
                entries = Entries(self.path)
            self._files = [entries]
        if damaged:
            self._say(f"{damaged} samples in {aside} are damaged; it is set aside, they are sampled again")


def identity(
    folder: Path,
    adapter: Path | None,
    engine: Engine,
    dtype: str,
    sampling: Sampling,
    digest: Callable[[Path], str],
    device: str,
) -> dict[str, Any]:
    """What samples depend on besides prompt and seed.

    folder, adapter: of the model, and of a LoRA adapter for it. digest: path -> sha256 of a file.
    device: "cpu", or the name of the GPU. Raises TinaError where the adapter's settings cannot be read.
    """
    # A server has libraries and a device of its own: `Engine.identity` says what is known of them.
    libraries = {name: version_of(name) for name in LIBRARIES}
    here = {} if engine.remote else {"device": device, "libraries": libraries}
    return {
        "model": {str(p.relative_to(folder)): digest(p) for p in _inputs(folder)},
        "adapter": {} if adapter is None else _adapter(adapter, digest),
        "engine": engine.name,
        "version": engine.version,
        "server": checked.identity(engine),
        "dtype": dtype,
        "sampling": sampling._asdict(),
        **here,
    }


def earlier_identity(
    folder: Path,
    adapter: Path | None,
    engine: Engine,
    dtype: str,
    sampling: Sampling,
    digest: Callable[[Path], str],
) -> dict[str, Any]:
    """What tina-harness 0.1 named a file of samples by: it is how such a file is found, and never changes."""
    names = ("*.safetensors", "tokenizer*.json", "tokenizer.model", "generation_config.json", "config.json")
    files = sorted({p for name in names for p in folder.glob(name)})
    return {
        "weights": {p.name: digest(p) for p in files},
        "adapter": {} if adapter is None else {p.name: digest(p) for p in sorted(adapter.glob("adapter_*"))},
        "engine": engine.name,
        "version": version_of(engine.requires) if engine.requires else "",
        "server": checked.identity(engine),
        "dtype": dtype,
        "sampling": sampling._asdict(),
    }


def _inputs(folder: Path) -> list[Path]:
    """The files that an engine may read of a model: all of its folder, and chat templates one below."""
    found = [*folder.glob("*"), *folder.glob("additional_chat_templates/*")]
    names = sorted(p for p in found if p.is_file())
    return [p for p in names if not any(fnmatch(p.name.lower(), pattern) for pattern in NO_INPUT)]


def _adapter(adapter: Path, digest: Callable[[Path], str]) -> dict[str, str]:
    """Name -> sha256 of an adapter's files; of its settings, where they say the same, the same."""
    files = {p.name: p for p in sorted(adapter.glob("adapter_*"))}
    digests = {name: digest(path) for name, path in files.items() if name != "adapter_config.json"}
    if "adapter_config.json" in files:
        digests["adapter_config.json"] = hashlib.sha256(_settings(adapter).encode()).hexdigest()
    return digests


def _settings(adapter: Path) -> str:
    """An adapter's settings in one form: keys and sets in order, without what is empty or of its origin."""
    kept = {}
    for name, value in sorted(adapter_settings(adapter).items()):
        if name in UNORDERED and isinstance(value, list):
            value = sorted(set(value), key=str)
        if name not in ORIGIN and value is not None and value is not False and value not in ([], {}):
            kept[name] = value
    return json.dumps(kept)  # the order inside rank_pattern counts: the first pattern that fits decides


def _key(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
