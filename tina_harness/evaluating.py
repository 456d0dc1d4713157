"""Checkpoints on benchmarks in one engine load: the second half of a run, and all of `tina eval`."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tina_harness import runs
from tina_harness.config import Resolved
from tina_harness.hardware import detect
from tina_harness.planning import (
    Plan,
    choose_benchmark,
    choose_engine,
    dtype,
    locate,
    sampler,
    sampler_line,
)
from tina_harness.preparing import Evaluation, Prepared, prepare_all
from tina_harness.provenance import environment
from tina_harness.registry import Registry
from tina_harness.reporting.console import Console, clock, libraries_aside
from tina_harness.runs import Run
from tina_harness.runs.identity import Identity
from tina_harness.runs.records import Result
from tina_harness.specs import Benchmark, Model, Sampling


@dataclass(frozen=True)
class Depends:
    """What the samples of a subject on a benchmark depend on (see `samples.identity`), and its result."""

    samples: Mapping[str, Any]
    result: Identity


def dependencies(
    plan: Plan | Evaluation, subjects: Sequence[Any], ready: Prepared
) -> dict[tuple[Any, str], Depends]:
    """(subject, benchmark) -> what its result depends on. Weights are hashed, once for a content."""
    from tina_harness.data.mirror import digest
    from tina_harness.evaluation.identity import identity_of

    what = {}
    for subject in subjects:
        for name, task in ready.tasks.items():
            settings = ready.settings[name]
            samples = _samples_identity(plan, subject, settings.sampling, digest)
            what[subject, name] = Depends(samples, identity_of(task, settings, samples))
    return what


def _samples_identity(
    plan: Plan | Evaluation, subject: Any, sampling: Sampling, digest: Any
) -> dict[str, Any]:
    from tina_harness.evaluation.samples import identity

    folder = subject.whole or plan.folder
    device = plan.hardware.device if plan.hardware.gpu else "cpu"
    return identity(folder, subject.adapter, plan.engine, plan.dtype, sampling, digest, device)


def evaluate_all(
    run: Run,
    plan: Plan | Evaluation,
    subjects: Sequence[Any],
    registry: Registry,
    console: Console,
    prepared: Prepared | None = None,
) -> None:
    """Every subject on every benchmark, in one engine load. Results that exist are not computed again."""
    from tina_harness.evaluation.sessions import Sessions
    from tina_harness.grading import Grader

    ready = prepared or prepare_all(plan, subjects, registry, console)
    depends = dependencies(plan, subjects, ready)
    sessions = Sessions(
        plan.engine, plan.folder, plan.dtype, ready.longest, ready.adapters, console.status, console.say
    )
    try:
        with Grader() as grader:
            for folder, pairs in _by_model(subjects, plan):
                sessions.use(folder)
                for subject, benchmark in pairs:
                    what = depends[subject, benchmark.name]
                    one = _One(run, plan, ready, subject, benchmark, what)
                    if plan.config.eval.cache and one.known():
                        console.say(f"{one.name}: evaluated before with the same settings")
                        continue
                    result = one.evaluate(sessions, grader, console)
                    for warning in registry.notify("tina_evaluated", run=run, result=result):
                        console.say(warning)
    finally:
        sessions.close()
        for line in registry.failures():
            console.say(line)


@dataclass(frozen=True)
class _One:
    """A subject on a benchmark."""

    run: Run
    plan: Plan | Evaluation
    ready: Prepared
    subject: Any
    benchmark: Benchmark
    depends: Depends

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.subject.label} on {self.benchmark.name}"

    @property
    def identity(self) -> Identity:
        """What the result depends on."""
        return self.depends.result

    @property
    def folder(self) -> Path:
        """Where its result is written."""
        return self.run.evaluation(self.subject.checkpoint, self.benchmark.name, self.identity["digest"])

    def known(self) -> bool:
        """Whether the run has a result of this identity."""
        results = self.run.results(benchmark=self.benchmark.name, checkpoint=self.subject.checkpoint)
        return any(r["identity"]["digest"] == self.identity["digest"] for r in results)

    def evaluate(self, sessions: Any, grader: Any, console: Console) -> Result:
        """Sample what is missing, score, and write the result."""
        from tina_harness.evaluation.evaluate import Progress, evaluate, write

        plan, subject = self.plan, self.subject
        task, settings = self.ready.tasks[self.benchmark.name], self.ready.settings[self.benchmark.name]
        store = self._store(settings, console)
        before = self.run.results(benchmark=self.benchmark.name, checkpoint=subject.checkpoint)
        began = time.monotonic()

        def progress(at: Progress) -> None:
            self.run.touch()
            self.folder.mkdir(parents=True, exist_ok=True)  # from here on there is something to keep
            spent = max(time.monotonic() - max(began, sessions.since), 1e-9)
            left = spent / max(1, at.done - at.reused) * (at.total - at.done)
            score = "" if at.score is None else f" | Pass@1 so far {100 * at.score:.1f}"
            console.status(
                f"{self.name}: {at.done}/{at.total} samples | {at.tokens / spent:.0f} tokens/s | "
                f"{clock(left)} left{score}",
                final=at.done == at.total,
            )

        found = evaluate(subject, task, settings, sessions.generate, store, grader, progress)
        result = write(
            self.run,
            subject,
            task,
            self.identity,
            found,
            sampler(plan.engine, plan.dtype, plan.hardware),
            usd=plan.hardware.dollars(found.seconds),
            adapter_check=self.ready.adapters.record(subject.adapter),
        )
        self._say(result, before, store.earlier_used, console)
        return result

    def _store(self, settings: Any, console: Console) -> Any:
        from tina_harness.data.mirror import digest
        from tina_harness.evaluation.samples import SampleStore, earlier_identity

        plan, subject = self.plan, self.subject
        folder = subject.whole or plan.folder
        earlier = earlier_identity(
            folder, subject.adapter, plan.engine, plan.dtype, settings.sampling, digest
        )
        store = SampleStore(
            samples_folder(self.run), self.depends.samples, console.say, earlier, subject.label
        )
        if not plan.config.eval.cache:
            store.forget()
        return store

    def _say(self, result: Result, before: Sequence[Result], earlier: int, console: Console) -> None:
        """What of the samples was here, and which rewards say nothing."""
        total = result["problems"] * result["samples"]
        if result.get("reused"):
            console.say(f"{self.name}: {result['reused']} of {total} samples were here already (--no-cache)")
        if result.get("reused") == total and any(_scored_otherwise(r, result) for r in before):
            console.say(f"{self.name}: graded again, and nothing sampled; the earlier result is kept")
        if earlier:
            console.say(
                f"{self.name}: {earlier} of them are of an earlier version, which did not record "
                "device, versions of torch and peft, and some files of the model (--no-cache samples again)"
            )
        if self.benchmark.score or self.benchmark.scorer:
            return
        for reward, built in self.ready.settings[self.benchmark.name].rewards.items():
            if result["metrics"][f"rewards/{reward}"]["value"] is None:
                named = built.spec.named
                console.once(f"warning: {named} gave None for every sample of {self.benchmark.name}")


def _scored_otherwise(one: Result, other: Result) -> bool:
    return one["identity"]["scorer"] != other["identity"]["scorer"]


def samples_folder(run: Run) -> Path:
    """Where samples are kept: beside the runs; the points of a sweep share those of all runs."""
    parent = run.path.resolve().parent
    in_a_sweep = parent.parent.name.startswith("sweep-")
    return (parent.parent.parent if in_a_sweep else parent) / ".samples"


def _by_model(
    subjects: Sequence[Any], plan: Plan | Evaluation
) -> Iterator[tuple[Path, list[tuple[Any, Benchmark]]]]:
    """(model folder, what is evaluated with it): one load of the engine each, adapters with their base."""
    for folder in dict.fromkeys(s.whole or plan.folder for s in subjects):
        mine = [s for s in subjects if (s.whole or plan.folder) == folder]
        yield folder, [(s, b) for b in plan.benchmarks for s in mine]


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
) -> tuple[Run | None, list[Result]]:
    """`tina eval`: adapters on a model, or checkpoints of a run (None: the base), in one engine load.

    Returns the run that holds the results, and all its results; no run where all that is asked for was there.
    """
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
    engine = sampler(evaluation.engine, evaluation.dtype, hardware)
    console.say(f"{model.name} ({origin}), {sampler_line(evaluation.engine, evaluation.dtype, hardware)}")
    if run is not None:
        phase = "checkpoint evaluation" if run.manifest().get("kind") == "training" else "evaluation"
        subjects = [_checkpoint_of(run, model.name, step) for step in steps]
        with run.locked(), run.timed(phase), libraries_aside(console, run):
            evaluate_all(run, evaluation, subjects, registry, console)
        return run, run.results()
    subjects = [Subject(_label(model.name, a, adapters), model.name, a, None) for a in adapters]
    prepared = prepare_all(evaluation, subjects, registry, console)
    if config.eval.cache and (there := _found(parent, dependencies(evaluation, subjects, prepared).values())):
        console.say("everything was evaluated before with the same settings (--no-cache evaluates again)")
        return None, there
    manifest = {
        "kind": "evaluation",
        "config": config.model_dump(),
        "origins": dict(resolved.origins),
        "model": {"name": model.name, "repo": model.repo, "origin": origin},
        "engine": engine["name"],
        "engine_version": engine["version"],
        "dtype": engine["dtype"],
        **environment(registry, hardware),
    }
    made = runs.create(parent, Path(model.name).name, "eval", manifest)
    with made.locked(), _own(made, console), made.timed("evaluation"), libraries_aside(console, made):
        evaluate_all(made, evaluation, subjects, registry, console, prepared)
    return made, made.results()


def _label(model: str, adapter: Path | None, adapters: Sequence[Path | None]) -> str:
    """What a model with an adapter is called: by the adapter's folder, and its parent where two are alike."""
    if adapter is None:
        return model
    same = [a for a in adapters if a is not None and a.name == adapter.name]
    name = adapter.name if len(same) == 1 else f"{adapter.parent.name}/{adapter.name}"
    return f"{model} + {name}"


def _found(parent: Path, wanted: Iterable[Depends]) -> list[Result]:
    """The results of these identities, in whatever run; none where one is missing."""
    found: dict[str, Result] = {}
    identities = [depends.result for depends in wanted]
    for identity in identities:
        for path in parent.glob(f"*/evals/*-{identity['digest'][:8]}"):
            for result in Run(path.parent.parent).results(benchmark=identity["benchmark"]):
                found.setdefault(result["identity"]["digest"], result)
    there = [found.get(identity["digest"]) for identity in identities]
    return [r for r in there if r is not None] if None not in there else []


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
