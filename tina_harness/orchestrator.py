"""One run, top to bottom: resolve names, prepare data, train, evaluate, report."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tina_harness import runs
from tina_harness.config import Resolved, RunConfig
from tina_harness.data import ChatTokenizer, load_problems, messages, write_quarantine
from tina_harness.data.prompts import context_length, template_text
from tina_harness.errors import RunError, TinaError
from tina_harness.hardware import Hardware, detect
from tina_harness.launching import launch
from tina_harness.planning import Plan, choose_benchmark, choose_engine, describe, dtype, locate, prepare
from tina_harness.provenance import environment, manifest_of
from tina_harness.registry import Registry
from tina_harness.registry import load as load_registry
from tina_harness.reporting.console import Console, clock, step_line
from tina_harness.reporting.tables import as_table, score_rows
from tina_harness.runs import Run
from tina_harness.specs import Benchmark, Engine, Model, Sampling
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
    if manifest["status"] == "finished":
        raise TinaError(f"{run.id} is finished", f"evaluate it with 'tina eval {run.id} --bench NAME'")
    if manifest["kind"] != "training":
        raise TinaError(f"{run.id} is an evaluation", "repeat its 'tina eval' command")
    config = RunConfig.model_validate(manifest["config"])
    plan = prepare(Resolved(config, manifest["origins"]), registry)
    _same_data(run, manifest, plan)
    return _carry_on(run, plan, registry, console)


def _carry_on(run: Run, plan: Plan, registry: Registry, console: Console) -> Run:
    with run.locked(), _marked(run, registry, console):
        run.update(status="running", pid=os.getpid(), seconds=run.seconds(), phase=None)
        for note in [*describe(plan), f"run directory {run.path}"]:
            console.say(note)
        for warning in registry.notify("tina_run_started", run=run):
            console.say(warning)
        done = run.whole_checkpoints(console.say)
        if not done or done[-1][0] < run.manifest().get("trained_to", plan.steps):
            _train_here_or_launch(run, plan, registry, console, done[-1][1] if done else None)
        subjects = _subjects(run, plan)
        if plan.benchmarks:
            with run.timed("final evaluation"), _libraries(console, run):
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
            with _libraries(console, run):
                _train(run, plan, registry, console, checkpoint, stop)
    if stop():
        raise Interrupted(stop.code)


def work(run: Run, rank: int) -> None:
    """A training process among several: its share of the run that another process holds."""
    registry = load_registry()
    manifest = run.manifest()
    plan = prepare(Resolved(RunConfig.model_validate(manifest["config"]), manifest["origins"]), registry)
    console = Console() if rank == 0 else Console(silent=True)
    done = run.whole_checkpoints(console.say)
    with stoppable(console.say, gives_up=False) as stop, _libraries(console, run):
        _train(run, plan, registry, console, done[-1][1] if done else None, stop)


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
        for warning in registry.notify("tina_run_finished", run=run, status=status):
            console.say(warning)


def _train(
    run: Run,
    plan: Plan,
    registry: Registry,
    console: Console,
    checkpoint: Path | None,
    stop: Stop,
) -> None:
    from tina_harness.grading import Grader
    from tina_harness.training import Training, train
    from tina_harness.training.rewards import Scorer, build_rewards

    console.status("loading torch and the model ...")
    rewards = build_rewards(plan.config, registry)
    tokenizer = ChatTokenizer(plan.folder)
    opens_think = tokenizer.render(messages("x")).rstrip().endswith("<think>")
    clocked = _Clock(run, plan, console, checkpoint)
    budget = _Budget(plan, registry)

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
                scorer=Scorer(grader, rewards, plan.config.train.max_new_tokens, opens_think),
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


class _Clock:
    """Speed, time left and dollars of a training, for the live line."""

    def __init__(self, run: Run, plan: Plan, console: Console, checkpoint: Path | None) -> None:
        self.plan, self.console = plan, console
        manifest = run.manifest()
        self.before, self.since = sum(manifest["seconds"].values()), manifest["phase"]["since"]
        self.first = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
        seen = [m.get("tokens", 0) for m in run.metrics() if m["step"] <= self.first]
        self.tokens_before = float(seen[-1]) if seen else 0.0  # the count goes on through a resume
        self.stepping = 0.0  # seconds of the steps of this session

    def step(self, metrics: Mapping[str, Any]) -> float | None:
        """Show a step's line; returns the dollars spent so far."""
        usd = self.plan.hardware.dollars(self.before + time.time() - self.since)
        step, total = metrics["step"], self.plan.steps
        tokens = float(metrics.get("tokens") or 0)
        rate = (tokens - self.tokens_before) / max(metrics["seconds"], 1e-9)
        self.tokens_before = tokens
        self.stepping += metrics["seconds"]
        left = (total - step) * self.stepping / max(1, step - self.first)
        self.console.status(step_line(metrics, total, rate, left, usd), final=step >= total)
        return None if usd is None else round(usd, 6)


class _Budget:
    """Whether another step would leave too little of `budget_usd` for the evaluation at the end.

    The evaluation is taken to sample at the speed of the rollouts, completions that use the same share of
    the longest length as those do.
    """

    def __init__(self, plan: Plan, registry: Registry) -> None:
        self._plan, self._limit = plan, plan.config.budget_usd
        if self._limit is None:
            return
        if plan.hardware.dollars(1.0) is None:
            raise TinaError(
                f"no price is known for {plan.hardware.device}, so a budget cannot be kept",
                "add it to a registry.toml, or name it: --set hardware=NAME",
            )
        wanted = plan.config.eval
        self._longest = 0  # tokens of the evaluation, base and trained, were all as long as they may be
        for b in plan.benchmarks:
            problems = len(load_problems(b, registry.catalogue, limit=wanted.limit).problems)
            each = (wanted.samples or b.samples) * (wanted.max_new_tokens or b.max_new_tokens)
            self._longest += 2 * problems * each

    def spent(self, metrics: Mapping[str, Any]) -> str | None:
        """Why to stop after this step."""
        if self._limit is None:
            return None
        usd, train = metrics["usd"], self._plan.config.train
        step = self._plan.hardware.dollars(metrics["seconds"]) or 0.0
        length = metrics.get("completion_length") or train.max_new_tokens
        per_token = metrics["seconds_rollout"] / (length * self._plan.completions_per_step)
        tokens = self._longest * min(1.0, length / train.max_new_tokens)
        reserve = self._plan.hardware.dollars(tokens * per_token) or 0.0
        if usd + step + reserve < self._limit:
            return None
        return f"${usd:.4f} spent, ${reserve:.4f} kept for the evaluation, of a budget of ${self._limit:g}"


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_all` needs besides a run: a part of a Plan, or built by `tina eval`."""

    config: RunConfig
    folder: Path
    engine: Engine
    benchmarks: tuple[Benchmark, ...]
    hardware: Hardware
    dtype: str


def evaluate_all(
    run: Run, plan: Plan | Evaluation, subjects: Sequence[Any], registry: Registry, console: Console
) -> None:
    """Every subject on every benchmark, in one engine load. Results that exist are not computed again."""
    from tina_harness.data.mirror import digest
    from tina_harness.evaluation import evaluate
    from tina_harness.evaluation.adapters import check_adapter
    from tina_harness.evaluation.evaluate import Progress, result_key
    from tina_harness.evaluation.samples import SampleStore, identity
    from tina_harness.evaluation.sessions import Sessions
    from tina_harness.grading import Grader
    from tina_harness.training.rewards import build_rewards

    config = plan.config
    tokenizer = ChatTokenizer(plan.folder)
    tasks = {b.name: _task(b, tokenizer, registry, config) for b in plan.benchmarks}
    new_tokens, longest = _room(plan, tasks, tokenizer, console)
    rank = max([check_adapter(s.adapter, plan.folder) for s in subjects if s.adapter], default=0)
    engine = plan.engine
    sessions = Sessions(engine, plan.folder, plan.dtype, longest, rank, console.status, console.say)
    rewards = build_rewards(config, registry)

    def evaluate_one(subject: Any, benchmark: Benchmark) -> None:
        """Write a subject's results on a benchmark, unless they are there."""
        folder = subject.whole or plan.folder
        task, name = tasks[benchmark.name], f"{subject.label} on {benchmark.name}"
        samples = config.eval.samples or benchmark.samples
        sampling = Sampling(config.eval.temperature, config.eval.top_p, new_tokens[benchmark.name])
        what = identity(folder, subject.adapter, engine, plan.dtype, sampling, digest)
        store = SampleStore(run.path.parent / ".samples", what, console.say)
        if not config.eval.cache:
            store.forget()
        results = run.evaluation(subject.checkpoint, benchmark.name) / "results.json"
        if config.eval.cache and _has_key(results, result_key(task, store, samples, config.seed)):
            return
        began = time.monotonic()

        def progress(at: Progress) -> None:
            run.touch()
            spent = max(time.monotonic() - max(began, sessions.since), 1e-9)
            left = spent / max(1, at.done - at.reused) * (at.total - at.done)
            score = "" if at.score is None else f" | Pass@1 so far {100 * at.score:.1f}"
            console.status(
                f"{name}: {at.done}/{at.total} samples | {at.tokens / spent:.0f} tokens/s | "
                f"{clock(left)} left{score}",
                final=at.done == at.total,
            )

        result = evaluate(
            run,
            subject,
            task,
            sessions.generate,
            store,
            grader,
            rewards,
            sampling=sampling,
            samples=samples,
            seed=config.seed,
            progress=progress,
        )
        if result["reused"]:
            total = len(task.problems) * samples
            console.say(f"{name}: {result['reused']} of {total} samples were here already (--no-cache)")
        for warning in registry.notify("tina_evaluated", run=run, result=result):
            console.say(warning)

    try:
        with Grader() as grader:
            for folder, pairs in _by_model(subjects, plan):
                sessions.use(folder)
                for subject, benchmark in pairs:
                    evaluate_one(subject, benchmark)
    finally:
        sessions.close()


def _by_model(
    subjects: Sequence[Any], plan: Plan | Evaluation
) -> Iterator[tuple[Path, list[tuple[Any, Benchmark]]]]:
    """(model folder, what is evaluated with it): one load of the engine each, adapters with their base."""
    for folder in dict.fromkeys(s.whole or plan.folder for s in subjects):
        mine = [s for s in subjects if (s.whole or plan.folder) == folder]
        yield folder, [(s, b) for b in plan.benchmarks for s in mine]


def _room(
    plan: Plan | Evaluation, tasks: Mapping[str, Any], tokenizer: ChatTokenizer, console: Console
) -> tuple[dict[str, int], int]:
    """(benchmark -> tokens that a completion may have, the longest sequence), within the model's context."""
    context = context_length(plan.folder) or math.inf
    prompt_tokens = {name: max(tokenizer.count(task.prompts)) for name, task in tasks.items()}
    new_tokens = {}
    for name, task in tasks.items():
        wanted = plan.config.eval.max_new_tokens or task.benchmark.max_new_tokens
        new_tokens[name] = int(min(wanted, context - prompt_tokens[name]))
        if new_tokens[name] < wanted:
            console.say(f"{name}: completions are cut at {new_tokens[name]} tokens, what the context leaves")
        if new_tokens[name] < 1:
            raise TinaError(
                f"the longest prompt of {name} has {prompt_tokens[name]} tokens, "
                f"the model's context {context}",
                "evaluate a model with a longer context on it",
            )
    return new_tokens, max((prompt_tokens[name] + new_tokens[name] for name in tasks), default=0)


def _has_key(path: Path, key: str) -> bool:
    """Whether a results.json is there, and of the same samples and grading."""
    with contextlib.suppress(OSError, ValueError):
        return bool(json.loads(path.read_text(encoding="utf-8")).get("key") == key)
    return False


def _task(benchmark: Benchmark, tokenizer: ChatTokenizer, registry: Registry, config: RunConfig) -> Any:
    """A benchmark's problems with the prompts that this model sees."""
    from tina_harness.evaluation import Task

    loaded = load_problems(benchmark, registry.catalogue, limit=config.eval.limit)
    user = template_text(registry.catalogue, benchmark.prompt)
    wanted = benchmark.system if config.eval.system is None else config.eval.system
    system = template_text(registry.catalogue, wanted)
    turns = benchmark.conversation or (lambda p: messages(p.problem, system, user))
    prompts = [tokenizer.render(turns(p)) for p in loaded.problems]
    return Task(benchmark, loaded.problems, prompts, loaded.origin, loaded.revision, loaded.fingerprint)


def evaluate_model(
    registry: Registry,
    parent: Path,
    console: Console,
    *,
    model: Model,
    run: Run | None,
    steps: Sequence[int | None],
    adapters: Sequence[Path | None],
    resolved: Resolved,
) -> Run:
    """`tina eval`: adapters on a model, or checkpoints of a run (None: the base), in one engine load."""
    from tina_harness.evaluation import Subject

    config = resolved.config
    hardware = detect(registry.catalogue, config.hardware)
    folder, origin = locate(model, registry)
    evaluation = Evaluation(
        config=config,
        folder=folder,
        engine=choose_engine(config.engine, registry, hardware),
        benchmarks=tuple(choose_benchmark(b, registry) for b in config.bench),
        hardware=hardware,
        dtype=dtype(config.dtype, hardware),
    )
    if run is None:
        manifest = {
            "kind": "evaluation",
            "config": config.model_dump(),
            "origins": dict(resolved.origins),
            "model": {"name": model.name, "repo": model.repo, "origin": origin},
            **environment(registry, hardware),
        }
        run = runs.create(parent, Path(model.name).name, "eval", manifest)
        subjects = [
            Subject(f"{model.name} + {a.name}" if a else model.name, model.name, a, None) for a in adapters
        ]
    else:
        found = dict(run.checkpoints())
        subjects = [
            Subject(model.name, model.name, None, None)
            if step is None
            else _trained(run, model.name, found[step], step)
            for step in steps
        ]
    before = run.manifest()["status"]
    phase = "checkpoint evaluation" if run.manifest()["kind"] == "training" else "evaluation"
    with run.locked(), run.timed(phase), _libraries(console, run):
        try:
            evaluate_all(run, evaluation, subjects, registry, console)
        except BaseException:
            run.update(status=before if before != "running" else "failed")
            raise
    run.update(status="finished" if before == "running" else before)
    return run


def _subjects(run: Run, plan: Plan) -> list[Any]:
    from tina_harness.evaluation import Subject

    step, folder = run.checkpoints()[-1]
    base = Subject(plan.model.name, plan.model.name, None, None)
    return [base, _trained(run, plan.model.name, folder, step)]


def _trained(run: Run, model: str, folder: Path, step: int) -> Any:
    """A checkpoint of a run: an adapter, or a whole model."""
    from tina_harness.evaluation import Subject

    if run.manifest()["config"].get("full"):
        return Subject(f"{model}, trained in full on {_adapter_label(run)}", model, None, step, folder)
    return Subject(f"{model} + {_adapter_label(run)}", model, folder, step)


def _adapter_label(run: Run) -> str:
    config = run.manifest()["config"]
    return f"{config['dataset']}/{config['algo']}"


def _report(run: Run, plan: Plan, console: Console) -> None:
    from tina_harness.reporting.plots import reward_curves

    with run.timed("report"):
        reward_curves(run.metrics(), run.path / "curves.png", f"{plan.model.name}, {_adapter_label(run)}")
    seconds = sum(run.seconds().values())
    usd = plan.hardware.dollars(seconds)
    run.update(usd=usd)
    rows = score_rows(run.results(), plan.hardware.dollars(1.0))
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


@contextlib.contextmanager
def _libraries(console: Console, run: Run) -> Iterator[None]:
    """Keep libraries off the screen and off the network where the files are here already."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "RANK" not in os.environ:
        # No more than the run uses: several would make the trainer of one process use DataParallel.
        count = run.manifest()["hardware"]["count"]
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count))))
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    with console.quiet(run.log):
        print(f"--- {runs.now()} {' '.join(sys.argv)}", flush=True)
        yield
