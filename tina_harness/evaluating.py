"""Checkpoints on benchmarks in one engine load: the second half of a run, and all of `tina eval`."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tina_harness import checked, runs
from tina_harness.config import Resolved, RunConfig
from tina_harness.data import ChatTokenizer, load_problems, messages
from tina_harness.data.prompts import context_length, template_text
from tina_harness.errors import TinaError
from tina_harness.hardware import Hardware, detect
from tina_harness.planning import Plan, choose_benchmark, choose_engine, dtype, locate
from tina_harness.provenance import environment
from tina_harness.registry import Registry
from tina_harness.reporting.console import Console, clock, libraries_aside
from tina_harness.runs import Run
from tina_harness.runs.checkpoints import check_seal
from tina_harness.specs import Benchmark, Engine, Model, Sampling


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

    tasks, new_tokens: by benchmark; new_tokens: how long a completion may be. longest: prompt and
    completion, in tokens. adapters: those that will be evaluated.
    """

    tasks: Mapping[str, Any]
    new_tokens: Mapping[str, int]
    longest: int
    adapters: Any
    rewards: Mapping[str, Any]


def prepare_all(
    plan: Plan | Evaluation, subjects: Sequence[Any], registry: Registry, console: Console
) -> Prepared:
    """Load the benchmarks, render their prompts, and look at the adapters. Writes nothing."""
    from tina_harness.evaluation.proof import Adapters
    from tina_harness.scoring import build_rewards

    tokenizer = ChatTokenizer(plan.folder)
    tasks = {b.name: _task(b, tokenizer, registry, plan.config) for b in plan.benchmarks}
    new_tokens, longest = _room(plan, tasks, tokenizer, console)
    paths = [s.adapter for s in subjects if s.adapter]
    for path in paths:
        check_seal(path)
    prompts = [prompt for task in tasks.values() for prompt in task.prompts[:8]]
    adapters = Adapters(plan.folder, paths, tokenizer.ids(prompts), console.say)
    if plan.engine.check_adapter:
        with checked.calling(plan.engine, "check_adapter"):
            for path in paths:
                plan.engine.check_adapter(path)
    return Prepared(tasks, new_tokens, longest, adapters, build_rewards(plan.config, registry, console.once))


def evaluate_all(
    run: Run,
    plan: Plan | Evaluation,
    subjects: Sequence[Any],
    registry: Registry,
    console: Console,
    prepared: Prepared | None = None,
) -> None:
    """Every subject on every benchmark, in one engine load. Results that exist are not computed again."""
    from tina_harness.data.mirror import digest
    from tina_harness.evaluation import evaluate
    from tina_harness.evaluation.evaluate import Progress, result_key
    from tina_harness.evaluation.samples import SampleStore, earlier_identity, identity
    from tina_harness.evaluation.sessions import Sessions
    from tina_harness.grading import Grader

    config, engine = plan.config, plan.engine
    ready = prepared or prepare_all(plan, subjects, registry, console)
    tasks, new_tokens = ready.tasks, ready.new_tokens
    device = plan.hardware.device if plan.hardware.gpu else "cpu"
    sessions = Sessions(
        engine, plan.folder, plan.dtype, ready.longest, ready.adapters, console.status, console.say
    )

    def evaluate_one(subject: Any, benchmark: Benchmark) -> None:
        """Write a subject's results on a benchmark, unless they are there."""
        folder = subject.whole or plan.folder
        task, name = tasks[benchmark.name], f"{subject.label} on {benchmark.name}"
        samples = config.eval.samples or benchmark.samples
        sampling = Sampling(config.eval.temperature, config.eval.top_p, new_tokens[benchmark.name])
        known = (folder, subject.adapter, engine, plan.dtype, sampling, digest)
        what, earlier = identity(*known, device), earlier_identity(*known)
        store = SampleStore(run.path.parent / ".samples", what, console.say, earlier, subject.label)
        if not config.eval.cache:
            store.forget()
        results = run.evaluation(subject.checkpoint, benchmark.name) / "results.json"
        if config.eval.cache and _has_key(results, result_key(task, store, samples, config.seed)):
            return
        began = time.monotonic()

        def progress(at: Progress) -> None:
            run.touch()
            results.parent.mkdir(parents=True, exist_ok=True)  # from here on there is something to keep
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
            ready.rewards,
            proof=ready.adapters.record,
            sampling=sampling,
            samples=samples,
            seed=config.seed,
            progress=progress,
        )
        if result["reused"]:
            total = len(task.problems) * samples
            console.say(f"{name}: {result['reused']} of {total} samples were here already (--no-cache)")
        if store.earlier_used:
            console.say(
                f"{name}: {store.earlier_used} of them are of an earlier version, which did not record "
                "device, versions of torch and peft, and some files of the model (--no-cache samples again)"
            )
        for reward, mean in result["rewards"].items():
            if mean is None and benchmark.score is None:
                named = ready.rewards[reward].spec.named
                console.once(f"warning: {named} gave None for every sample of {benchmark.name}")
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
        for line in registry.failures():
            console.say(line)


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
    turns = [
        messages(p.problem, system, user)
        if benchmark.conversation is None
        else checked.conversation(benchmark, benchmark.conversation, p)
        for p in loaded.problems
    ]
    prompts = [tokenizer.render(t) for t in turns]
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
    if run is not None:
        phase = "checkpoint evaluation" if run.manifest().get("kind") == "training" else "evaluation"
        subjects = [_checkpoint_of(run, model.name, step) for step in steps]
        with run.locked(), run.timed(phase), libraries_aside(console, run):
            evaluate_all(run, evaluation, subjects, registry, console)
        return run
    subjects = [
        Subject(f"{model.name} + {a.name}" if a else model.name, model.name, a, None) for a in adapters
    ]
    prepared = prepare_all(evaluation, subjects, registry, console)
    manifest = {
        "kind": "evaluation",
        "config": config.model_dump(),
        "origins": dict(resolved.origins),
        "model": {"name": model.name, "repo": model.repo, "origin": origin},
        **environment(registry, hardware),
    }
    created = runs.create(parent, Path(model.name).name, "eval", manifest)
    with (
        created.locked(),
        _own(created, console),
        created.timed("evaluation"),
        libraries_aside(console, created),
    ):
        evaluate_all(created, evaluation, subjects, registry, console, prepared)
    return created


def _checkpoint_of(run: Run, model: str, step: int | None) -> Any:
    """What is evaluated: a whole checkpoint of a run, or its base (None)."""
    from tina_harness.evaluation import Subject

    if step is None:
        return Subject(model, model, None, None)
    return trained(run, model, run.checkpoint(step), step)


@contextlib.contextmanager
def _own(run: Run, console: Console) -> Iterator[None]:
    """Write down how an evaluation ended that this command began; where it had no sample yet, remove it."""
    status = "failed"
    try:
        yield
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        if status == "finished" or (run.path / "evals").exists():
            with contextlib.suppress(OSError):
                run.update(status=status, finished=runs.now())
        else:
            _remove(run, console)


def _remove(run: Run, console: Console) -> None:
    """Leave nothing of an evaluation that could not start but what the libraries said."""
    kept = run.path.parent / ".last-failure.log"
    with contextlib.suppress(OSError):
        if len(run.log.read_bytes().splitlines()) > 1:  # more than the command, which is its first line
            run.log.replace(kept)
            console.say(f"nothing was sampled; what the libraries said is in {kept}")
        shutil.rmtree(run.path)


def base_and_last(run: Run, plan: Plan) -> list[Any]:
    """What a run evaluates at its end: its base model and its last checkpoint."""
    from tina_harness.evaluation import Subject

    step, _ = run.checkpoints()[-1]
    base = Subject(plan.model.name, plan.model.name, None, None)
    return [base, trained(run, plan.model.name, run.checkpoint(step), step)]


def trained(run: Run, model: str, folder: Path, step: int) -> Any:
    """A checkpoint of a run: an adapter, or a whole model."""
    from tina_harness.evaluation import Subject

    if run.manifest()["config"].get("full"):
        return Subject(f"{model}, trained in full on {adapter_label(run)}", model, None, step, folder)
    return Subject(f"{model} + {adapter_label(run)}", model, folder, step)


def adapter_label(run: Run) -> str:
    """dataset/algorithm: what a run's adapter is called in tables."""
    config = run.manifest()["config"]
    return f"{config['dataset']}/{config['algo']}"
