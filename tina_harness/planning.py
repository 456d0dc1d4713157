"""From what was typed to a plan: names resolved, data loaded and counted, nothing heavy imported."""

from __future__ import annotations

import contextlib
import importlib.util
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from tina_harness import checked, runs
from tina_harness.config import Layers, Resolved, RunConfig
from tina_harness.data import ChatTokenizer, Loaded, SetAside, cache, load_benchmark, load_problems, messages
from tina_harness.data.hub import model_folder
from tina_harness.data.overlap import VERSION, Match, Report, find_overlap
from tina_harness.data.prompts import context_length, template_text
from tina_harness.errors import TinaError, did_you_mean
from tina_harness.hardware import Hardware, detect, gpus
from tina_harness.registry import Registry
from tina_harness.runs.checkpoints import check_whole
from tina_harness.runs.records import EngineRecord
from tina_harness.scoring import build_rewards
from tina_harness.specs import Algorithm, Benchmark, Dataset, Engine, Model, Problem
from tina_harness.training.settings import as_fixed

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """A run, resolved and counted, before anything heavy is loaded.

    problems, prompts: what is trained on, after filtering. quarantine: what is not, and why; left_out:
    reason -> rows.
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
    quarantine: tuple[SetAside, ...]
    left_out: Mapping[str, int]
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
        return _completions_per_step(self.config)

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

    flags: dotted key -> (value, the option as typed). Rewards among them replace those of preset and file.
    """

    def lay_over(base: Layers) -> Layers:
        if file is not None:
            base.add_file(file)
        if any(key.startswith("rewards.") for key in flags):
            base.drop_rewards()
        for key, (value, flag) in flags.items():
            base.set(key, value, flag)
        for text in assignments:
            base.add_assignment(text)
        return base

    if preset is None:
        dataset = lay_over(Layers(registry)).values.get("dataset")
        preset = (
            choose_dataset(dataset, registry).preset if dataset else registry.catalogue["defaults"]["preset"]
        )
    layered = lay_over(Layers(registry).add_preset(preset))
    grid = registry.catalogue["presets"][preset].get("grid", {})
    if open_ := [key for key in grid if layered.origins.get(key, "preset ").startswith("preset ")]:
        lines = [f"{key}: {', '.join(map(str, grid[key]))}" for key in open_]
        one = " ".join(f"--set {key}={grid[key][0]}" for key in open_)
        raise TinaError(
            f"the preset '{preset}' is a sweep over " + "; ".join(lines),
            f"tina sweep --preset {preset}\n  or one of its points: tina run --preset {preset} {one}",
        )
    return layered.resolve()


def prepare(resolved: Resolved, registry: Registry, known: dict[Any, Any] | None = None) -> Plan:
    """Resolve every name, load and filter the data, count steps and tokens. Does not import torch.

    known: what was loaded for other plans with the same registry, for those that have it in common.
    """
    known = {} if known is None else known
    resolved = _as_accelerate_says(resolved)
    config = resolved.config
    hardware = _machine(config, registry)
    notes: list[str] = []
    dataset = choose_dataset(config.dataset, registry, config.problem_column, config.answer_column)
    algorithm = registry.get(Algorithm, config.algo)
    engine = _rollout_engine(config, registry, hardware, notes)
    resolved, of_others = as_fixed(resolved, algorithm, engine)
    config = resolved.config
    notes += of_others
    for name in config.train.report_to:
        if importlib.util.find_spec(name) is None:
            raise TinaError(f"--report-to {name} needs the package '{name}'", f"pip install {name}")
    benchmarks = _benchmarks(config, dataset, registry)
    if not config.rewards:
        raise TinaError("the run has no rewards", "add one with --set rewards.accuracy.weight=1")
    build_rewards(config, registry, lambda _: None)
    model = choose_model(config.model, registry, hardware, notes)
    folder, model_origin = _once(known, ("model", model.name), lambda: locate(model, registry))
    if config.lora.targets is not None and not config.full:
        _check_targets(config.lora.targets, folder)
    seed = config.seed if dataset.rows else 0  # of rows that are generated
    rows_of = (seed, config.limit, config.keep_contradictions)
    source = (config.dataset, config.problem_column, config.answer_column, *rows_of)
    loaded = _once(known, ("rows", *source), lambda: load_problems(dataset, registry.catalogue, *rows_of))
    rows = len(loaded.problems) + len(loaded.set_aside)
    if dataset.expected_rows and config.limit is None and rows != dataset.expected_rows:
        notes.append(f"{dataset.name} has {rows} rows here; {dataset.expected_rows} are published")
    system = template_text(registry.catalogue, dataset.system if config.system is None else config.system)
    prompts, lengths = _once(
        known, ("prompts", *source, folder, system), lambda: _prompts(loaded.problems, folder, system)
    )
    longest = config.train.max_prompt_tokens
    aside = {i: f"a prompt of more than {longest} tokens" for i, n in enumerate(lengths) if n > longest}
    if not config.keep_overlap:
        overlap = _once(
            known,
            ("overlap", *source, *(b.name for b in benchmarks)),
            lambda: benchmark_overlap(loaded, benchmarks, registry),
        )
        for match in overlap.matches:
            aside[match.row] = f"also in {match.benchmark} ({match.kind})"
    kept = [i for i in range(len(lengths)) if i not in aside]
    per_step = _completions_per_step(config) // config.train.group
    if len(kept) < per_step:
        raise TinaError(
            f"{len(kept)} of {len(lengths)} problems of '{dataset.name}' are left with prompts of at most "
            f"{longest} tokens and without overlap with the benchmarks; one step needs {per_step}",
            "raise train.max_prompt_tokens, lower train.batch or train.accumulate, or use another model",
        )
    room = (context_length(folder) or math.inf) - max(lengths[i] for i in kept)
    if room < config.train.max_new_tokens:
        if (fixes := resolved.origin("train.max_new_tokens")).startswith(("algorithm ", "engine ")):
            raise TinaError(
                f"the {fixes} fixes completions of {config.train.max_new_tokens} tokens, and the context of "
                f"{model.name} leaves {room}",
                "take a model with a longer context, or lower train.max_prompt_tokens",
            )
        notes.append(f"completions are cut at {room} tokens, which is what {model.name}'s context leaves")
        resolved = resolved.replaced({"train.max_new_tokens": (room, f"context of {model.name}")})
    steps = _steps(resolved, len(kept) // per_step)
    resolved = _scheduled(resolved, steps, notes)
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
        dtype=dtype(config.dtype, hardware),
        loaded=loaded,
        problems=tuple(loaded.problems[i] for i in kept),
        prompts=tuple(prompts[i] for i in kept),
        prompt_tokens=tuple(lengths[i] for i in kept),
        quarantine=tuple(sorted((*loaded.set_aside, *(loaded.aside(i, why) for i, why in aside.items())))),
        left_out=Counter([s.reason.partition(":")[0] for s in loaded.set_aside] + sorted(aside.values())),
        steps=steps,
        schedule_steps=resolved.config.train.schedule_steps or steps,
        notes=tuple(notes),
    )


def _check_targets(targets: Sequence[str] | str, folder: Path) -> None:
    """What can be said of them from the model's files; the training looks at the loaded model, too."""
    from tina_harness.evaluation.adapters import model_shapes
    from tina_harness.training.targets import check_targets, modules_of

    if tensors := model_shapes(folder):
        check_targets(targets, modules_of(tensors))


def _once(known: dict[Any, Any], key: tuple[Any, ...], compute: Callable[[], T]) -> T:
    """What was computed under a key before, or is now."""
    if key not in known:
        known[key] = compute()
    found: T = known[key]
    return found


def _prompts(problems: Sequence[Problem], folder: Path, system: str) -> tuple[list[Any], list[int]]:
    """Of each problem: what the model sees (a text, where it has no chat template), and its tokens."""
    tokenizer = ChatTokenizer(folder)
    conversations = [messages(p.problem, system) for p in problems]
    rendered = [tokenizer.render(c) for c in conversations]
    return list(conversations if tokenizer.has_template else rendered), tokenizer.count(rendered)


def _steps(resolved: Resolved, of_an_epoch: int) -> int:
    """Optimizer steps: max_steps, else so many epochs. Raises TinaError for epochs that have no effect."""
    train = resolved.config.train
    if train.max_steps is None:
        return math.ceil(of_an_epoch * train.epochs)
    if resolved.set_by_user("train.epochs"):
        raise TinaError(
            f"train.epochs = {train.epochs} ({resolved.origin('train.epochs')}) has no effect: "
            f"train.max_steps is {train.max_steps} ({resolved.origin('train.max_steps')})",
            f"leave it out; an epoch has {of_an_epoch} steps: --max-steps {of_an_epoch}",
        )
    return train.max_steps


def _scheduled(resolved: Resolved, steps: int, notes: list[str]) -> Resolved:
    """With a learning-rate schedule that is not shorter than the training."""
    key, given = "train.schedule_steps", resolved.config.train.schedule_steps
    if given is None or given >= steps:
        return resolved
    if resolved.set_by_user(key):
        raise TinaError(
            f"{key} = {given} ({resolved.origin(key)}) is shorter than the training of {steps} steps",
            f"raise it, or train less: --max-steps {given}",
        )
    notes.append(f"{key} is {steps}, as long as the training, not {given} ({resolved.origin(key)})")
    return resolved.replaced({key: (steps, "tina run: as many as are trained")})


def _machine(config: RunConfig, registry: Registry) -> Hardware:
    """The devices that the run pays for. Raises TinaError where there are fewer than it needs."""
    hardware = detect(registry.catalogue, config.hardware)
    if hardware.gpu:
        hardware = replace(hardware, count=config.processes)
        if config.processes > len(gpus()) and config.accelerate_config is None:  # its machines may be several
            raise TinaError(
                f"{config.processes} processes need a GPU each; there are {len(gpus())}",
                f"--processes {len(gpus())}, or other devices in CUDA_VISIBLE_DEVICES",
            )
    if config.rollout_server is not None:
        _need_gpu(hardware, "a rollout server takes the weights", "leave --rollout-server out")
        hardware = replace(hardware, elsewhere=config.rollout_gpus)
    return hardware


def _rollout_engine(config: RunConfig, registry: Registry, hardware: Hardware, notes: list[str]) -> Engine:
    """The engine, where it can sample rollouts on this machine; notes: takes a line for the user."""
    engine = choose_engine(config.engine, registry, hardware)
    if engine.remote:
        raise TinaError(
            f"the engine '{engine.name}' evaluates only", f"tina eval MODEL --engine {engine.name}"
        )
    if engine.needs_gpu:
        other = "--engine transformers trains without; 'tina eval --engine' takes it on a CPU too"
        _need_gpu(hardware, f"the engine '{engine.name}' samples rollouts", other)
    if not engine.rollouts and engine.requires != "transformers":
        notes.append(f"the engine {engine.name} evaluates; rollouts are sampled by transformers, through TRL")
    return engine


def _benchmarks(config: RunConfig, dataset: Dataset, registry: Registry) -> tuple[Benchmark, ...]:
    """The run's benchmarks. What their prompts need is missed here, before the training."""
    found = tuple(choose_benchmark(name, registry) for name in config.bench or dataset.benchmarks)
    for benchmark in found:
        system = benchmark.system if config.eval.system is None else config.eval.system
        for text in (benchmark.prompt, system):
            template_text(registry.catalogue, text)
    return found


def _need_gpu(hardware: Hardware, what: str, hint: str) -> None:
    if not hardware.gpu:
        raise TinaError(f"{what} only on a GPU, and there is none", hint)


def _as_accelerate_says(resolved: Resolved) -> Resolved:
    """With as many processes as the file of `accelerate_config` starts, where there is one."""
    name, processes = resolved.config.accelerate_config, resolved.config.processes
    if name is None:
        return resolved
    import yaml  # a requirement of accelerate

    path = Path(name).expanduser().resolve()
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        count = int(told.get("num_processes", 1))
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise TinaError(
            f"--accelerate-config {name} cannot be read: {str(error).splitlines()[0]}",
            f"write it anew: accelerate config --config_file {name}",
        ) from error
    if processes not in (1, count):
        raise TinaError(
            f"--processes {processes}, and {name} starts {count}", "leave --processes out, or change the file"
        )
    kept = str((told.get("fsdp_config") or {}).get("fsdp_state_dict_type", ""))
    if str(told.get("distributed_type")) == "FSDP" and "FULL_STATE_DICT" not in kept:
        raise TinaError(
            f"with {name} no checkpoint would hold the whole adapter",
            "in its fsdp_config:  fsdp_state_dict_type: FULL_STATE_DICT",
        )
    return resolved.replaced(
        {
            "processes": (count, f"--accelerate-config {name}"),
            "accelerate_config": (str(path), resolved.origin("accelerate_config")),
        }
    )


def describe(plan: Plan) -> list[str]:
    """What was chosen, in a few lines."""
    config = plan.config
    left_out = [f"{count} ({reason})" for reason, count in plan.left_out.items()]
    return [
        *plan.notes,
        f"{plan.model.name} ({plan.model_origin}), {sampler_line(plan.engine, plan.dtype, plan.hardware)}",
        f"{plan.dataset.name}: {len(plan.problems)} problems ({plan.loaded.origin})"
        + (f", left out: {', '.join(left_out)}" if left_out else ""),
        f"{plan.algorithm.name}, {plan.steps} steps of {plan.completions_per_step} completions, "
        f"{_adaptation(config)}, seed {config.seed}",
    ]


def _completions_per_step(config: RunConfig) -> int:
    return config.train.batch * config.train.accumulate * config.processes


def _adaptation(config: RunConfig) -> str:
    if config.full:
        return "all parameters"
    kind = ("rs" if config.lora.rslora else "") + ("DoRA" if config.lora.dora else "LoRA")
    return f"{kind} r={config.lora.r} alpha={config.lora.scale}"


def choose_dataset(
    name: str, registry: Registry, problem: str | None = None, answer: str | None = None
) -> Dataset:
    """A registry name, or data of the user's own: jsonl:FILE, parquet:FILE, csv:FILE, hf:OWNER/NAME."""
    form, colon, place = name.partition(":")
    if not colon:
        if problem or answer:
            raise TinaError(
                f"--problem-column and --answer-column are for data of your own, not for '{name}'",
                "for example --dataset jsonl:my.jsonl --problem-column question",
            )
        return registry.get(Dataset, name)
    fields: dict[str, Any] = {"problem": problem or "problem", "answer": answer or "answer"}
    if form == "hf" and place.count("/") == 1:
        return Dataset(name=name, summary="data on the hub", source=place, repo=place, **fields)
    if form in ("jsonl", "parquet", "csv") and place:
        path = str(Path(place).expanduser().resolve())
        return Dataset(name=name, summary="a file", source=path, files=path, **fields)
    raise TinaError(f"there is no dataset '{name}'", "jsonl:FILE, parquet:FILE, csv:FILE or hf:OWNER/NAME")


def benchmark_overlap(loaded: Loaded, benchmarks: Sequence[Benchmark], registry: Registry) -> Report:
    """Which problems of a loaded dataset (by place) are also in a benchmark; cached by their fingerprints."""
    problems = {b.name: load_benchmark(b, registry) for b in benchmarks}
    prints = [loaded.order_print, *(f"{name}:{p.order_print}" for name, p in problems.items())]
    key = "overlap-" + sha256("\n".join([VERSION, *prints]).encode()).hexdigest()[:24]
    if known := cache.read(key):
        return Report(known["rows"], tuple(Match(**m) for m in known["matches"]))
    texts = {name: [q.problem for q in p.problems] for name, p in problems.items()}
    report = find_overlap([p.problem for p in loaded.problems], texts)
    cache.write(key, report.as_dict())
    return report


def choose_benchmark(name: str, registry: Registry) -> Benchmark:
    """A registry name, or lighteval:NAME, a task of an installed lighteval."""
    if name.startswith("lighteval:"):
        from tina_harness import lighteval_tasks

        return lighteval_tasks.benchmark(name.removeprefix("lighteval:"))
    return registry.get(Benchmark, name)


def choose_engine(name: str, registry: Registry, hardware: Hardware) -> Engine:
    """The engine of that name; "auto": the first of `[defaults] engines` in registry.toml that can run."""
    if name == "auto":
        return _automatic_engine(registry, hardware)
    engine = registry.get(Engine, name)
    if not _installed(engine):
        raise TinaError(f"engine '{name}' needs the package '{engine.requires}'", engine.install)
    return engine


def _automatic_engine(registry: Registry, hardware: Hardware) -> Engine:
    """Never an engine that is only installed: its numbers would be others, and nobody asked for it."""
    listed = [str(n) for n in registry.catalogue["defaults"]["engines"]]
    left_out = registry.disabled | {b.plugin.name for b in registry.broken}
    engines = []
    for name in listed:
        if name in registry.entries["engine"]:
            engines.append(registry.get(Engine, name))
        elif name not in left_out:
            hint = did_you_mean(name, registry.names("engine"), "'tina list engines' shows those there are")
            raise TinaError(f"registry.toml: [defaults] engines: there is no engine '{name}'", hint)

    def fits(engine: Engine) -> bool:
        return _installed(engine) and not engine.remote and (hardware.gpu or not engine.needs_gpu)

    if (chosen := next(filter(fits, engines), None)) is not None:
        return chosen
    first = {n: entries[0].spec for n, entries in sorted(registry.entries["engine"].items())}
    others = ", ".join(n for n, spec in first.items() if isinstance(spec, Engine) and fits(spec))
    raise TinaError(
        f"none of the engines of [defaults] engines in registry.toml ({', '.join(listed)}) can run here",
        (f"name another one: --engine NAME ({others}); " if others else "")
        + "'tina list engines' shows what each is for",
    )


def _installed(engine: Engine) -> bool:
    if not engine.requires:
        return True
    with contextlib.suppress(ModuleNotFoundError):  # of "a.b", where there is no "a"
        return importlib.util.find_spec(engine.requires) is not None
    return False


def sampler(engine: Engine, dtype: str, hardware: Hardware) -> EngineRecord:
    """What samples come from: name, version, dtype and device. None: a server's, which is not known here."""
    if engine.remote:
        return EngineRecord(name=engine.name, version=None, dtype=None, device=None)
    return EngineRecord(name=engine.name, version=engine.version, dtype=dtype, device=_device(hardware))


def sampler_line(engine: Engine, dtype: str, hardware: Hardware) -> str:
    """The same, in words."""
    if engine.remote:
        return f"engine {engine.name}: a server, whose version, dtype and device are not known here"
    return f"engine {engine.name} {engine.version}, {dtype} on {_device(hardware)}"


def _device(hardware: Hardware) -> str:
    return f"{hardware.count} x {hardware.device}" if hardware.gpu else hardware.device


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
    """(local folder of a model, where it came from); downloads it where it is not here yet.

    Raises RunError where it is a checkpoint of a run and damaged.
    """
    if model.path is not None:
        with checked.calling(model, "path"):
            folder = Path(model.path())
        check_whole(folder)
        return folder, "local"
    revision = str(registry.catalogue.get("revisions", {}).get(model.repo, ""))
    return model_folder(model.repo, revision)


def dtype(wanted: str, hardware: Hardware) -> str:
    """What "auto" stands for: bf16 on a GPU, fp32 on a CPU."""
    return wanted if wanted != "auto" else "bfloat16" if hardware.gpu else "float32"


def estimate(plan: Plan, parent: Path) -> dict[str, Any]:
    """Seconds and dollars of the training: from a run of this model here or `tina bench`, else roughly.

    Rough: 8 FLOPs a parameter and token (sampling 2, update 6) at the hardware's effective speed.
    """
    per_token, basis = _measured(plan, parent)
    if per_token is None and plan.hardware.effective_tflops and plan.model.parameters:
        flops = 8 * plan.model.parameters / plan.hardware.count
        per_token = flops / (plan.hardware.effective_tflops * 1e12)
        basis = "rough, from parameters and registry.toml; tina bench hardware measures"
    if per_token is None:
        return {"seconds": None, "usd": None, "basis": "unknown: measure it, tina bench hardware"}
    seconds = per_token * plan.tokens
    return {"seconds": seconds, "usd": plan.hardware.dollars(seconds), "basis": basis}


def _measured(plan: Plan, parent: Path) -> tuple[float | None, str]:
    for run in reversed(runs.all_runs(parent)):
        with contextlib.suppress(TinaError, KeyError, IndexError, ZeroDivisionError):
            manifest = run.manifest()
            same = manifest["model"]["name"] == plan.model.name
            then, now = manifest["config"], plan.config
            same &= manifest["engine"] == plan.engine.name and then.get("full", False) == now.full
            if same and manifest["hardware"]["device"] == plan.hardware.device:
                metrics = run.metrics()
                seconds = sum(m["seconds"] for m in metrics)
                scale = manifest["config"].get("processes", 1) / plan.config.processes
                return scale * seconds / metrics[-1]["tokens"], f"measured in {run.id}"
    if known := cache.read(speed_key(plan)):
        return known["seconds"] / known["tokens"] / plan.config.processes, "measured by tina bench hardware"
    return None, ""


def speed_key(plan: Plan) -> str:
    """Where `tina bench hardware` keeps its measurement of a model on this machine."""
    what = (plan.hardware.device, plan.model.name, plan.dtype, plan.engine.name, str(plan.config.full))
    return "speed-" + sha256("\n".join(what).encode()).hexdigest()[:24]
