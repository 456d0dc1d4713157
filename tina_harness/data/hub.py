"""Files by hub name: from the folders in TINA_MIRROR where they are there, else from the hub.

A mirror is a folder that holds `<repo id>/...` as on the hub. TINA_MIRROR may name several,
separated as in PATH.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tina_harness.data import cache, mirror, readers
from tina_harness.errors import TinaError
from tina_harness.specs import Row

# What a causal language model needs, and nothing else: no second set of weights, no code.
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")


@dataclass(frozen=True)
class Table:
    """Rows, once. origin: "mirror DIR" or "hub"; revision where known."""

    rows: Iterable[Row]
    origin: str
    revision: str


def mirrors() -> list[Path]:
    """The folders that TINA_MIRROR names."""
    folders = [Path(p).expanduser() for p in os.environ.get("TINA_MIRROR", "").split(os.pathsep) if p]
    for folder in folders:
        if not folder.is_dir():
            raise TinaError(f"TINA_MIRROR names {folder}, which is not a folder")
    return folders


def mirrored(repo: str) -> Path | None:
    """The folder of a mirror that holds this repo."""
    return next((folder / repo for folder in mirrors() if (folder / repo).is_dir()), None)


def table(repo: str, config: str | None, split: str, columns: Sequence[str], revision: str) -> Table:
    """The rows of one split, only the columns asked for. Raises TinaError that names what is missing."""
    folder = mirrored(repo)
    if folder is not None:
        manifest = mirror.read_manifest(folder)
        rows = _from_folder(folder, config, split, columns)
        return Table(rows, f"mirror {folder}", str(manifest.get("revision", "")) if manifest else "")
    return _from_hub(repo, config, split, columns, revision)


def model_folder(repo: str, revision: str) -> tuple[Path, str]:
    """(a local folder with the model's files, where it came from)."""
    folder = mirrored(repo)
    if folder is not None:
        if not (folder / "config.json").exists():
            raise TinaError(f"{folder} holds no model: config.json is missing")
        mirror.check(folder, sorted(str(p.relative_to(folder)) for p in folder.glob("*") if p.is_file()))
        return folder, f"mirror {folder}"
    from huggingface_hub import snapshot_download

    try:
        path = snapshot_download(repo, revision=revision or None, allow_patterns=list(MODEL_FILES))
    except hub_errors() as error:
        raise _unreachable(repo, error) from error
    return Path(path), f"hub {repo}@{Path(path).name}"


def download(
    repo: str, kind: str, revision: str, patterns: Sequence[str], destination: Path
) -> mirror.Copied:
    """A repository's files from the hub into a mirror. Raises TinaError where the hub does not give them."""
    try:
        return mirror.copy_from_hub(repo, kind, revision, patterns, destination)
    except hub_errors() as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise _unreachable(repo, error) from error


def _from_folder(folder: Path, config: str | None, split: str, columns: Sequence[str]) -> Iterator[Row]:
    """By the repository's card where it names the files, as on the hub; else by the files' names."""
    paths = _card_files(folder, config, split)
    if paths == []:
        paths = _split_files(folder, config, split)
    if not paths:
        try:
            files, plain = _listed(str(folder), config, split, None)
            if not plain:
                mirror.check(folder)
                return _by_datasets(str(folder), config, split, None, columns)
        except _unreadable() as error:
            there = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if readers.can_read(p))
            raise TinaError(
                f"{folder} has no rows of split '{split}'" + (f" of config '{config}'" if config else ""),
                f"it holds: {', '.join(there) or 'no parquet, jsonl, json or csv file'}",
            ) from error
        paths = [folder / os.path.relpath(f, folder.resolve()) for f in files]
    mirror.check(folder, [str(p.relative_to(folder)) for p in paths])
    return _read(paths, columns)


def _read(paths: Sequence[Path], columns: Sequence[str]) -> Iterator[Row]:
    for path in paths:
        yield from readers.read(path, columns)


def _split_files(folder: Path, config: str | None, split: str) -> list[Path]:
    """Files such as train.parquet, data/train-00000-of-00002.parquet, CONFIG/train.jsonl."""

    def fits(path: Path) -> bool:
        stem = path.name.partition(".")[0]
        return readers.can_read(path) and (stem == split or stem.startswith(f"{split}-"))

    files = sorted(p for p in folder.rglob("*") if fits(p))
    within = [p for p in files if config in p.relative_to(folder).parts]
    return within or [p for p in files if len(p.relative_to(folder).parts) == 1 or p.parent.name == "data"]


def _card_files(folder: Path, config: str | None, split: str) -> list[Path] | None:
    """The files of a split that `configs` in the card names; None: it takes `datasets` to read them so."""
    entry = _card_entry(folder / "README.md", config)
    if set(entry) - {"config_name", "data_files", "default", "features"}:
        return None
    files = entry.get("data_files") or []
    files = files if isinstance(files, list) else [files]
    splits = [f if isinstance(f, dict) else {"split": "train", "path": f} for f in files]
    wanted = [f.get("path", []) for f in splits if f.get("split") == split]
    patterns = [p for w in wanted for p in (w if isinstance(w, list) else [w])]
    found = [folder / n for p in patterns for n in sorted(glob.glob(p, root_dir=folder, recursive=True))]
    paths = [p for p in found if p.is_file() and p.name != "README.md"]
    return paths if all(readers.can_read(p) for p in paths) else None


def _card_entry(card: Path, config: str | None) -> dict[str, Any]:
    """What the head of a repository's card says of a configuration, or of its default one."""
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    if not text.startswith("---\n"):
        return {}
    import yaml

    try:
        head = yaml.safe_load(text.split("---\n")[1])
    except yaml.YAMLError as error:
        reason = str(error).replace("\n", " ")
        raise TinaError(
            f"the head of {card} is not YAML: {reason}", "correct it, or remove the file"
        ) from error
    told = head.get("configs") if isinstance(head, dict) else None
    configs = [c for c in told or () if isinstance(c, dict)]
    default = [c for c in configs if c.get("default") or c.get("config_name") == "default"] or configs[:1]
    named = [c for c in configs if c.get("config_name") == config] if config else default
    return named[0] if named else {}


def _listed(place: str, config: str | None, split: str, revision: str | None) -> tuple[list[str], bool]:
    """(the files of a split, whether our readers read them as they are).

    `datasets` finds the files of a folder or a hub repository, by its card or by their names.
    """
    import datasets

    found = datasets.load_dataset_builder(place, config, revision=revision or None).config
    files = [str(f) for f in (found.data_files or {}).get(split, ())]
    usual = type(found)()
    apart = ("name", "version", "data_dir", "data_files", "description", "features")
    options = [f.name for f in fields(found) if f.name not in apart]
    plain = all(getattr(found, name) == getattr(usual, name) for name in options)
    here = f"{Path(place).resolve().as_posix()}/" if revision is None else f"hf://datasets/{place}@"
    return files, bool(files) and plain and all(f.startswith(here) and readers.can_read(f) for f in files)


def _by_datasets(
    place: str, config: str | None, split: str, revision: str | None, columns: Sequence[str]
) -> Iterator[Row]:
    """Rows by `datasets`: of formats that have no reader here, of CSV with other separators, of slices."""
    import datasets

    builder = datasets.load_dataset_builder(place, config, revision=revision)
    text = {"converters": dict.fromkeys(columns, str), "keep_default_na": False}
    as_typed = text if hasattr(builder.config, "converters") else {}  # of CSV
    rows = datasets.load_dataset(place, config, split=split, revision=revision, **as_typed)
    readers.check_columns(rows.column_names, columns, place)
    batches = rows.select_columns(list(columns)).with_format("arrow").iter(1000)
    return (row for batch in batches for row in batch.to_pylist())


def _unreadable() -> tuple[type[Exception], ...]:
    """What `datasets` raises where it finds no such rows, or cannot read them or the card."""
    import yaml
    from datasets.exceptions import DatasetGenerationError

    return (OSError, ValueError, DatasetGenerationError, yaml.YAMLError)


def _from_hub(repo: str, config: str | None, split: str, columns: Sequence[str], revision: str) -> Table:
    from huggingface_hub import hf_hub_download

    try:
        names, at = _hub_files(repo, config, split, revision)
        if not names:
            return Table(_by_datasets(repo, config, split, at or None, columns), "hub", at)
        paths = [Path(hf_hub_download(repo, name, repo_type="dataset", revision=at)) for name in names]
    except (*hub_errors(), *_unreadable()) as error:
        raise _unreachable(repo, error) from error
    return Table(_read(paths, columns), "hub", at)


def _hub_files(repo: str, config: str | None, split: str, revision: str) -> tuple[list[str], str]:
    """(the files of a split, their commit); no files where it takes `datasets` to read them.

    What a commit holds is remembered, and for a day without the hub, what the newest commit held.
    """

    def key(commit: str) -> str:
        text = json.dumps([repo, config, split, commit])
        return f"files-{hashlib.sha256(text.encode()).hexdigest()[:24]}"

    commit = revision or _newest(repo)
    if (re.fullmatch("[0-9a-f]{40}", commit) or not commit) and (known := cache.read(key(commit))):
        return known["names"], known["commit"]
    files, plain = _listed(repo, config, split, commit)
    if not plain:
        return [], commit
    at, _, _ = files[0].partition("@")[2].partition("/")
    names = [f.partition(f"@{at}/")[2] for f in files]
    for each in {commit, revision}:
        cache.write(key(each), {"names": names, "commit": at})
    return names, at


def hub_errors() -> tuple[type[Exception], ...]:
    """What the hub client raises: its own errors, and those of the HTTP library that it is built on."""
    from huggingface_hub.errors import HfHubHTTPError

    http = next(c for c in HfHubHTTPError.__mro__ if c.__name__ == "HTTPError")
    return (http, OSError, ValueError)


def _newest(repo: str) -> str:
    """The newest commit of a dataset that is not pinned; "" where the hub does not answer."""
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(repo, timeout=10).sha)
    except Exception:  # whatever it is, loading says it better
        return ""


def _http_status(error: BaseException | None) -> int | None:
    """The status that the hub answered with, from an error or from what caused it."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None:
            return int(status)
        error = error.__cause__ or error.__context__
    return None


def _unreachable(repo: str, error: Exception) -> TinaError:
    text = str(error).strip()
    reason = text.splitlines()[0] if text else type(error).__name__
    status = _http_status(error)
    if status in (401, 403) or (status is None and "gated" in text.lower()):
        return TinaError(
            f"the hub does not give '{repo}' to this user: {reason}",
            f"ask for access at its page on the hub, then log in with 'hf auth login' (repo: {repo})",
        )
    looked = ", ".join(str(m) for m in mirrors())
    return TinaError(
        f"'{repo}' could not be loaded from the hub: {reason}",
        (f"it is not in the mirror either ({looked}). " if looked else "")
        + f"Check the name and the network, or set TINA_MIRROR=DIR where DIR/{repo}/ holds its files",
    )
