"""tina run: the main job."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tina_harness.cli.common import (
    Name,
    json_option,
    load_registry,
    runs_dir_option,
    runs_root,
)
from tina_harness.errors import TinaError, did_you_mean
from tina_harness.registry import Registry

if TYPE_CHECKING:
    from tina_harness.config import Resolved

# flag -> dotted key of the configuration. None means "not given".
FLAGS = {
    "dataset": "dataset",
    "problem_column": "problem_column",
    "answer_column": "answer_column",
    "algo": "algo",
    "model": "model",
    "bench": "bench",
    "engine": "engine",
    "seed": "seed",
    "rows": "limit",
    "max_steps": "train.max_steps",
    "lr": "train.learning_rate",
    "lora_rank": "lora.r",
    "rslora": "lora.rslora",
    "dora": "lora.dora",
    "full": "full",
    "processes": "processes",
    "accelerate_config": "accelerate_config",
    "rollout_server": "rollout_server",
    "budget_usd": "budget_usd",
    "save_every": "train.save_every",
    "keep_last": "train.keep_last",
    "keep_best": "train.keep_best",
    "keep_completions": "train.keep_completions",
    "report_to": "train.report_to",
    "stop_after_transition": "train.stop_after_transition",
    "stop_on_hack": "guard.stop_on_hack",
    "limit": "eval.limit",
    "samples": "eval.samples",
}


@click.command()
@click.option("--dataset", type=Name("dataset"), help="Registry name, jsonl:FILE, parquet:FILE or hf:REPO.")
@click.option("--problem-column", metavar="NAME", help="Of a dataset of your own [problem].")
@click.option("--answer-column", metavar="NAME", help="Of a dataset of your own [answer].")
@click.option("--keep-overlap", is_flag=True, help="Train on rows that are also in the benchmarks.")
@click.option("--algo", type=Name("algorithm"), help="RL algorithm, for example grpo or drgrpo.")
@click.option("--model", type=Name("model"), help="Registry name, hub id (owner/name) or folder.")
@click.option("--bench", type=Name("benchmark"), multiple=True, help="Evaluate on this. May be repeated.")
@click.option("--preset", type=Name("preset"), help="Recipe to start from [the dataset's].")
@click.option("--config", "file", type=click.Path(dir_okay=False, path_type=Path), help="TOML file.")
@click.option("--engine", type=Name("engine"), help="What samples: transformers, vllm [by hardware].")
@click.option("--max-steps", type=click.IntRange(1), help="Stop after this many optimizer steps.")
@click.option(
    "--max-new-tokens", type=click.IntRange(1), help="Longest completion, in training and evaluation."
)
@click.option("--lr", type=float, help="Peak learning rate.")
@click.option("--lora-rank", type=click.IntRange(1), help="Rank of the adapters.")
@click.option(
    "--reward",
    multiple=True,
    metavar="NAME[=WEIGHT]",
    help="Replace all rewards of the recipe and --config, and their parameters, which --set "
    "rewards.NAME.PARAMETER=... sets again. May be repeated.",
)
@click.option("--rows", type=click.IntRange(1), help="Train on the first rows only.")
@click.option(
    "--limit", type=click.IntRange(1), help="Evaluate on the first problems of each benchmark only."
)
@click.option("--samples", type=click.IntRange(1), help="Completions per benchmark problem.")
@click.option("--rslora", is_flag=True, default=None, help="Rank-stabilised scale of the adapters.")
@click.option("--dora", is_flag=True, default=None, help="Adapters with a magnitude of their own.")
@click.option("--processes", type=click.IntRange(1), help="Train in so many processes, one a GPU.")
@click.option("--accelerate-config", type=click.Path(exists=True), help="File of 'accelerate config'.")
@click.option("--rollout-server", metavar="URL", help="A vLLM server that samples the rollouts.")
@click.option("--full", is_flag=True, default=None, help="Train all parameters, without adapters.")
@click.option(
    "--budget-usd", type=float, metavar="USD", help="Stop in time to cost no more, evaluation included."
)
@click.option("--save-every", metavar="STEPS|MINUTESm", help="Checkpoints: 50, or 10m.")
@click.option("--keep-last", type=click.IntRange(1), help="Keep so many of the newest checkpoints [all].")
@click.option("--keep-best", type=click.IntRange(1), help="And so many of those with the highest reward.")
@click.option("--keep-completions", type=click.IntRange(0), help="Newest steps whose rollouts stay [500].")
@click.option("--report-to", multiple=True, metavar="NAME", help="tensorboard, wandb, trackio or mlflow.")
@click.option("--stop-after-transition", type=click.IntRange(1), help="Stop so many steps after it.")
@click.option("--stop-on-hack", is_flag=True, default=None, help="Stop where a reward seems to be hacked.")
@click.option("--seed", type=int, help="Seed of everything that is random.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set any key, last of all.")
@click.option("--dry-run", is_flag=True, help="Show what would run and what it would cost, and stop.")
@runs_dir_option
@json_option
def command(dry_run: bool, runs_dir: str | None, as_json: bool, **options: Any) -> None:
    """Train a model with LoRA and RL, evaluate it, and show the table.

    Without options: the embedded default, which needs neither GPU nor network. Values come from the
    preset, then --config, then the other options, then --set.

    \b
    Examples:
      tina run
      tina run --dataset limr --algo drgrpo --model smollm2-135m --max-steps 3 --bench aime24
      tina run --preset tina-open-rs3 --dry-run
      tina run --set train.learning_rate=1e-4 --set rewards.format.weight=0.5
    """
    from tina_harness import orchestrator, planning

    registry = load_registry()
    plan = planning.prepare(resolve(options, registry), registry)
    parent = runs_root(runs_dir)
    if dry_run:
        _show(plan, planning.estimate(plan, parent), as_json)
        return
    if plan.dtype == "float32" and not plan.hardware.gpu and plan.model.parameters > 500_000_000:
        click.echo(
            f"note: {plan.model.name} has {plan.model.parameters / 1e9:.1f}B parameters; no GPU was found"
        )
    _start(lambda console: orchestrator.execute(plan, registry, parent, console), as_json)


def resolve(options: Mapping[str, Any], registry: Registry) -> Resolved:
    """The configuration that parsed options of `tina run` stand for."""
    from tina_harness import planning

    given: dict[str, tuple[Any, str]] = {
        key: (list(value) if isinstance(value, tuple) else value, f"--{name.replace('_', '-')}")
        for name, key in FLAGS.items()
        if (value := options[name]) not in (None, ())
    }
    if (longest := options["max_new_tokens"]) is not None:
        for key in ("train.max_new_tokens", "eval.max_new_tokens"):
            given[key] = (longest, "--max-new-tokens")
    if options["keep_overlap"]:
        given["keep_overlap"] = (True, "--keep-overlap")
    given |= _rewards(options["reward"], registry)
    return planning.layers(
        registry,
        preset=options["preset"],
        file=options["file"],
        flags=given,
        assignments=options["assignments"],
    )


def _start(work: Any, as_json: bool) -> None:
    """Carry a run to its end, on a console that keeps stdout for JSON where that was asked for."""
    from tina_harness.orchestrator import Interrupted
    from tina_harness.reporting import tables
    from tina_harness.reporting.console import Console

    try:
        run = work(Console(to_stderr=as_json))
    except Interrupted as error:
        raise SystemExit(error.args[0]) from None
    if as_json:
        manifest = run.manifest()
        click.echo(
            tables.as_json(
                {
                    "run": run.id,
                    "path": str(run.path),
                    "seconds": manifest["seconds"],
                    "usd": manifest.get("usd"),
                    "results": run.results(),
                }
            )
        )


def _rewards(given: Sequence[str], registry: Registry) -> dict[str, tuple[Any, str]]:
    """Dotted key -> (weight, the option as typed), in the order of the options."""
    rewards: dict[str, tuple[Any, str]] = {}
    for text in given:
        name, equals, weight = text.partition("=")
        if name not in registry.entries["reward"]:
            hint = did_you_mean(name, registry.names("reward"), "'tina list rewards' shows those there are")
            raise TinaError(f"--reward {text}: there is no reward '{name}'", hint)
        if f"rewards.{name}.weight" in rewards:
            raise TinaError(f"--reward names '{name}' twice", "give each reward once, with its weight")
        try:
            number = float(weight) if equals else 1.0
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise TinaError(f"--reward {text}: '{weight}' is not a number", "for example --reward accuracy=2")
        rewards[f"rewards.{name}.weight"] = (number, f"--reward {text}")
    return rewards


def _show(plan: Any, estimate: dict[str, Any], as_json: bool) -> None:
    """The resolved run: every value and where it came from, then what it amounts to."""
    from tina_harness.planning import describe
    from tina_harness.reporting import tables

    values = [{"key": k, "value": v, "from": origin} for k, v, origin in plan.resolved.rows()]
    amounts = {
        "rows": len(plan.problems),
        **{f"left out: {reason}": count for reason, count in plan.left_out.items()},
        "dataset fingerprint": plan.loaded.fingerprint,
        "steps": plan.steps,
        "completions per step": plan.completions_per_step,
        "tokens, at most": plan.tokens,
        "hours, at most": None if estimate["seconds"] is None else estimate["seconds"] / 3600,
        "training, USD, at most": estimate["usd"],
        "estimate": estimate["basis"],
        "price": plan.hardware.price_source,
    }
    if as_json:
        click.echo(tables.as_json({"config": values, "plan": amounts, "notes": describe(plan)}))
        return
    click.echo(tables.as_table([{**row, "value": tables.cell(row["value"])} for row in values]))
    click.echo()
    for line in describe(plan):
        click.echo(line)
    click.echo()
    click.echo(tables.as_table([{"amount": k, "": v} for k, v in amounts.items()]))
