"""tina bench: how fast this machine is."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import click

from tina_harness.cli.common import Name, json_option, load_registry, print_rows

# A few steps of two prompts: enough to measure, short enough for a minute on a CPU with a small model.
STEPS, GROUP, TOKENS, TOKENS_GPU = 4, 4, 32, 256


@click.group()
def command() -> None:
    """Measure this machine.

    \b
    Example:
      tina bench hardware --model smollm2-135m
    """


@command.command()
@click.option("--model", type=Name("model"), help="What to measure with [by hardware].")
@click.option("--algo", type=Name("algorithm"), default="grpo", help="RL algorithm [grpo].")
@click.option("--engine", type=Name("engine"), help="What samples [by hardware].")
@click.option("--full", is_flag=True, default=None, help="All parameters, without adapters.")
@json_option
def hardware(model: str | None, algo: str, engine: str | None, full: bool | None, as_json: bool) -> None:
    """Tokens a second of a few real training steps; `tina run --dry-run` uses them from then on.

    \b
    Example:
      tina bench hardware --model smollm2-135m
      tina run --preset tina-limr --model smollm2-135m --dry-run
    """
    from tina_harness import orchestrator, planning
    from tina_harness.data import cache
    from tina_harness.hardware import detect
    from tina_harness.reporting.console import Console

    registry = load_registry()
    tokens = TOKENS_GPU if detect(registry.catalogue).gpu else TOKENS
    given: dict[str, Any] = {"algo": algo, "bench": [], "train.max_steps": STEPS, "train.group": GROUP}
    given |= {"train.batch": 2 * GROUP, "train.max_new_tokens": tokens, "train.learning_rate": 1e-6}
    default = "model_with_gpu" if tokens > TOKENS else "model_without_gpu"
    given |= {"model": model or registry.catalogue["defaults"][default]}
    given |= {k: v for k, v in {"engine": engine, "full": full}.items() if v is not None}
    flags = {key: (value, "tina bench") for key, value in given.items()}
    resolved = planning.layers(registry, preset="embedded", file=None, flags=flags, assignments=[])
    plan = dataclasses.replace(planning.prepare(resolved, registry), benchmarks=())
    with tempfile.TemporaryDirectory() as place:
        run = orchestrator.execute(plan, registry, Path(place), Console(to_stderr=True))
        steps = run.metrics()
    warm = steps[1:]  # the first step pays for start-up
    seen = steps[-1]["tokens"] - steps[0]["tokens"]
    seconds = sum(m["seconds"] for m in warm)
    sampled = sum(m["completion_length"] * plan.completions_per_step for m in warm)
    rollouts = sum(m["seconds_rollout"] for m in warm)
    measured = {"seconds": seconds, "tokens": seen}
    cache.write(planning.speed_key(plan), measured)
    row = {
        "model": plan.model.name,
        "device": plan.hardware.device,
        "dtype": plan.dtype,
        "engine": plan.engine.name,
        "sampled tokens/s": sampled / rollouts,
        "trained tokens/s": seen / max(seconds - rollouts, 1e-9),
        "tokens/s": seen / seconds,
        "usd per million": plan.hardware.dollars(1e6 * seconds / seen),
    }
    print_rows([row], as_json=as_json)
