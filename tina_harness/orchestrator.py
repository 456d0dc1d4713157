"""One run, top to bottom: resolve names, prepare data, train, evaluate, report."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tina_harness import runs
from tina_harness.data import ChatTokenizer, messages, write_quarantine
from tina_harness.errors import RunError, TinaError
from tina_harness.evaluating import adapter_label, base_and_last, evaluate_all
from tina_harness.launching import launch
from tina_harness.meters import Budget, Clock
from tina_harness.planning import Plan, describe, prepare
from tina_harness.provenance import as_begun, manifest_of
from tina_harness.registry import Registry
from tina_harness.reporting.console import Console, clock, libraries_aside
from tina_harness.reporting.rows import score_rows, shown
from tina_harness.reporting.tables import as_table
from tina_harness.runs import Run
from tina_harness.runs.ledger import this_process
from tina_harness.stopping import Stop, stoppable


class Interrupted(Exception):
    """The user pressed Ctrl-C; what was finished is saved."""


def execute(plan: Plan, registry: Registry, parent: Path, console: Console) -> Run:
    """Start a run and carry it to the end."""
    name = plan.dataset.name.rpartition(":")[2].rpartition("/")[2] or plan.dataset.name
    run = runs.create(parent, name, plan.algorithm.name, manifest_of(plan, registry))
    write_quarantine(plan.quarantine, run.path / "quarantine.parquet")
    return _carry_on(run, plan, registry, console)


def resume(run: Run, registry: Registry, console: Console) -> Run:
    """Continue a run from its last checkpoint; evaluations that are finished are kept."""
    manifest = run.manifest()
    if manifest.get("kind") != "training":
        raise TinaError(f"{run.id} is an evaluation", "repeat its 'tina eval' command")
    if manifest["status"] == "finished":
        raise TinaError(f"{run.id} is finished", f"evaluate it with 'tina eval {run.id} --bench NAME'")
    plan = prepare(as_begun(manifest), registry)
    _same_data(run, manifest, plan)
    return _carry_on(run, plan, registry, console)


def _carry_on(run: Run, plan: Plan, registry: Registry, console: Console) -> Run:
    with run.locked(), _marked(run, registry, console):
        run.update(
            status="running", pid=os.getpid(), process=this_process(), seconds=run.seconds(), phase=None
        )
        for note in [*describe(plan), f"run directory {run.path}"]:
            console.say(note)
        for warning in registry.notify("tina_run_started", run=run):
            console.say(warning)
        done = run.whole_checkpoints(console.say)
        if not done or done[-1][0] < run.manifest().get("trained_to", plan.steps):
            _train_here_or_launch(run, plan, registry, console, done[-1][1] if done else None)
        subjects = base_and_last(run, plan)
        if plan.benchmarks:
            with run.timed("final evaluation"), libraries_aside(console, run):
                evaluate_all(run, plan, subjects, registry, console)
        _report(run, plan, console)
    return run


def _train_here_or_launch(
    run: Run, plan: Plan, registry: Registry, console: Console, checkpoint: Path | None
) -> None:
    with stoppable(console.say) as stop, run.timed("training"):
        if plan.config.processes > 1 or plan.config.accelerate_config:
            launch(run, plan, stop, console.stream)
        else:
            with libraries_aside(console, run):
                train_in_this_process(run, plan, registry, console, checkpoint, stop)
    if stop():
        raise Interrupted(stop.code)


@contextlib.contextmanager
def _marked(run: Run, registry: Registry, console: Console) -> Iterator[None]:
    """Write down how the run ended, whatever happens inside."""
    status = "failed"
    try:
        yield
        status = "finished"
    except (Interrupted, KeyboardInterrupt) as error:
        status = "interrupted"
        console.settle()
        console.say(f"interrupted; continue with:  {_command(run, 'resume')}")
        raise Interrupted(error.args[0] if isinstance(error, Interrupted) else 130) from error
    except Exception as error:
        if runs.is_disk_full(error, run.path):
            raise RunError(*runs.disk_full(run.path)) from error
        raise
    finally:
        with contextlib.suppress(OSError):
            run.update(status=status, finished=runs.now())
        for warning in [*registry.notify("tina_run_finished", run=run, status=status), *registry.failures()]:
            console.say(warning)


def train_in_this_process(
    run: Run,
    plan: Plan,
    registry: Registry,
    console: Console,
    checkpoint: Path | None,
    stop: Stop,
) -> None:
    """The training of a plan, from a checkpoint where there is one; of several processes, this one's part."""
    from tina_harness.grading import Grader
    from tina_harness.scoring import build_rewards
    from tina_harness.training import Training, train
    from tina_harness.training.rewards import Scorer

    console.status("loading torch and the model ...")
    rewards = build_rewards(plan.config, registry, console.once)
    tokenizer = ChatTokenizer(plan.folder)
    opens_think = tokenizer.render(messages("x")).rstrip().endswith("<think>")
    clocked = Clock(run, plan, console, checkpoint)
    budget = Budget(run, plan, registry)

    def on_step(metrics: dict[str, Any]) -> str | None:
        metrics["usd"] = clocked.step(metrics)
        for warning in registry.notify("tina_metrics", run=run, metrics=metrics) if run.leads else ():
            console.say(warning)
        return budget.spent(metrics)

    def on_save(path: Path, step: int) -> None:
        for warning in registry.notify("tina_checkpoint_saved", run=run, path=path, step=step):
            console.say(warning)

    def say(lines: Sequence[str]) -> None:
        console.settle()
        for line in lines:
            console.say(line)

    with Grader() as grader:
        train(
            run,
            Training(
                config=plan.config,
                algorithm=plan.algorithm,
                engine=plan.engine,
                model_folder=plan.folder,
                problems=plan.problems,
                prompts=plan.prompts,
                steps=plan.steps,
                schedule_steps=plan.schedule_steps,
                longest=max(plan.prompt_tokens) + plan.config.train.max_new_tokens,
                dtype=plan.dtype,
                gpu=plan.hardware.gpu,
                scorer=Scorer(
                    grader,
                    rewards,
                    max_completion_tokens=plan.config.train.max_new_tokens,
                    opens_think=opens_think,
                    problems=plan.problems,
                    policy=plan.dataset.answer_policy,
                ),
                stop=stop,
                on_step=on_step,
                on_save=on_save,
                say=say,
            ),
            resume_from=checkpoint,
        )
    if lost := grader.counts["timeout"] + grader.counts["error"]:
        console.say(
            f"grading: {grader.counts['timeout']} of {grader.counts.total()} answers passed their limits "
            f"(counted as wrong), {lost - grader.counts['timeout']} could not be graded (not counted)"
        )
    _give_memory_back()
    console.settle()


def _give_memory_back() -> None:
    """Free the training's memory; glibc keeps what torch freed on a CPU until it is told to trim."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()  # without it an engine finds no room on the GPU; on a CPU it does nothing
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _report(run: Run, plan: Plan, console: Console) -> None:
    from tina_harness.reporting.plots import reward_curves

    with run.timed("report"):
        reward_curves(run.metrics(), run.path / "curves.png", f"{plan.model.name}, {adapter_label(run)}")
    seconds = sum(run.seconds().values())
    usd = run.usd(seconds)
    run.update(usd=usd)
    rows = shown(score_rows(run.results()))
    for row in rows:
        del row["run"]
    console.say()
    if rows:
        console.say(as_table(rows))
        console.say()
    console.say(f"{clock(seconds)} in all" + (f", ${usd:.4f} ({plan.hardware.price_source})" if usd else ""))
    kept = [sum(f.stat().st_size for f in p.rglob("*") if f.is_file()) for _, p in run.checkpoints()]
    console.say(f"{len(kept)} checkpoints, {sum(kept) / 2**20:.1f} MiB; run directory: {run.path}")
    console.say(f"next: {_command(run, 'leaderboard')}")


def _command(run: Run, verb: str) -> str:
    """The command as the user has to type it, with --runs-dir where it is not the default."""
    option = "" if run.path.parent.resolve() == runs.root().resolve() else f" --runs-dir {run.path.parent}"
    return f"tina {verb}" + (f" {run.id}" if verb == "resume" else "") + option


def _same_data(run: Run, manifest: Mapping[str, Any], plan: Plan) -> None:
    then, today = manifest["dataset"]["fingerprint"], plan.loaded.fingerprint
    if then != today:
        raise TinaError(
            f"{run.id} was trained on other rows of '{plan.dataset.name}' ({then}, now {today})",
            "restore the dataset it was started with, or start a new run",
        )
