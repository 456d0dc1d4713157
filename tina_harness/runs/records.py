"""The shapes of what lies in a run directory, and the check that a file has its shape.

Records may come from another version or another person: a reader gets one that has the fields and types
below, or one sentence that says what is wrong with the file.
"""

from __future__ import annotations

import functools
import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, TypeVar, get_args, get_origin

from tina_harness.errors import RunError


class HardwareRecord(TypedDict, total=False):
    """`hardware.Hardware` as a manifest holds it."""

    name: str
    device: str
    count: int
    gpu: bool
    usd_per_hour: float | None
    effective_tflops: float | None
    price_source: str
    elsewhere: int


class ProcessRecord(TypedDict):
    """The process that works on a run: its id, when it started (as the system counts), and its machine."""

    pid: int
    started: str
    host: str


class PhaseRecord(TypedDict):
    """What a run is doing, since when (seconds since 1970)."""

    name: str
    since: float


class DataRecord(TypedDict):
    """What was trained on."""

    name: str
    repo: str
    origin: str
    revision: str
    fingerprint: str
    rows: int
    left_out: dict[str, int]


class ModelRecord(TypedDict, total=False):
    """What was trained or evaluated."""

    name: str
    repo: str
    origin: str
    fingerprint: str


class TransitionRecord(TypedDict):
    """The step of the phase transition, and the checkpoint that was saved when it was seen."""

    step: int
    checkpoint: int


class _Started(TypedDict):
    created: str
    status: str


class Manifest(_Started, total=False):
    """manifest.json. seconds: by phase. usd: when the run ended. updated: the last change or sign of life."""

    id: str
    kind: str
    config: dict[str, Any]
    origins: dict[str, str]
    dataset: DataRecord
    model: ModelRecord
    benchmarks: list[str]
    engine: str
    engine_version: str
    dtype: str
    steps: int
    schedule_steps: int
    hardware: HardwareRecord
    python: str
    platform: str
    packages: dict[str, str]
    plugins: list[str]
    git: dict[str, Any] | None
    seconds: dict[str, float]
    seconds_of_steps: float
    seconds_of_checkpoints: float
    pid: int
    process: ProcessRecord | None
    phase: PhaseRecord | None
    updated: str
    built: dict[str, Any]
    transition: TransitionRecord
    trained_to: int
    usd: float | None
    finished: str


_Scores = TypedDict("_Scores", {"pass@1": float | None})


class _Result(_Scores):
    run: str
    checkpoint: str
    label: str
    model: str
    benchmark: str
    problems: int
    samples: int
    ci95: list[float] | None
    rewards: dict[str, float | None]
    mean_tokens: float
    truncated: float
    seconds: float


class Result(_Result, total=False):
    """results.json: one checkpoint on one benchmark. Shares are in [0, 1]. usd: of the sampling."""

    metric: str
    unit: str
    key: str
    problems_of: int | None
    reused: int
    not_gradable: int
    verdicts: dict[str, int]
    answer_policy: str
    sampling: dict[str, float]
    seed: int
    origin: str
    revision: str
    fingerprint: str
    tokens: int
    usd: float | None
    when: str


R = TypeVar("R")


def read(path: Path, shape: type[R]) -> R:
    """A JSON file as a record. Raises RunError that says what is wrong with the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RunError(f"{path} cannot be read: {reason}") from error
    if fault := _fault(value, shape, ""):
        raise RunError(f"{path} cannot be read: {fault}")
    return typing.cast("R", value)


def _fault(value: Any, shape: Any, name: str) -> str:
    """Why a value is not of a shape; "" where it is."""
    if shape is Any:
        return ""
    kind = get_origin(shape) or shape
    if kind in (types.UnionType, typing.Union):
        faults = [_fault(value, one, name) for one in get_args(shape)]
        return "" if "" in faults else faults[0]
    if kind is list:
        return _not(value, list, name, "a list") or _first(
            (f"{name}[{i}]", v, get_args(shape)[0]) for i, v in enumerate(value)
        )
    if kind is dict:
        return _not(value, dict, name, "an object") or _first(
            (f"{name}.{k}", v, get_args(shape)[1]) for k, v in value.items()
        )
    if typing.is_typeddict(kind):
        return _not(value, dict, name, "an object") or _table_fault(value, kind, name)
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return "" if number else _said(value, name, "a number")
    if kind is int:
        return (
            _said(value, name, "an integer")
            if isinstance(value, bool)
            else _not(value, int, name, "an integer")
        )
    if kind is type(None):
        return "" if value is None else _said(value, name, "null")
    return _not(value, kind, name, {str: "a text", bool: "true or false"}[kind])


def _table_fault(table: Mapping[str, Any], shape: Any, name: str) -> str:
    fields = _fields(shape)
    for key in fields:
        if key in shape.__required_keys__ and key not in table:
            return f"it has no '{name}.{key}'" if name else f"it has no '{key}'"
    known = ((f"{name}.{k}" if name else k, v, fields[k]) for k, v in table.items() if k in fields)
    return _first(known)


def _first(parts: typing.Iterable[tuple[str, Any, Any]]) -> str:
    return next((fault for name, v, shape in parts if (fault := _fault(v, shape, name))), "")


@functools.cache
def _fields(shape: Any) -> dict[str, Any]:
    return typing.get_type_hints(shape)


def _not(value: Any, kind: type, name: str, wanted: str) -> str:
    return "" if isinstance(value, kind) else _said(value, name, wanted)


def _said(value: Any, name: str, wanted: str) -> str:
    text = json.dumps(value, default=str)
    shown = text if len(text) <= 40 else text[:40] + " ..."
    subject = f"'{name}'" if name else "it"
    return f"{subject} is {shown}, which is not {wanted}"
