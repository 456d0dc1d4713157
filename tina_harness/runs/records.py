"""The shapes of what lies in a run directory, and the check that a file has its shape.

Records may come from another version or another person: a reader gets one that has the fields and types
below, or one sentence that says what is wrong with the file.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import types
import typing
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar, get_args, get_origin

from tina_harness.errors import RunError
from tina_harness.runs.identity import Identity, with_digest

R = TypeVar("R")
SCHEMA = 2  # of the records that are written; those of 1 (version 0.1.0) are read
Fault = tuple[str, str]  # (where in the value, what is wrong there: "" for what is missing)
Check = Callable[[Any], Fault | None]
LARGEST = sys.float_info.max


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
    """manifest.json. seconds: by phase. usd: when the run ended. updated: the last change or sign of life.

    schema: 1 where it is not there.
    """

    schema: int
    id: str
    kind: str
    config: dict[str, Any]
    origins: dict[str, str]
    dataset: DataRecord
    model: ModelRecord
    benchmarks: list[str]
    engine: str
    engine_version: str | None
    dtype: str | None
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


class EstimateRecord(TypedDict):
    """`specs.Estimate` as a result holds it; shares are in [0, 1]."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    unit: str


class EngineRecord(TypedDict):
    """What sampled: the engine, its package's version, the dtype of the weights and the device.

    None: those of a server, which are not known here.
    """

    name: str
    version: str | None
    dtype: str | None
    device: str | None


class _Result(TypedDict):
    schema: int
    run: str
    checkpoint: str
    label: str
    model: str
    benchmark: str
    identity: Identity
    primary: str
    metrics: dict[str, EstimateRecord]
    problems: int
    problems_of: int | None
    samples: int
    counts: dict[str, int]
    seconds: float


class Result(_Result, total=False):
    """results.json: one checkpoint on one benchmark.

    primary: the metric that tables show. counts: samples by outcome. reused: samples that were there before.
    tokens: of all completions. usd: of the sampling, on the hardware that sampled.
    """

    reused: int
    seed: int
    origin: str
    revision: str
    tokens: int
    usd: float | None
    when: str
    engine: EngineRecord
    adapter_check: dict[str, Any] | None


_Scores = TypedDict("_Scores", {"pass@1": float | None})


class _OldResult(_Scores):
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


class OldResult(_OldResult, total=False):
    """results.json of schema 1 (version 0.1.0)."""

    metric: str
    problems_of: int | None
    reused: int
    verdicts: dict[str, int]
    answer_policy: str
    engine: dict[str, str | None]
    sampling: dict[str, float]
    seed: int
    origin: str
    revision: str
    fingerprint: str
    tokens: int
    when: str


def read_result(path: Path | str, engine: Callable[[], str | None]) -> Result:
    """A results.json of any schema, as one of today's. engine: gives what the run's manifest says."""
    value = _json(path)
    if isinstance(value, dict) and "schema" in value:
        return _of_shape(value, Result, path)
    return _upgraded(_of_shape(value, OldResult, path), engine())


KEPT = ("reused", "seed", "origin", "revision", "tokens", "when")  # as they are in both schemas


def _upgraded(old: OldResult, engine: str | None) -> Result:
    """Schema 1 as schema 2. What it did not record is None in the identity."""
    of, count = old.get("problems_of"), old["problems"]
    metric = old.get("metric", "pass@1")
    low, high = old["ci95"] if old["ci95"] else (None, None)
    metrics = {metric: _share(old["pass@1"], count, low, high)}
    for name, value in old.items():
        if "@" in name and name.startswith(("pass@", "maj@")) and name not in ("pass@1", metric):
            metrics[name] = _share(value, count)  # type: ignore[arg-type]
    metrics |= {f"rewards/{name}": _share(value, count) for name, value in old["rewards"].items()}
    metrics["tokens"] = {"value": old["mean_tokens"], "low": None, "high": None, "n": count, "unit": "tokens"}
    metrics["truncated"] = _share(old["truncated"], count)
    identity = with_digest(
        {
            "benchmark": old["benchmark"],
            "problems": old.get("fingerprint", ""),
            "subset": subset(count, of),
            "scorer": {"policy": old.get("answer_policy", "")},
            "prompt": None,
            "sampling": {**old.get("sampling", {}), "samples": old["samples"]},
            "engine": engine,
            "noted": {"seed": old.get("seed")},
            "compared": {"model": old["model"], "label": old["label"], "checkpoint": old["checkpoint"]},
        }
    )
    result: Result = {
        "schema": 1,
        "run": old["run"],
        "checkpoint": old["checkpoint"],
        "label": old["label"],
        "model": old["model"],
        "benchmark": old["benchmark"],
        "identity": identity,
        "primary": metric,
        "metrics": metrics,
        "problems": count,
        "problems_of": of,
        "samples": old["samples"],
        "counts": old.get("verdicts", {}),
        "seconds": old["seconds"],
    }
    for key in KEPT:
        if key in old:
            result[key] = old[key]  # type: ignore[literal-required]
    return result


def _share(
    value: float | None, n: int, low: float | None = None, high: float | None = None
) -> EstimateRecord:
    return {"value": value, "low": low, "high": high, "n": n, "unit": "share"}


def subset(problems: int, of: int | None, limit: int | None = None) -> str:
    """Which problems of a benchmark were evaluated: "all 30", "10 of 200", or "the first 10"."""
    if of is None and problems == limit:
        return f"the first {problems}"
    return f"all {problems}" if of in (None, problems) else f"{problems} of {of}"


def read(path: Path | str, shape: type[R]) -> R:
    """A JSON file as a record. Raises RunError that says what is wrong with the file."""
    return _of_shape(_json(path), shape, path)


def _json(path: Path | str) -> Any:
    try:
        return json.loads(_content(path).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RunError(f"{path} cannot be read: {reason}") from error


def _of_shape(value: Any, shape: type[R], path: Path | str) -> R:
    if fault := _check(typing.cast("Hashable", shape))(value):
        raise RunError(f"{path} cannot be read: {_in_words(fault)}")
    return typing.cast("R", value)


def _content(path: Path | str) -> bytes:
    """A file's bytes. The layers of `open` cost twice as much as reading a small file does."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        return b"".join(iter(lambda: os.read(descriptor, 2**14), b""))
    finally:
        os.close(descriptor)


def _in_words(fault: Fault) -> str:
    where, said = fault
    name = where.removeprefix(".")
    if not said:
        return f"it has no '{name}'"
    return f"'{name}' {said}" if name else f"it {said}"


@functools.cache
def _check(shape: Any) -> Check:
    """What tells the fault of a value. A shape is taken apart once: a listing checks thousands of files."""
    kind = get_origin(shape) or shape
    if kind in (types.UnionType, typing.Union):
        return _one_of([_check(one) for one in get_args(shape)])
    if kind is list:
        return _all_of(list, "a list", get_args(shape)[0])
    if kind is dict:
        return _all_of(dict, "an object", get_args(shape)[1])
    if typing.is_typeddict(kind):
        return _table(kind)
    fits, wanted = _LEAVES[kind]
    return lambda value: None if fits(value) else _said(value, wanted)


def _always(shape: Any) -> frozenset[type]:
    """The types whose values are all of a shape, whatever the value: most of a record is told by these."""
    if get_origin(shape) in (types.UnionType, typing.Union):
        return frozenset().union(*map(_always, get_args(shape)))
    return frozenset({shape} if shape in (str, int, bool, type(None)) else ())


_LEAVES: dict[Any, tuple[Callable[[Any], bool], str]] = {
    Any: (lambda _: True, "anything"),
    float: (lambda v: type(v) in (int, float) and abs(v) <= LARGEST, "a number"),
    int: (lambda v: type(v) is int, "an integer"),
    str: (lambda v: type(v) is str, "a text"),
    bool: (lambda v: type(v) is bool, "true or false"),
    type(None): (lambda v: v is None, "null"),
}


def _one_of(checks: Sequence[Check]) -> Check:
    def check(value: Any) -> Fault | None:
        faults = []
        for one in checks:
            if (fault := one(value)) is None:
                return None
            faults.append(fault)
        return faults[0]

    return check


def _all_of(kind: type[Any], wanted: str, element: Any) -> Check:
    """A list or an object whose values are all of one shape."""
    one, always = _check(element), _always(element)

    def check(value: Any) -> Fault | None:
        if type(value) is not kind:
            return _said(value, wanted)
        if element is Any or always.issuperset(map(type, value.values() if kind is dict else value)):
            return None
        for key, part in value.items() if kind is dict else enumerate(value):
            if fault := one(part):
                return (f".{key}" if kind is dict else f"[{key}]") + fault[0], fault[1]
        return None

    return check


def _table(shape: Any) -> Check:
    """An object with the fields of a TypedDict; others are let through."""
    fields = {n: (_always(f), _check(f)) for n, f in typing.get_type_hints(shape).items()}
    required = [name for name in fields if name in shape.__required_keys__]

    def check(value: Any) -> Fault | None:
        if not isinstance(value, dict):
            return _said(value, "an object")
        for name in required:
            if name not in value:
                return f".{name}", ""
        for name, part in value.items():
            if name in fields:
                always, one = fields[name]
                if type(part) not in always and (fault := one(part)):
                    return f".{name}{fault[0]}", fault[1]
        return None

    return check


def _said(value: Any, wanted: str) -> Fault:
    text = json.dumps(value, default=str)
    shown = text if len(text) <= 40 else text[:40] + " ..."
    return "", f"is {shown}, which is not {wanted}"
