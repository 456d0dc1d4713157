"""The configuration of a run: preset < --config file < flags < --set, validated, strict.

Every value remembers which layer it came from, and an unknown key is an error that names the
nearest one and where it was read: a key that is silently dropped is an experiment that did not
happen (the original's Dr.GRPO recipe lost `scale_reward` that way).
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tina_harness.errors import TinaError, did_you_mean, nearest
from tina_harness.registry import Registry
from tina_harness.specs import Reward

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LoraConfig(_Table):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685)."""

    r: Positive = Field(32, description="rank")
    alpha: Positive | None = Field(None, description="scale; 4r where it is not given, as in the paper")
    dropout: Share = Field(0.05, description="dropout on the adapter's input")
    targets: list[str] | str | None = Field(
        None,
        description="modules that get an adapter: names, an expression for whole names, or all-linear; "
        "none: q, k, v, o, gate, up and down projections, as in the paper, or in other architectures all "
        "linear layers",
    )
    rslora: bool = Field(False, description="scale by alpha / sqrt(r), Kalajdzievski 2023, arXiv:2312.03732")
    dora: bool = Field(False, description="magnitude and direction apart, Liu et al. 2024, arXiv:2402.09353")

    @field_validator("targets", mode="before")
    @classmethod
    def _names_or_expression(cls, value: object) -> object:
        if isinstance(value, str):
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from error
        names = [value] if isinstance(value, str) else value
        if names is None or (isinstance(names, list) and names and all(isinstance(n, str) for n in names)):
            return value
        raise ValueError("expected names of modules, a regular expression for whole names, or all-linear")

    @property
    def scale(self) -> int:
        """alpha, with its default filled in."""
        return self.alpha or 4 * self.r


class TrainConfig(_Table):
    """One GRPO-style training. Lengths in tokens, learning rates per optimizer step."""

    max_steps: Positive | None = Field(None, description="stop after this many steps; none: one epoch")
    schedule_steps: Positive | None = Field(
        None, description="length of the learning-rate schedule; none: as many as are trained"
    )
    epochs: Annotated[float, Field(gt=0)] = Field(1.0, description="passes over the data, without max_steps")
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-6, description="peak learning rate")
    schedule: Literal["cosine_with_min_lr", "cosine", "linear", "constant", "constant_with_warmup"] = Field(
        "cosine_with_min_lr", description="shape of the learning-rate schedule"
    )
    min_lr_share: Share = Field(0.1, description="lowest learning rate, as a share of the peak")
    warmup: Share = Field(0.1, description="share of the schedule spent warming up")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="AdamW's weight decay")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(
        1.0, description="gradients are clipped to this norm"
    )
    group: Annotated[int, Field(ge=2)] = Field(4, description="completions per prompt (G)")
    batch: Positive = Field(4, description="completions per device and backward pass")
    accumulate: Positive = Field(4, description="backward passes per optimizer step")
    beta: Annotated[float, Field(ge=0)] = Field(0.04, description="KL coefficient; 0 skips the KL term")
    temperature: Annotated[float, Field(gt=0)] = Field(0.7, description="sampling temperature of rollouts")
    max_prompt_tokens: Positive = Field(512, description="longer prompts are left out before training")
    max_new_tokens: Positive = Field(3584, description="longest completion")
    save_every: int | str = Field(50, description="steps between checkpoints, or minutes: 10m")
    keep_last: Positive | None = Field(None, description="keep so many of the newest checkpoints; none: all")
    keep_best: Positive | None = Field(None, description="and so many of those with the highest reward")
    keep_completions: Annotated[int, Field(ge=0)] = Field(
        500, description="newest steps whose rollouts are kept"
    )
    report_to: list[Literal["tensorboard", "wandb", "trackio", "mlflow"]] = Field(
        [], description="send metrics there too, by TRL's integrations"
    )
    stop_after_transition: Positive | None = Field(
        None, description="stop so many steps after the phase transition was seen"
    )
    loss_type: str | None = Field(None, description="overrides the algorithm's loss type")
    scale_rewards: Literal["group", "batch", "none"] | None = Field(
        None, description="overrides how the algorithm scales advantages"
    )
    gradient_checkpointing: bool | None = Field(None, description="none: on a GPU only")

    @field_validator("save_every")
    @classmethod
    def _steps_or_minutes(cls, value: int | str) -> int | str:
        if not re.fullmatch(r"[1-9]\d*m?", str(value)):
            raise ValueError("expected a number of steps, or of minutes such as 10m")
        return int(value) if str(value).isdigit() else value

    @model_validator(mode="after")
    def _groups_fit(self) -> TrainConfig:
        if (self.batch * self.accumulate) % self.group:
            raise ValueError(
                f"batch x accumulate ({self.batch} x {self.accumulate}) must be a multiple of group "
                f"({self.group})"
            )
        return self


class EvalConfig(_Table):
    """How benchmarks are sampled."""

    samples: Positive | None = Field(None, description="completions per problem; none: the benchmark's")
    temperature: Annotated[float, Field(ge=0)] = Field(0.6, description="0 is greedy")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(0.95, description="nucleus sampling")
    max_new_tokens: Positive | None = Field(None, description="longest completion; none: the benchmark's")
    limit: Positive | None = Field(None, description="only the first problems of each benchmark")
    system: str | None = Field(None, description="prompt template as system prompt; none: the benchmark's")
    metrics: list[str] = Field([], description="metrics besides the benchmark's or those of [defaults]")
    cache: bool = Field(True, description="use samples and results that are here already")


class GuardConfig(_Table):
    """When a training is stopped because it is lost."""

    max_kl: Annotated[float, Field(gt=0)] = Field(10.0, description="nats a token; above it 5 times: stop")
    no_signal_share: Share = Field(0.95, description="groups with equal rewards; above it too long: stop")
    patience: Positive = Field(50, description="steps that groups may be without signal")
    stop_on_hack: bool = Field(False, description="stop, not only warn, where a reward seems to be hacked")


class RunConfig(_Table):
    """Everything a run depends on. Names are registry names; `model` may be a hub id or a folder."""

    dataset: str = Field(description="what to train on")
    algo: str = Field(description="reinforcement-learning algorithm")
    model: str | None = Field(None, description="none: by whether there is a GPU, see [defaults]")
    bench: list[str] = Field([], description="benchmarks for the base and the trained model")
    engine: str = Field("auto", description="what samples completions")
    seed: int = Field(42, description="seeds data order, adapters, rollouts and evaluation")
    limit: Positive | None = Field(None, description="only the first rows of the dataset")
    problem_column: str | None = Field(None, description="of a dataset of one's own; none: problem")
    answer_column: str | None = Field(None, description="of a dataset of one's own; none: answer")
    keep_overlap: bool = Field(False, description="train on rows that are also in the run's benchmarks")
    keep_contradictions: bool = Field(
        False, description="train on problems whose golds contradict each other"
    )
    system: str | None = Field(None, description="prompt template for training; none: the dataset's")
    processes: Positive = Field(1, description="train in so many processes, one a GPU")
    accelerate_config: str | None = Field(None, description="file of 'accelerate config': DDP, ZeRO, FSDP")
    rollout_server: str | None = Field(None, description="address of a vLLM server that samples rollouts")
    rollout_gpus: Positive = Field(1, description="GPUs of the rollout server, which are paid for too")
    full: bool = Field(False, description="train all parameters, without adapters, for comparison")
    budget_usd: Annotated[float, Field(gt=0)] | None = Field(
        None, description="stop before the run costs more, with enough left for the evaluation"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bf16 on a GPU"
    )
    hardware: str = Field("auto", description="entry of [hardware] that prices the run")
    trust_remote_code: bool = Field(False, description="run code from the model's repository")
    rewards: dict[str, dict[str, Any]] = Field({}, description="[rewards.NAME] weight = ..., parameters")
    lora: LoraConfig = LoraConfig()  # type: ignore[call-arg]
    train: TrainConfig = TrainConfig()  # type: ignore[call-arg]
    eval: EvalConfig = EvalConfig()  # type: ignore[call-arg]
    guard: GuardConfig = GuardConfig()  # type: ignore[call-arg]


# How the origin of a value begins that is neither an option nor a file.
_NOT_THE_USER = ("default ", "preset ", "algorithm ", "engine ", "context of ", "manifest: ", "tina ")


@dataclass(frozen=True)
class Resolved:
    """A validated configuration, and for each dotted key the layer that set it."""

    config: RunConfig
    origins: Mapping[str, str]

    def replaced(self, changes: Mapping[str, tuple[Any, str]]) -> Resolved:
        """The same, where something other than the user changes dotted keys, each to (value, origin)."""
        table = self.config.model_dump()
        for key, (value, _) in changes.items():
            _put(table, key, value)
        origins = {**self.origins, **{key: origin for key, (_, origin) in changes.items()}}
        return Resolved(_validated(table, origins), origins)

    def value(self, key: str) -> Any:
        """The value of a dotted key."""
        table, _, name = key.rpartition(".")
        return getattr(getattr(self.config, table) if table else self.config, name)

    def origin(self, key: str) -> str:
        """The layer that set a dotted key, "default" where none did."""
        return self.origins.get(key, "default")

    def set_by_user(self, key: str) -> bool:
        """Whether an option or a file of the user's set a key, and not a preset, a default or the harness."""
        return not f"{self.origin(key)} ".startswith(_NOT_THE_USER)

    def rows(self) -> Iterator[tuple[str, Any, str]]:
        """(dotted key, value, where it came from) of every value, the weight of every reward among them."""
        table = self.config.model_dump()
        table["rewards"] = {name: {"weight": 1.0, **given} for name, given in table["rewards"].items()}
        for key, value in flatten(table):
            yield key, value, self.origin(key)


@dataclass
class Layers:
    """The layers of a configuration, lowest first."""

    registry: Registry
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def add(self, table: Mapping[str, Any], origin: str) -> Layers:
        """Lay a nested table over what is there. Unknown keys are errors."""
        for key, value in flatten(table):
            self.set(key, value, origin)
        return self

    def set(self, key: str, value: Any, origin: str) -> None:
        """Set one dotted key."""
        self._check_key(key, origin)
        _put(self.values, key, value)
        self.origins[key] = origin

    def add_preset(self, name: str) -> Layers:
        """Lay a preset of `registry.toml`, and what it extends, over what is there."""
        presets = self.registry.catalogue.get("presets", {})
        if name not in presets:
            hint = did_you_mean(name, presets, f"there are: {', '.join(sorted(presets))}")
            raise TinaError(f"there is no preset '{name}'", hint)
        table = {k: v for k, v in presets[name].items() if k not in ("summary", "source", "extends", "grid")}
        if parent := presets[name].get("extends"):
            self.add_preset(parent)
        if "rewards" in table:  # a recipe's rewards replace those of the recipe it extends
            self.drop_rewards()
        return self.add(table, f"preset {name}")

    def add_file(self, path: Path) -> Layers:
        """Lay a TOML file over what is there."""
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise TinaError(f"{path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise TinaError(f"{path} is not valid TOML: {error}") from error
        if "rewards" in table:
            self.drop_rewards()
        return self.add(table, str(path))

    def add_assignment(self, text: str) -> Layers:
        """Lay one `--set key=value` over what is there; the value is read as TOML, else as a text."""
        key, equals, raw = text.partition("=")
        if not equals:
            raise TinaError(f"--set {text}: expected key=value", "for example --set train.learning_rate=1e-6")
        self.set(key.strip(), _toml_value(raw.strip()), f"--set {text}")
        return self

    def resolve(self) -> Resolved:
        """Validate. Raises TinaError that names the key, the layer and what is wanted."""
        config = _validated(self.values, self.origins)
        self._check_rewards(config)
        return Resolved(config, dict(self.origins))

    def drop_rewards(self) -> None:
        """Take out every reward that a lower layer gave, with its parameters."""
        self.values.pop("rewards", None)
        self.origins = {k: v for k, v in self.origins.items() if not k.startswith("rewards.")}

    def _check_key(self, key: str, origin: str) -> None:
        if key.startswith("rewards.") and key.count(".") == 2:
            return  # checked against the reward's own parameters in resolve()
        known = list(known_keys())
        if key not in known:
            by_last = {k.rpartition(".")[2]: k for k in known}
            close = nearest(key, known) or [by_last[m] for m in nearest(key.rpartition(".")[2], by_last)]
            hint = f"did you mean '{close[0]}'?" if close else "'tina run --dry-run' lists every key"
            if key.startswith("rewards."):
                hint = "a reward has a weight and parameters: rewards.NAME.weight, rewards.NAME.PARAMETER"
            raise TinaError(f"unknown key '{key}' in {origin}", hint)

    def _check_rewards(self, config: RunConfig) -> None:
        for name, table in config.rewards.items():
            reward = self.registry.get(Reward, name)
            known = {"weight", *reward.defaults}
            for key, value in table.items():
                origin = self.origins.get(f"rewards.{name}.{key}", "")
                if key not in known:
                    hint = did_you_mean(key, known, f"it takes: {', '.join(sorted(known))}")
                    raise TinaError(f"unknown key 'rewards.{name}.{key}' in {origin}", hint)
                wanted = _wanted(1.0 if key == "weight" else reward.defaults[key], value)
                if wanted:
                    raise TinaError(f"rewards.{name}.{key} = {value!r} ({origin}): expected {wanted}")


def known_keys(table: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a configuration, without those of [rewards]."""
    for name, info in table.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from known_keys(info.annotation, f"{prefix}{name}.")
        elif name != "rewards":
            yield f"{prefix}{name}"


def flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf of a nested table; [rewards.NAME] with nothing in it has a weight."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            whole = value or ({"weight": 1.0} if prefix == "rewards." else {})
            yield from flatten(whole, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of a nested table."""
    *parents, last = key.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
    table[last] = value


def _validated(values: Mapping[str, Any], origins: Mapping[str, str]) -> RunConfig:
    """The configuration of a nested table. Raises TinaError that names the key and its origin."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(p) for p in first["loc"] if not isinstance(p, int))
        origin = origins.get(key, "")
        where = f"{key} = {first['input']!r}" if not isinstance(first["input"], dict) else key
        message = first["msg"].removeprefix("Value error, ")
        raise TinaError(f"{where}{f' ({origin})' if origin else ''}: {message}") from error


def _wanted(default: Any, value: Any) -> str:
    """What a reward's parameter is to be, by its default, where the value is something else; else ""."""
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, int | float):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "a number"
        return "" if math.isfinite(value) else "a finite number"
    if isinstance(default, str):
        return "" if isinstance(value, str) else "a text"
    return ""


def _toml_value(raw: str) -> Any:
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw
