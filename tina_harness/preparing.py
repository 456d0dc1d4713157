"""What an evaluation needs, found out before an engine is loaded: tasks with their prompts, and settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tina_harness import checked
from tina_harness.config import RunConfig
from tina_harness.data import ChatTokenizer, load_benchmark, messages
from tina_harness.data.prompts import context_length, template_text
from tina_harness.errors import TinaError
from tina_harness.hardware import Hardware
from tina_harness.planning import Plan
from tina_harness.registry import Registry
from tina_harness.reporting.console import Console
from tina_harness.runs.checkpoints import check_whole
from tina_harness.runs.identity import digest as digest_of
from tina_harness.runs.records import subset
from tina_harness.specs import Benchmark, Engine, Metric, Sampling


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_all` needs besides a run: a part of a Plan, or built by `tina eval`."""

    config: RunConfig
    folder: Path
    engine: Engine
    benchmarks: tuple[Benchmark, ...]
    hardware: Hardware
    dtype: str


@dataclass(frozen=True)
class Prepared:
    """What can be found out, and go wrong, before an engine is loaded.

    tasks, settings: by benchmark. longest: prompt and completion, in tokens. adapters: those that will be
    evaluated.
    """

    tasks: Mapping[str, Any]
    settings: Mapping[str, Any]
    longest: int
    adapters: Any


def prepare_all(
    plan: Plan | Evaluation, subjects: Sequence[Any], registry: Registry, console: Console
) -> Prepared:
    """Load the benchmarks, render their prompts, and look at the adapters. Writes nothing."""
    from tina_harness.evaluation.proof import Adapters

    tokenizer = ChatTokenizer(plan.folder)
    tasks = {b.name: _task(b, tokenizer, registry, plan.config) for b in plan.benchmarks}
    paths = [s.adapter for s in subjects if s.adapter]
    for path in paths:
        check_whole(path)
    prompts = [prompt for task in tasks.values() for prompt in task.prompts[:8]]
    adapters = Adapters(plan.folder, paths, tokenizer.ids(prompts), console.say)
    if plan.engine.check_adapter:
        with checked.calling(plan.engine, "check_adapter"):
            for path in paths:
                plan.engine.check_adapter(path)
    settings, longest = _settings(plan, tasks, tokenizer, registry, console)
    return Prepared(tasks, settings, longest, adapters)


def _settings(
    plan: Plan | Evaluation,
    tasks: Mapping[str, Any],
    tokenizer: ChatTokenizer,
    registry: Registry,
    console: Console,
) -> tuple[dict[str, Any], int]:
    """(benchmark -> how it is sampled and scored, the longest sequence), within the model's context."""
    from tina_harness.evaluation.evaluate import Settings
    from tina_harness.scoring import build_rewards

    wanted = plan.config.eval
    context = context_length(plan.folder) or math.inf
    rewards = build_rewards(plan.config, registry, console.once)
    found, longest = {}, 0
    for name, task in tasks.items():
        benchmark, prompt_tokens = task.benchmark, max(tokenizer.count(task.prompts))
        asked = wanted.max_new_tokens or benchmark.max_new_tokens
        room = int(min(asked, context - prompt_tokens))
        if room < 1:
            raise TinaError(
                f"the longest prompt of {name} has {prompt_tokens} tokens, the model's context {context}",
                "evaluate a model with a longer context on it",
            )
        if room < asked:
            console.say(f"{name}: completions are cut at {room} tokens, what the context leaves")
        longest = max(longest, prompt_tokens + room)
        found[name] = Settings(
            asked=Sampling(wanted.temperature, wanted.top_p, asked),
            sampling=Sampling(wanted.temperature, wanted.top_p, room),
            samples=wanted.samples or benchmark.samples,
            seed=plan.config.seed,
            metrics=_metrics(benchmark, wanted.metrics, registry),
            rewards=rewards,
        )
    return found, longest


def _metrics(benchmark: Benchmark, more: Sequence[str], registry: Registry) -> tuple[Metric, ...]:
    """The benchmark's metrics, or those of [defaults], and those that were asked for."""
    names = [*(benchmark.metrics or registry.catalogue["defaults"].get("metrics", ())), *more]
    if not names:
        raise TinaError(
            f"no metric is named for {benchmark.name}", 'registry.toml: [defaults] metrics = ["pass@1"]'
        )
    return tuple(registry.get(Metric, name) for name in dict.fromkeys(names))


def _task(benchmark: Benchmark, tokenizer: ChatTokenizer, registry: Registry, config: RunConfig) -> Any:
    """A benchmark's problems with the prompts that this model sees."""
    from tina_harness.evaluation import Task

    loaded = load_benchmark(benchmark, registry, config.eval.limit)
    user = template_text(registry.catalogue, benchmark.prompt)
    wanted = benchmark.system if config.eval.system is None else config.eval.system
    system = template_text(registry.catalogue, wanted)
    turns = [
        messages(p.problem, system, user)
        if benchmark.conversation is None
        else checked.conversation(benchmark, benchmark.conversation, p)
        for p in loaded.problems
    ]
    return Task(
        benchmark,
        loaded.problems,
        [tokenizer.render(t) for t in turns],
        loaded.origin,
        loaded.revision,
        loaded.fingerprint,
        prompted=_prompted(benchmark, user, wanted, system),
        subset=subset(len(loaded.problems), benchmark.expected_rows, config.eval.limit),
    )


def _prompted(benchmark: Benchmark, user: str, name: str, system: str) -> dict[str, Any]:
    """How prompts come about, before they are rendered: templates by name and by a digest of their texts."""
    if benchmark.conversation is not None:
        return {"conversation": getattr(benchmark.conversation, "__qualname__", "a function")}
    return {
        "template": f"{benchmark.prompt} {digest_of(user)}",
        "system": f"{name} {digest_of(system)}" if system else "",
        "chat_template": "the model's",
        "few_shot": 0,
    }
