"""tina eval: a model or a checkpoint on benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tina_harness.cli.common import Name, json_option, load_registry, print_rows, runs_dir_option, runs_root
from tina_harness.errors import TinaError


@click.command()
@click.argument("subject", metavar="MODEL|RUN[@STEP|@all|@best|@base|@transition]", type=Name("model"))
@click.option("--bench", type=Name("benchmark"), multiple=True, required=True, help="May be repeated.")
@click.option(
    "--adapter",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    multiple=True,
    help="A LoRA adapter on MODEL (a folder). May be repeated.",
)
@click.option("--base", is_flag=True, help="With --adapter: MODEL without an adapter, too.")
@click.option("--samples", type=click.IntRange(1), help="Completions per problem [the benchmark's].")
@click.option("--temperature", type=click.FloatRange(0), help="0 is greedy [0.6].")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="Nucleus sampling [0.95].")
@click.option("--max-new-tokens", type=click.IntRange(1), help="Longest completion [the benchmark's].")
@click.option("--limit", type=click.IntRange(1), help="The first problems only.")
@click.option("--engine", type=Name("engine"), help="What samples [by hardware].")
@click.option("--system", metavar="NAME", help="Prompt template as system prompt [the benchmark's].")
@click.option(
    "--metric", "metrics", type=Name("metric"), multiple=True, help="A metric besides. May be repeated."
)
@click.option("--seed", type=int, help="Seed of the samples.")
@click.option("--no-cache", is_flag=True, help="Sample again what is here already.")
@runs_dir_option
@json_option
def command(
    subject: str,
    bench: tuple[str, ...],
    adapter: tuple[Path, ...],
    base: bool,
    no_cache: bool,
    runs_dir: str | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Evaluate a model (name, hub id or folder), or a run's checkpoint, on benchmarks.

    RUN is an id, a unique prefix, a path or "latest"; RUN@STEP names a checkpoint, RUN the last one,
    RUN@all every one, RUN@base the model that it started from, RUN@transition the one at the phase
    transition, and RUN@best the one with the highest mean Pass@1 among those that were evaluated. One
    engine load serves all of them.

    \b
    Samples are kept as they finish, and used again where nothing that they depend on has changed:
    after a kill, the same command goes on where it was.

    \b
    Examples:
      tina eval tina-nano --bench arithmetic-heldout
      tina eval latest --bench aime24 --bench math500
      tina eval r1-distill-qwen-1.5b --adapter my-adapter --bench aime24
    """
    from tina_harness import evaluating, planning
    from tina_harness.config import Layers
    from tina_harness.hardware import detect
    from tina_harness.provenance import resolved_of
    from tina_harness.reporting.console import Console
    from tina_harness.reporting.rows import score_rows, shown
    from tina_harness.reporting.tables import as_json as to_json

    registry = load_registry()
    hardware = detect(registry.catalogue)
    parent = runs_root(runs_dir)
    run, steps = _find(subject, parent, registry)
    layers = Layers(registry)
    if base and not adapter:
        raise TinaError("--base goes with --adapter", f"without one, tina eval {subject} is the base itself")
    if run is not None and adapter:
        raise TinaError(f"--adapter is for a model, and {subject} is a run", f"tina eval {subject}@STEP")
    if run is None:
        layers.add({"dataset": "-", "algo": "-", "model": subject}, "command line")
    else:
        layers.add(resolved_of(run.manifest()).config.model_dump(), run.id)
    for key, value in flags.items():
        if value not in (None, ()):
            value = list(value) if isinstance(value, tuple) else value
            layers.set({"engine": "engine", "seed": "seed"}.get(key, f"eval.{key}"), value, f"--{key}")
    layers.set("bench", list(bench), "--bench")
    if no_cache:
        layers.set("eval.cache", False, "--no-cache")
    resolved = layers.resolve()
    name = subject if run is None else run.manifest()["model"]["name"]
    made, results = evaluating.evaluate_model(
        registry,
        parent,
        Console(to_stderr=as_json),
        model=planning.choose_model(name, registry, hardware),
        run=run,
        steps=steps,
        adapters=[None, *adapter] if base or not adapter else list(adapter),
        resolved=resolved,
    )
    results = [r for r in results if r["benchmark"] in bench]
    if as_json:
        click.echo(to_json(results))
        return
    print_rows(shown(score_rows(results)), as_json=False)
    click.echo(f"\nrun directory: {made.path}" if made else "")


def _find(subject: str, parent: Any, registry: Any) -> tuple[Any, list[int | None]]:
    """(run, its checkpoints; None: the base) where the subject names a run; (None, []) for a model."""
    from tina_harness.runs import reference

    if subject in registry.entries["model"]:
        return None, []
    name, which = reference.split(subject)
    try:
        return reference.to_evaluate(subject, parent)
    except reference.RunNotFound:
        if which or name == "latest" or name[:8].isdigit():
            raise
        return None, []
