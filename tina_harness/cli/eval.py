"""tina eval: a model or a checkpoint on benchmarks."""

from __future__ import annotations

from typing import Any

import click

from tina_harness.cli.common import Name, json_option, load_registry, print_rows, runs_dir_option, runs_root
from tina_harness.errors import TinaError


@click.command()
@click.argument("subject", metavar="MODEL|RUN[@STEP]", type=Name("model"))
@click.option("--bench", type=Name("benchmark"), multiple=True, required=True, help="May be repeated.")
@click.option("--samples", type=click.IntRange(1), help="Completions per problem [the benchmark's].")
@click.option("--temperature", type=click.FloatRange(0), help="0 is greedy [0.6].")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="Nucleus sampling [0.95].")
@click.option("--max-new-tokens", type=click.IntRange(1), help="Longest completion [the benchmark's].")
@click.option("--limit", type=click.IntRange(1), help="The first problems only.")
@click.option("--engine", type=Name("engine"), help="What samples [by hardware].")
@click.option("--seed", type=int, help="Seed of the samples.")
@click.option("--no-cache", is_flag=True, help="Sample again what is here already.")
@runs_dir_option
@json_option
def command(
    subject: str,
    bench: tuple[str, ...],
    no_cache: bool,
    runs_dir: str | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Evaluate a model (name, hub id or folder), or a run's checkpoint, on benchmarks.

    RUN is an id, a unique prefix, a path or "latest"; RUN@STEP names a checkpoint, RUN the last one.

    \b
    Examples:
      tina eval tina-nano --bench arithmetic-heldout
      tina eval latest --bench aime24 --bench math500
    """
    from tina_harness import orchestrator, planning
    from tina_harness.config import Layers
    from tina_harness.hardware import detect
    from tina_harness.reporting.console import Console
    from tina_harness.reporting.tables import as_json as to_json
    from tina_harness.reporting.tables import score_rows

    registry = load_registry()
    hardware = detect(registry.catalogue)
    parent = runs_root(runs_dir)
    run, step = _find(subject, parent, registry)
    layers = Layers(registry)
    if run is None:
        layers.add({"dataset": "-", "algo": "-", "model": subject}, "command line")
    else:
        layers.add(run.manifest()["config"], run.id)
    for key, value in flags.items():
        if value is not None:
            layers.set({"engine": "engine", "seed": "seed"}.get(key, f"eval.{key}"), value, f"--{key}")
    layers.set("bench", list(bench), "--bench")
    if no_cache:
        layers.set("eval.cache", False, "--no-cache")
    resolved = layers.resolve()
    name = subject if run is None else run.manifest()["model"]["name"]
    run = orchestrator.evaluate_model(
        registry,
        parent,
        Console(to_stderr=as_json),
        model=planning.choose_model(name, registry, hardware),
        run=run,
        step=step,
        resolved=resolved,
    )
    results = [r for r in run.results() if r["benchmark"] in bench]
    if as_json:
        click.echo(to_json(results))
        return
    print_rows(score_rows(results, hardware.dollars(1.0)), as_json=False)
    click.echo(f"\nrun directory: {run.path}")


def _find(subject: str, parent: Any, registry: Any) -> tuple[Any, int | None]:
    """(run, step) where the subject names a run, else (None, None): then it is a model."""
    from tina_harness import runs

    reference, _, step = subject.partition("@")
    if subject in registry.entries["model"]:
        return None, None
    try:
        run = runs.find(reference, parent)
    except TinaError:
        if step or reference == "latest" or reference[:8].isdigit():
            raise
        return None, None
    steps = [s for s, _ in run.checkpoints()]
    if step and not step.isdigit():
        raise TinaError(f"'{subject}': '{step}' is not a step", f"it has checkpoints at {steps}")
    if not step and not steps and run.manifest()["kind"] == "training":
        raise TinaError(f"{run.id} has no checkpoint yet", f"continue it with 'tina resume {run.id}'")
    return run, int(step) if step else steps[-1] if steps else None
