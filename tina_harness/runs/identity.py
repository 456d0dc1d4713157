"""Everything a number depends on, and whether two numbers may be compared.

The parts in PARTS have to agree. What is in `noted` (versions, device, seed) is shown and does not refuse;
`compared` (weights, adapter, tokenizer) is what a comparison is about.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any, TypedDict

# Part -> what it is, for messages. `--across PART` allows each but the first two.
PARTS = {
    "benchmark": "the benchmark",
    "problems": "its problems and golds",
    "subset": "how many of the problems",
    "scorer": "how answers are scored",
    "prompt": "prompt template, system prompt and chat template",
    "sampling": "temperature, top_p, longest completion and samples a problem",
    "engine": "the engine that sampled",
}
ACROSS = ("subset", "scorer", "prompt", "sampling", "engine")


class Identity(TypedDict):
    """What a result depends on. None: not recorded (version 0.1.0). digest: over all of it."""

    benchmark: str
    problems: str
    subset: str
    scorer: dict[str, Any]
    prompt: dict[str, Any] | None
    sampling: dict[str, Any]
    engine: str | None
    noted: dict[str, Any]
    compared: dict[str, Any]
    digest: str


def with_digest(parts: Mapping[str, Any]) -> Identity:
    """The identity with these parts, and a digest of them."""
    return Identity(**{**parts, "digest": digest(parts)})  # type: ignore[typeddict-item]


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=str)


def digest(value: Any) -> str:
    """16 hex digits that are the same for equal values, whatever the order of keys."""
    text = _ENCODER.encode(value)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def protocol(identity: Identity) -> str:
    """A digest of what has to agree: results with equal ones are ranked together."""
    return digest({part: identity.get(part) for part in PARTS})


def disagreements(a: Identity, b: Identity, across: Collection[str] = ()) -> dict[str, tuple[Any, Any]]:
    """Part -> (its value in a, in b), for the parts that have to agree and do not.

    across: parts that may differ. Where the subsets differ and may, the problems differ with them. What was
    not recorded does not disagree.
    """
    allowed = {*across, *(["problems"] if "subset" in across and a["subset"] != b["subset"] else [])}
    return {
        part: (one, other)
        for part in PARTS
        if part not in allowed
        and (one := a.get(part)) != (other := b.get(part))
        and one is not None
        and other is not None
    }


def unrecorded(*identities: Identity) -> list[str]:
    """The parts that one of them does not hold."""
    return [part for part in PARTS if any(i.get(part) is None for i in identities)]


def told(a: Any, b: Any) -> str:
    """What differs between two values of a part: "temperature 0.6, 1.0"."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        keys = [k for k in dict.fromkeys([*a, *b]) if a.get(k) != b.get(k)]
        return "; ".join(f"{k} {a.get(k)} and {b.get(k)}" for k in keys)
    return f"{a} and {b}"


def summary(identity: Identity) -> str:
    """What has to agree, in one line."""
    sampling, scorer = identity["sampling"], identity["scorer"]
    parts = [
        identity["benchmark"],
        identity["subset"],
        f"{sampling['samples']} samples at temperature {sampling['temperature']:g}, "
        f"top_p {sampling['top_p']:g}, up to {sampling['max_new_tokens']} tokens",
        str(identity["engine"] or "engine not recorded"),
        "scored by "
        + ", ".join(f"{v}" if k in ("by", "kind", "policy") else f"{k} {v}" for k, v in scorer.items()),
    ]
    return "; ".join(parts)
