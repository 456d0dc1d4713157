"""One run, top to bottom: resolve names, prepare data, train, evaluate, report."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import math
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tina_harness import runs
from tina_harness.config import Layers, Resolved, RunConfig
from tina_harness.data import ChatTokenizer, Loaded, load_problems, messages
from tina_harness.data.hub import model_folder
from tina_harness.data.prompts import context_length, template_text
from tina_harness.errors import RunError, TinaError, did_you_mean
from tina_harness.hardware import Hardware, detect
from tina_harness.registry import Registry
from tina_harness.reporting.console import Console, clock, step_line
from tina_harness.reporting.tables import as_table, score_rows
from tina_harness.runs import Run
from tina_harness.specs import Algorithm, Benchmark, Dataset, Engine, Model, Problem, Sampling

NEXT_COMMANDS = {
    "finished": "tina leaderboard",
    "interrupted": "tina resume {id}",
}


class Interrupted(Exception):
    """The user pressed Ctrl-C; what was finished is saved."""


@dataclass(frozen=True)
class Plan:
    """A run, resolved and counted, before anything heavy is loaded.

    problems, prompts: what is trained on, after filtering. too_long: prompts over the limit.
    steps: optimizer steps; tokens: the most that they can sample and train on.
    """

    resolved: Resolved
    dataset: Dataset
    algorithm: Algorithm
    model: Model
    folder: Path
    model_origin: str
    engine: Engine
    benchmarks: tuple[Benchmark, ...]
    hardware: Hardware
    dtype: str
    loaded: Loaded
    problems: tuple[Problem, ...]
    prompts: tuple[Any, ...]
    prompt_tokens: tuple[int, ...]
    too_long: int
    steps: int
    schedule_steps: int
    notes: tuple[str, ...]

    @property
    def config(self) -> RunConfig:
        """The validated configuration."""
        return self.resolved.config

    @property
    def completions_per_step(self) -> int:
        """Completions that one optimizer step samples."""
        return self.config.train.batch * self.config.train.accumulate

    @property
    def tokens(self) -> int:
        """Upper bound on prompt and completion tokens of the training."""
        mean_prompt = sum(self.prompt_tokens) / len(self.prompt_tokens)
        return round(
            self.steps * self.completions_per_step * (mean_prompt + self.config.train.max_new_tokens)
        )


def layers(
    registry: Registry,
    *,
    preset: str | None,
    file: Path | None,
    flags: Mapping[str, tuple[Any, str]],
    assignments: Sequence[str],
) -> Resolved:
    """preset < file < flags < --set. Without a preset, the one that the dataset starts from.

    flags: dotted key -> (value, the option as typed).
    """
    above = Layers(registry)
    if file is not None:
        above.add_file(file)
    for key, (value, flag) in flags.items():
        above.set(key, value, flag)
    for text in assignments:
        above.add_assignment(text)
    if preset is None:
        dataset = above.values.get("dataset")
        preset = (
            registry.get(Dataset, dataset).preset if dataset else registry.catalogue["defaults"]["preset"]
        )
    base = Layers(registry).add_preset(preset)
    if file is not None:
        base.add_file(file)
    for key, (value, flag) in flags.items():
        base.set(key, value, flag)
    for text in assignments:
        base.add_assignment(text)
    return base.resolve()


def prepare(resolved: Resolved, registry: Registry) -> Plan:
    """Resolve every name, load and filter the data, count steps and tokens. Does not import torch."""
    config = resolved.config
    hardware = detect(registry.catalogue, config.hardware)
    notes: list[str] = []
    dataset = registry.get(Dataset, config.dataset)
    algorithm = registry.get(Algorithm, config.algo)
    engine = choose_engine(config.engine, registry, hardware)
    names = config.bench or list(dataset.benchmarks)
    benchmarks = tuple(registry.get(Benchmark, name) for name in names)
    if not config.rewards:
        raise TinaError("the run has no rewards", "add one with --set rewards.accuracy.weight=1")
    model = choose_model(config.model, registry, hardware, notes)
    folder, model_origin = locate(model, registry)
    loaded = load_problems(dataset, registry.catalogue, config.seed, config.limit)
    tokenizer = ChatTokenizer(folder)
    system = template_text(registry.catalogue, dataset.system if config.system is None else config.system)
    conversations = [messages(p.problem, system) for p in loaded.problems]
    rendered = [tokenizer.render(c) for c in conversations]
    lengths = tokenizer.count(rendered)
    longest = config.train.max_prompt_tokens
    kept = [i for i, n in enumerate(lengths) if n <= longest]
    per_step = config.train.batch * config.train.accumulate // config.train.group
    if len(kept) < per_step:
        raise TinaError(
            f"{len(kept)} of {len(lengths)} problems of '{dataset.name}' are left with prompts of at most "
            f"{longest} tokens; one step needs {per_step}",
            "raise train.max_prompt_tokens, lower train.batch or train.accumulate, or use another model",
        )
    room = (context_length(folder) or math.inf) - max(lengths[i] for i in kept)
    if room < config.train.max_new_tokens:
        notes.append(f"completions are cut at {room} tokens, which is what {model.name}'s context leaves")
        resolved = resolved.with_train("max_new_tokens", room, f"context of {model.name}")
    steps = config.train.max_steps or math.ceil(len(kept) // per_step * config.train.epochs)
    schedule = max(config.train.schedule_steps or steps, steps)
    return Plan(
        resolved=resolved,
        dataset=dataset,
        algorithm=algorithm,
        model=model,
        folder=folder,
        model_origin=model_origin,
        engine=engine,
        benchmarks=benchmarks,
        hardware=hardware,
        dtype=_dtype(config.dtype, hardware),
        loaded=loaded,
        problems=tuple(loaded.problems[i] for i in kept),
        prompts=tuple((conversations if tokenizer.has_template else rendered)[i] for i in kept),
        prompt_tokens=tuple(lengths[i] for i in kept),
        too_long=len(lengths) - len(kept),
        steps=steps,
        schedule_steps=schedule,
        notes=tuple(notes),
    )


def execute(plan: Plan, registry: Registry, parent: Path, console: Console) -> Run:
    """Start a run and carry it to the end."""
    run = runs.create(parent, plan.dataset.name, plan.algorithm.name, _manifest(plan, registry))
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
        run.update(status="running", pid=os.getpid())
        for note in [*describe(plan), f"run directory {run.path}"]:
            console.say(note)
        for warning in registry.notify("tina_run_started", run=run):
            console.say(warning)
        done = run.checkpoints()
        if not done or done[-1][0] < plan.steps:
            with _stoppable(console) as stop, _libraries(console, run):
                _train(run, plan, registry, console, done[-1][1] if done else None, stop)
        subjects = _subjects(run, plan)
        if plan.benchmarks:
            with _libraries(console, run), run.timed("evaluation"):
                evaluate_all(run, plan, subjects, registry, console)
        _report(run, plan, console)
    return run


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
        raise Interrupted from error
    except OSError as error:
        import errno

        if error.errno == errno.ENOSPC:
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
    stop: Callable[[], bool],
) -> None:
    from tina_harness.grading import Grader
    from tina_harness.training.rewards import Scorer, build_rewards

    console.status("loading torch and the model ...")
    rewards = build_rewards(plan.config, registry)
    tokenizer = ChatTokenizer(plan.folder)
    opens_think = tokenizer.render(messages("x")).rstrip().endswith("<think>")
    start = time.monotonic()
    with run.timed("loading"):
        from tina_harness.training import Training, train
    clocked = _Clock(run, plan, console, checkpoint)

    def on_step(metrics: dict[str, Any]) -> None:
        metrics["usd"] = clocked.step(metrics, time.monotonic() - start)
        for warning in registry.notify("tina_metrics", run=run, metrics=metrics):
            console.say(warning)

    def on_save(path: Path, step: int) -> None:
        for warning in registry.notify("tina_checkpoint_saved", run=run, path=path, step=step):
            console.say(warning)

    with Grader() as grader, run.timed("training"):
        built = train(
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
                dtype=plan.dtype,
                gpu=plan.hardware.gpu,
                scorer=Scorer(grader, rewards, plan.config.train.max_new_tokens, opens_think),
                stop=stop,
                on_step=on_step,
                on_save=on_save,
            ),
            resume_from=checkpoint,
        )
    run.update(built=built)
    gc.collect()
    console.settle()
    if stop():
        raise Interrupted


class _Clock:
    """Speed, time left and dollars of a training, for the live line."""

    def __init__(self, run: Run, plan: Plan, console: Console, checkpoint: Path | None) -> None:
        self.plan, self.console = plan, console
        self.before = sum(run.manifest().get("seconds", {}).values())
        self.first = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
        self.tokens_before: float | None = None
        self.began = time.monotonic()

    def step(self, metrics: Mapping[str, Any], seconds: float) -> float | None:
        """Show a step's line; returns the dollars spent so far."""
        usd = self.plan.hardware.dollars(self.before + seconds)
        step, total = metrics["step"], self.plan.steps
        tokens = float(metrics.get("tokens") or 0)
        rate = (tokens - (self.tokens_before or 0.0)) / max(metrics["seconds"], 1e-9)
        self.tokens_before = tokens
        left = (total - step) * (time.monotonic() - self.began) / max(1, step - self.first)
        self.console.status(step_line(metrics, total, rate, left, usd), final=step >= total)
        return None if usd is None else round(usd, 6)


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
    from tina_harness.evaluation import evaluate
    from tina_harness.evaluation.evaluate import folder_name
    from tina_harness.grading import Grader
    from tina_harness.training.rewards import build_rewards

    config = plan.config
    waiting = [
        (subject, benchmark)
        for benchmark in plan.benchmarks
        for subject in subjects
        if not (run.path / "evals" / folder_name(subject, benchmark.name) / "results.json").exists()
    ]
    if not waiting:
        return
    console.status("loading the evaluation engine ...")
    tokenizer = ChatTokenizer(plan.folder)
    tasks = {b.name: _task(b, tokenizer, registry, config.eval.limit) for _, b in waiting}
    context = context_length(plan.folder) or math.inf
    prompt_tokens = {name: max(tokenizer.count(task.prompts)) for name, task in tasks.items()}
    new_tokens = {}
    for name, task in tasks.items():
        wanted = config.eval.max_new_tokens or task.benchmark.max_new_tokens
        new_tokens[name] = int(min(wanted, context - prompt_tokens[name]))
        if new_tokens[name] < wanted:
            console.say(f"{name}: completions are cut at {new_tokens[name]} tokens, what the context leaves")
        if new_tokens[name] < 1:
            raise TinaError(
                f"the longest prompt of {name} has {prompt_tokens[name]} tokens, "
                f"the model's context {context}",
                "evaluate a model with a longer context on it",
            )
    longest = max(prompt_tokens[name] + new_tokens[name] for name in tasks)
    rank = config.lora.r if any(s.adapter for s, _ in waiting) else 0
    session = plan.engine.open(plan.folder, plan.dtype, longest, rank)
    rewards = build_rewards(config, registry)
    try:
        with Grader() as grader:
            for subject, benchmark in waiting:
                name = f"{subject.label} on {benchmark.name}"
                began = time.monotonic()

                def progress(done: int, total: int, tokens: int, name: str = name, t: float = began) -> None:
                    spent = max(time.monotonic() - t, 1e-9)
                    left = spent / done * (total - done)
                    console.status(
                        f"{name}: {done}/{total} samples | {tokens / spent:.0f} tokens/s | "
                        f"{clock(left)} left",
                        final=done == total,
                    )

                result = evaluate(
                    run,
                    subject,
                    tasks[benchmark.name],
                    session,
                    grader,
                    rewards,
                    sampling=Sampling(
                        config.eval.temperature,
                        config.eval.top_p,
                        new_tokens[benchmark.name],
                    ),
                    samples=config.eval.samples or benchmark.samples,
                    seed=config.seed,
                    progress=progress,
                )
                for warning in registry.notify("tina_evaluated", run=run, result=result):
                    console.say(warning)
    finally:
        session.close()


def _task(benchmark: Benchmark, tokenizer: ChatTokenizer, registry: Registry, limit: int | None) -> Any:
    """A benchmark's problems with the prompts that this model sees."""
    from tina_harness.evaluation import Task

    loaded = load_problems(benchmark, registry.catalogue, limit=limit)
    user = template_text(registry.catalogue, benchmark.prompt)
    system = template_text(registry.catalogue, benchmark.system)
    prompts = [tokenizer.render(messages(p.problem, system, user)) for p in loaded.problems]
    return Task(benchmark, loaded.problems, prompts, loaded.origin, loaded.revision, loaded.fingerprint)


def evaluate_model(
    registry: Registry,
    parent: Path,
    console: Console,
    *,
    model: Model,
    run: Run | None,
    step: int | None,
    resolved: Resolved,
) -> Run:
    """`tina eval`: a model, or a checkpoint of a run, on benchmarks."""
    from tina_harness.evaluation import Subject

    config = resolved.config
    hardware = detect(registry.catalogue, config.hardware)
    folder, origin = locate(model, registry)
    evaluation = Evaluation(
        config=config,
        folder=folder,
        engine=choose_engine(config.engine, registry, hardware),
        benchmarks=tuple(registry.get(Benchmark, b) for b in config.bench),
        hardware=hardware,
        dtype=_dtype(config.dtype, hardware),
    )
    if run is None:
        manifest = {
            "kind": "evaluation",
            "config": config.model_dump(),
            "origins": dict(resolved.origins),
            "model": {"name": model.name, "repo": model.repo, "origin": origin},
            **_environment(registry, hardware),
        }
        run = runs.create(parent, Path(model.name).name, "eval", manifest)
        subjects = [Subject(model.name, model.name, None, None)]
    else:
        found = dict(run.checkpoints())
        if step is not None and step not in found:
            raise TinaError(
                f"{run.id} has no checkpoint at step {step}", f"it has: {sorted(found) or 'none'}"
            )
        trained = f"{model.name} + {_adapter_label(run)}"
        subjects = [
            Subject(trained, model.name, found[step], step)
            if step is not None
            else Subject(model.name, model.name, None, None)
        ]
    before = run.manifest()["status"]
    with run.locked(), _libraries(console, run), run.timed("evaluation"):
        try:
            evaluate_all(run, evaluation, subjects, registry, console)
        except BaseException:
            run.update(status=before if before != "running" else "failed")
            raise
    run.update(status="finished" if before == "running" else before)
    return run


def _subjects(run: Run, plan: Plan) -> list[Any]:
    from tina_harness.evaluation import Subject

    step, adapter = run.checkpoints()[-1]
    trained = Subject(f"{plan.model.name} + {_adapter_label(run)}", plan.model.name, adapter, step)
    return [Subject(plan.model.name, plan.model.name, None, None), trained]


def _adapter_label(run: Run) -> str:
    config = run.manifest()["config"]
    return f"{config['dataset']}/{config['algo']}"


def _report(run: Run, plan: Plan, console: Console) -> None:
    from tina_harness.reporting.plots import reward_curves

    reward_curves(run.metrics(), run.path / "curves.png", f"{plan.model.name}, {_adapter_label(run)}")
    seconds = sum(run.manifest()["seconds"].values())
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
    console.say(f"run directory: {run.path}")
    console.say(f"next: {_command(run, 'leaderboard')}")


def _command(run: Run, verb: str) -> str:
    """The command as the user has to type it, with --runs-dir where it is not the default."""
    option = "" if run.path.parent.resolve() == runs.root().resolve() else f" --runs-dir {run.path.parent}"
    return f"tina {verb}" + (f" {run.id}" if verb == "resume" else "") + option


def describe(plan: Plan) -> list[str]:
    """What was chosen, in a few lines."""
    config, hardware = plan.config, plan.hardware
    device = f"{hardware.count} x {hardware.device}" if hardware.gpu else hardware.device
    left_out = [
        f"{count} {reason}"
        for count, reason in ((len(plan.loaded.set_aside), "without a gold"), (plan.too_long, "too long"))
        if count
    ]
    return [
        *plan.notes,
        f"{plan.model.name} ({plan.model_origin}) on {device}: {plan.dtype}, engine {plan.engine.name}",
        f"{plan.dataset.name}: {len(plan.problems)} problems ({plan.loaded.origin})"
        + (f", left out: {', '.join(left_out)}" if left_out else ""),
        f"{plan.algorithm.name}, {plan.steps} steps of {plan.completions_per_step} completions, "
        f"LoRA r={config.lora.r} alpha={config.lora.scale}, seed {config.seed}",
    ]


def choose_engine(name: str, registry: Registry, hardware: Hardware) -> Engine:
    """The engine of that name; "auto": one for a GPU where it can run, else one for any machine."""
    engines = [registry.get(Engine, n) for n in registry.names("engine")]
    if name != "auto":
        engine = registry.get(Engine, name)
        if not _installed(engine):
            raise TinaError(f"engine '{name}' needs the package '{engine.requires}'", engine.install)
        return engine
    fitting = [e for e in engines if _installed(e) and (hardware.gpu or not e.needs_gpu)]
    if not fitting:
        raise TinaError("no engine can run here", "'tina list engines' shows what each needs")
    return max(fitting, key=lambda e: e.needs_gpu)


def _installed(engine: Engine) -> bool:
    return not engine.requires or importlib.util.find_spec(engine.requires) is not None


def choose_model(
    name: str | None, registry: Registry, hardware: Hardware, notes: list[str] | None = None
) -> Model:
    """A registry name, a folder with a config.json, or a hub id "owner/name"."""
    if name is None:
        defaults = registry.catalogue["defaults"]
        name = str(defaults["model_with_gpu" if hardware.gpu else "model_without_gpu"])
        if notes is not None:
            found = "a GPU was found" if hardware.gpu else "no GPU was found"
            notes.append(f"model {name}, because {found}; choose another with --model NAME")
    if name in registry.entries["model"]:
        return registry.get(Model, name)
    folder = Path(name).expanduser()
    if (folder / "config.json").exists():
        return Model(name=name, summary="local folder", source=str(folder), path=lambda: folder)
    if folder.is_dir():
        raise TinaError(f"{name} is a folder without a config.json, so it holds no model")
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return Model(name=name, summary="hub model", source=name, repo=name)
    hint = did_you_mean(name, registry.names("model"), "'tina list models' shows those there are")
    raise TinaError(f"there is no model '{name}'", f"{hint}\n  a hub id (owner/name) or a folder works too")


def locate(model: Model, registry: Registry) -> tuple[Path, str]:
    """(local folder of a model, where it came from); downloads it where it is not here yet."""
    if model.path is not None:
        return model.path(), "local"
    revision = str(registry.catalogue.get("revisions", {}).get(model.repo, ""))
    return model_folder(model.repo, revision)


def _dtype(wanted: str, hardware: Hardware) -> str:
    return wanted if wanted != "auto" else "bfloat16" if hardware.gpu else "float32"


def estimate(plan: Plan, parent: Path) -> dict[str, Any]:
    """Seconds and dollars of the training: from a measured run of this model here, else roughly.

    Rough: 8 FLOPs a parameter and token (sampling 2, update 6) at the hardware's effective speed.
    """
    per_token, basis = _measured(plan, parent)
    if per_token is None and plan.hardware.effective_tflops and plan.model.parameters:
        flops = 8 * plan.model.parameters / plan.hardware.count
        per_token = flops / (plan.hardware.effective_tflops * 1e12)
        basis = "rough: parameters and the hardware's effective speed in registry.toml"
    if per_token is None:
        return {"seconds": None, "usd": None, "basis": "unknown: no run of this model here was measured"}
    seconds = per_token * plan.tokens
    return {"seconds": seconds, "usd": plan.hardware.dollars(seconds), "basis": basis}


def _measured(plan: Plan, parent: Path) -> tuple[float | None, str]:
    for run in reversed(runs.all_runs(parent)):
        with contextlib.suppress(TinaError, KeyError, IndexError, ZeroDivisionError):
            manifest = run.manifest()
            same = manifest["model"]["name"] == plan.model.name
            if same and manifest["hardware"]["device"] == plan.hardware.device:
                metrics = run.metrics()
                seconds = sum(m["seconds"] for m in metrics)
                return seconds / metrics[-1]["tokens"], f"measured in {run.id}"
    return None, ""


def _manifest(plan: Plan, registry: Registry) -> dict[str, Any]:
    return {
        "kind": "training",
        "config": plan.config.model_dump(),
        "origins": dict(plan.resolved.origins),
        "dataset": {
            "name": plan.dataset.name,
            "repo": plan.dataset.repo,
            "origin": plan.loaded.origin,
            "revision": plan.loaded.revision,
            "fingerprint": plan.loaded.fingerprint,
            "rows": len(plan.loaded.problems),
            "set_aside": len(plan.loaded.set_aside),
            "too_long": plan.too_long,
        },
        "model": {
            "name": plan.model.name,
            "repo": plan.model.repo,
            "origin": plan.model_origin,
            "fingerprint": _weights_hash(plan.folder),
        },
        "benchmarks": [b.name for b in plan.benchmarks],
        "engine": plan.engine.name,
        "dtype": plan.dtype,
        "steps": plan.steps,
        "schedule_steps": plan.schedule_steps,
        **_environment(registry, plan.hardware),
    }


def _environment(registry: Registry, hardware: Hardware) -> dict[str, Any]:
    from importlib import metadata

    packages = ("torch", "transformers", "trl", "peft", "datasets", "math-verify", "vllm", "tina-harness")
    versions = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    used = {e.origin for by in registry.entries.values() for es in by.values() for e in es}
    return {
        "hardware": asdict(hardware),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "plugins": sorted(used),
        "git": _git_state(),
        "seconds": {},
    }


def _git_state() -> dict[str, Any] | None:
    """Commit of the working directory and whether it was changed, where it is a git checkout."""
    import shutil
    import subprocess

    git = shutil.which("git")
    if not git:
        return None

    def ask(*words: str) -> str:
        done = subprocess.run([git, *words], capture_output=True, text=True, timeout=10, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = ask("rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(ask("status", "--porcelain"))} if commit else None
    except (OSError, subprocess.TimeoutExpired):
        return None


def _weights_hash(folder: Path) -> str:
    """sha256 over the weight files."""
    import hashlib

    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as file:
            while block := file.read(2**24):
                digest.update(block)
    return digest.hexdigest()[:16]


def _same_data(run: Run, manifest: Mapping[str, Any], plan: Plan) -> None:
    then, today = manifest["dataset"]["fingerprint"], plan.loaded.fingerprint
    if then != today:
        raise TinaError(
            f"{run.id} was trained on other rows of '{plan.dataset.name}' ({then}, now {today})",
            "restore the dataset it was started with, or start a new run",
        )


@contextlib.contextmanager
def _stoppable(console: Console) -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C asks the training to save and stop after its step; the second stops at once."""
    asked: list[float] = []

    def on_interrupt(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(time.monotonic())
        console.say("stopping after this step, with a checkpoint (Ctrl-C again: at once)")

    try:
        before = signal.signal(signal.SIGINT, on_interrupt)
    except ValueError:  # not in the main thread: whoever runs us deals with signals
        yield lambda: False
        return
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _libraries(console: Console, run: Run) -> Iterator[None]:
    """Keep libraries off the screen and off the network where the files are here already."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # several would make the trainer use DataParallel
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    with console.quiet(run.log):
        print(f"--- {runs.now()} {' '.join(sys.argv)}", flush=True)
        yield
