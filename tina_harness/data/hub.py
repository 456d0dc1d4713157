"""Files by hub name: from the folders in TINA_MIRROR where they are there, else from the hub.

A mirror is a folder that holds `<repo id>/...` as on the hub. TINA_MIRROR may name several,
separated as in PATH.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tina_harness.data import mirror
from tina_harness.errors import TinaError

# What a causal language model needs, and nothing else: no second set of weights, no code.
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")


@dataclass(frozen=True)
class Table:
    """Rows as an Arrow table. origin: "mirror DIR", "hub" or "generated"; revision where known."""

    rows: Any
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


def _from_folder(folder: Path, config: str | None, split: str, columns: Sequence[str]) -> Any:
    import pyarrow as pa

    files = _split_files(folder, config, split)
    mirror.check(folder, [str(p.relative_to(folder)) for p in files])
    if not files:
        return _by_card(folder, config, split, columns)
    tables = []
    for file in files:
        try:
            tables.append(_READERS[file.suffix](file, columns))
        except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
            raise TinaError(f"{file} cannot be read: {error}") from error
    return pa.concat_tables(tables, promote_options="permissive")


def _by_card(folder: Path, config: str | None, split: str, columns: Sequence[str]) -> Any:
    """Rows whose files are not named after their split: `datasets` knows, from the repository's card."""
    import datasets

    there = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix in _READERS)
    try:
        if not there:
            raise ValueError("no data")
        rows = datasets.load_dataset(str(folder), config, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
        raise TinaError(
            f"{folder} has no rows of split '{split}'" + (f" of config '{config}'" if config else ""),
            f"it holds: {', '.join(there) or 'no parquet, jsonl or csv file'}",
        ) from error
    check_columns(rows.column_names, columns, str(folder))
    return rows.select_columns(list(columns)).with_format("arrow")[:]


def _split_files(folder: Path, config: str | None, split: str) -> list[Path]:
    """Files such as train.parquet, data/train-00000-of-00002.parquet, CONFIG/train.jsonl."""

    def fits(path: Path) -> bool:
        return path.suffix in _READERS and (path.stem == split or path.stem.startswith(f"{split}-"))

    files = sorted(p for p in folder.rglob("*") if fits(p))
    within = [p for p in files if config in p.relative_to(folder).parts]
    return within or [p for p in files if len(p.relative_to(folder).parts) == 1 or p.parent.name == "data"]


def _read_parquet(path: Path, columns: Sequence[str]) -> Any:
    import pyarrow.parquet as pq

    check_columns(pq.read_schema(path).names, columns, str(path))
    return pq.read_table(path, columns=list(columns))


def _read_json(path: Path, columns: Sequence[str]) -> Any:
    import pyarrow.json as pj

    rows = pj.read_json(path)
    check_columns(rows.column_names, columns, str(path))
    return rows.select(list(columns))


def _read_csv(path: Path, columns: Sequence[str]) -> Any:
    import pyarrow.csv as pc

    rows = pc.read_csv(path, parse_options=pc.ParseOptions(newlines_in_values=True))
    check_columns(rows.column_names, columns, str(path))
    return rows.select(list(columns))


_READERS = {".parquet": _read_parquet, ".jsonl": _read_json, ".json": _read_json, ".csv": _read_csv}


def check_columns(there: Sequence[str], wanted: Sequence[str], where: str) -> None:
    """Raise TinaError that names the columns that are missing and those there are."""
    missing = [c for c in wanted if c not in there]
    if missing:
        raise TinaError(
            f"{where} has no column {' and no column '.join(repr(m) for m in missing)}",
            f"it has: {', '.join(there)}",
        )


def _from_hub(repo: str, config: str | None, split: str, columns: Sequence[str], revision: str) -> Table:
    import datasets

    revision = revision or _newest(repo)
    try:
        rows = datasets.load_dataset(repo, config, split=split, revision=revision or None)
    except (*hub_errors(), datasets.exceptions.DatasetNotFoundError) as error:
        raise _unreachable(repo, error) from error
    check_columns(rows.column_names, columns, f"{repo} on the hub")
    arrow = rows.select_columns(list(columns)).with_format("arrow")[:]
    return Table(arrow, "hub", revision)


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
