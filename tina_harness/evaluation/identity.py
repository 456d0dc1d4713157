"""What a result depends on, put together from a task, its settings and what its samples depend on."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import PurePath
from typing import Any

from tina_harness.evaluation.evaluate import Settings, Task
from tina_harness.grading import rules
from tina_harness.runs.identity import Identity, digest, with_digest
from tina_harness.specs import Benchmark

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf")


def identity_of(task: Task, settings: Settings, samples: Mapping[str, Any]) -> Identity:
    """The identity of a result. samples: `samples.identity` of the same subject and sampling."""
    files: Mapping[str, str] = samples["model"]
    weights = {n: d for n, d in files.items() if PurePath(n).suffix in _WEIGHTS}
    rest = {n: d for n, d in files.items() if n not in weights}
    noted = {k: samples[k] for k in ("version", "libraries", "dtype", "device") if k in samples}
    return with_digest(
        {
            "benchmark": task.benchmark.name,
            "problems": task.fingerprint,
            "subset": task.subset,
            "scorer": scorer_of(task.benchmark),
            "prompt": dict(task.prompted),
            "sampling": {**settings.asked._asdict(), "samples": settings.samples},
            "engine": samples["engine"],
            "noted": {
                **noted,
                "seed": settings.seed,
                "max_new_tokens": settings.sampling.max_new_tokens,
                "metrics": [metric.name for metric in settings.metrics],
                "rewards": sorted(settings.rewards),
            },
            "compared": {
                "model": digest(weights),
                "tokenizer": digest(rest),
                "adapter": digest(samples["adapter"]) if samples["adapter"] else "",
                "server": samples["server"],
            },
        }
    )


def scorer_of(benchmark: Benchmark) -> dict[str, Any]:
    """How a benchmark's samples are scored: by the grader, or by functions of its own."""
    for function in (benchmark.scorer, benchmark.score):
        if function is not None:
            name = getattr(function, "__qualname__", type(function).__qualname__)
            return {"by": f"{benchmark.origin or 'lighteval'} {name}"}
    return {
        "by": "grader",
        "kind": benchmark.answer_kind,
        "policy": benchmark.answer_policy,
        "rules": rules.VERSION,
        "math-verify": metadata.version("math-verify"),
    }
