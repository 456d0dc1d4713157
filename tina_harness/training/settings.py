"""What a training needs, and the settings of TRL's trainer that follow from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tina_harness import checked
from tina_harness.config import Resolved, RunConfig
from tina_harness.errors import TinaError, did_you_mean
from tina_harness.runs import Run
from tina_harness.scoring import weights
from tina_harness.specs import Algorithm, Engine, Problem
from tina_harness.stopping import Stop
from tina_harness.training.rewards import Scorer


@dataclass(frozen=True)
class Training:
    """Everything a training needs, resolved.

    prompts: one conversation a problem. steps: stop after so many; schedule_steps: length of the
    learning-rate schedule. longest: tokens of prompt and completion together, at most. dtype: "float32" or
    "bfloat16". stop: asked after each step; when it
    says True the trainer saves and stops. on_step: told of each metrics line; why to stop after it, or
    None. on_save: told of each checkpoint. say: told of lines for the user.
    """

    config: RunConfig
    algorithm: Algorithm
    engine: Engine
    model_folder: Path
    problems: Sequence[Problem]
    prompts: Sequence[Any]
    steps: int
    schedule_steps: int
    longest: int
    dtype: str
    gpu: bool
    scorer: Scorer
    stop: Stop
    on_step: Callable[[dict[str, Any]], str | None]
    on_save: Callable[[Path, int], None]
    say: Callable[[Sequence[str]], None]


# GRPOConfig fields that are values of the configuration, by dotted key. A value of None leaves the field to
# the algorithm; what algorithm or engine fix is in the configuration by `as_fixed`.
FIELDS = {
    "learning_rate": "train.learning_rate",
    "lr_scheduler_type": "train.schedule",
    "weight_decay": "train.weight_decay",
    "max_grad_norm": "train.max_grad_norm",
    "per_device_train_batch_size": "train.batch",
    "gradient_accumulation_steps": "train.accumulate",
    "num_generations": "train.group",
    "max_completion_length": "train.max_new_tokens",
    "temperature": "train.temperature",
    "beta": "train.beta",
    "gradient_checkpointing": "train.gradient_checkpointing",
    "loss_type": "train.loss_type",
    "scale_rewards": "train.scale_rewards",
}
# Those of them that override the algorithm instead.
OVERRIDES = ("loss_type", "scale_rewards")

# What decides GRPOConfig fields that neither algorithm nor engine may set: with other values than planned and
# recorded, another run would train.
_DECIDED = {
    "the run's directory": ("output_dir",),
    "train.max_steps, train.epochs and train.schedule_steps": ("max_steps", "num_train_epochs"),
    "train.warmup": ("warmup_steps",),
    "train.schedule and train.min_lr_share": ("lr_scheduler_kwargs",),
    "train.temperature, train.max_new_tokens and fields such as top_p": ("generation_kwargs",),
    "train.gradient_checkpointing": ("activation_checkpointing",),
    "lora.dropout": ("disable_dropout",),
    "the weights of [rewards]": ("reward_weights",),
    "seed": ("seed", "data_seed"),
    "dtype": ("bf16", "fp16"),
    "trust_remote_code": ("trust_remote_code",),
    "the hardware": ("use_cpu", "dataloader_pin_memory"),
    "processes and accelerate_config": (
        *("fsdp", "fsdp_config", "deepspeed", "accelerator_config", "parallelism_config"),
        "ddp_find_unused_parameters",
    ),
    "train.save_every, train.keep_last and train.keep_best": (
        *("save_strategy", "save_steps", "save_only_model", "save_on_each_node", "save_total_limit"),
        *("enable_jit_checkpoint", "load_best_model_at_end"),
    ),
    "'tina resume'": (
        *("resume_from_checkpoint", "ignore_data_skip", "restore_callback_states_from_checkpoint"),
    ),
    "metrics.jsonl, which has a line for each step": (
        *("logging_strategy", "logging_steps", "logging_nan_inf_filter", "disable_tqdm"),
    ),
    "train.report_to and 'tina publish'": ("report_to", "push_to_hub", "log_completions_hub_repo"),
    "bench: a run is evaluated at its end": ("do_eval", "eval_strategy", "eval_on_start"),
    "the rewards, which need whole groups with their golds": (
        "remove_unused_columns",
        "auto_find_batch_size",
    ),
}
OWNED = {field: owner for owner, fields in _DECIDED.items() for field in fields}


def as_fixed(resolved: Resolved, algorithm: Algorithm, engine: Engine) -> tuple[Resolved, list[str]]:
    """(the configuration with the values that algorithm and engine fix, what to tell the user).

    Raises TinaError where the user set such a value to another one, where the two fix different ones, and
    where they set a field that is not theirs.
    """
    fixed: dict[str, tuple[Any, str]] = {}
    rollouts = {} if resolved.config.rollout_server else engine.rollouts
    for spec, given in ((algorithm, algorithm.settings), (engine, rollouts)):
        who = f"{spec.kind} {spec.name}"
        for field, value in given.items():
            owner = OWNED.get(field) or ("the engine" if spec is algorithm and _of_engines(field) else "")
            if owner:
                raise TinaError(
                    f"the {who} sets '{field}', which is decided by {owner}",
                    f"take it out of what the {spec.kind} sets",
                )
            key = FIELDS.get(field)
            if key is None or (spec is algorithm and field in OVERRIDES):
                continue
            if key in fixed and not same(fixed[key][0], value):
                raise TinaError(
                    f"the {who} fixes {key} at {value}, and the {fixed[key][1]} at {fixed[key][0]}",
                    f"take another {spec.kind}",
                )
            fixed[key] = (value, who)
    _check_loss(resolved, algorithm)
    return _with_fixed(resolved, fixed)


# The loss types of TRL 1.16; it looks one up in the middle of the first step only.
LOSSES = ("bnpo", "cispo", "dapo", "dr_grpo", "grpo", "luspo", "sapo", "vespo")


def _check_loss(resolved: Resolved, algorithm: Algorithm) -> None:
    """Raise TinaError for a loss type that TRL does not have; an algorithm's own trainer may have others."""
    key = "train.loss_type"
    loss, who = resolved.value(key), f"{key} ({resolved.origin(key)})"
    if loss is None:
        loss, who = algorithm.settings.get("loss_type", LOSSES[0]), f"algorithm {algorithm.name}"
    if algorithm.trainer is None and loss not in LOSSES:
        raise TinaError(
            f"{who}: TRL has no loss type '{loss}'",
            did_you_mean(str(loss), LOSSES, f"it has: {', '.join(LOSSES)}"),
        )


def _with_fixed(resolved: Resolved, fixed: Mapping[str, tuple[Any, str]]) -> tuple[Resolved, list[str]]:
    """fixed: dotted key -> (value, who fixes it)."""
    notes = []
    changed = {key: to for key, to in fixed.items() if not same(resolved.value(key), to[0])}
    for key, (value, who) in changed.items():
        before, origin = resolved.value(key), resolved.origin(key)
        if resolved.set_by_user(key):
            option = {"algorithm": "--algo"}.get(who.partition(" ")[0], "--engine")
            raise TinaError(
                f"{key} = {before} ({origin}) has no effect: the {who} fixes it at {value}",
                f"leave it out, or name another with {option}",
            )
        if origin != "default":
            notes.append(f"{key} is {value}, which the {who} fixes, not {before} ({origin})")
    try:
        return resolved.replaced(changed), notes
    except TinaError as error:
        whose = " and the ".join(dict.fromkeys(who for _, who in changed.values()))
        raise TinaError(f"what the {whose} fixes does not fit: {error.message}", error.hint) from error


def _of_engines(field: str) -> bool:
    """Whether a field says what samples the rollouts, and how that is set up."""
    names = ("use_vllm", "vllm_", "use_transformers_", "transformers_")
    return field.startswith(names) and not field.startswith("vllm_importance_sampling")


def same(found: Any, wanted: Any) -> bool:
    """Whether a library holds the value that it was given, as a tensor, an enumeration or a float."""
    found = found.tolist() if hasattr(found, "tolist") else getattr(found, "value", found)
    if isinstance(wanted, list | tuple) and isinstance(found, list | tuple):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    numbers = [v for v in (found, wanted) if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == 2:
        return bool(abs(found - wanted) <= 1e-7 * abs(wanted))
    return bool(found == wanted or str(found) == str(wanted))


def settings(training: Training) -> dict[str, Any]:
    """`GRPOConfig` fields of a training: the recipe's, then the algorithm's, then the engine's."""
    config = training.config
    t = config.train
    own = {"gradient_checkpointing": training.gpu}
    own |= {f: v for f, key in FIELDS.items() if (v := Resolved(config, {}).value(key)) is not None}
    return {
        **own,
        "lr_scheduler_kwargs": (
            {"min_lr_rate": t.min_lr_share} if t.schedule == "cosine_with_min_lr" else None
        ),
        "warmup_steps": round(t.warmup * training.schedule_steps),
        "max_steps": training.schedule_steps,
        "reward_weights": weights(config),
        "seed": config.seed,
        "bf16": training.dtype == "bfloat16" and training.gpu,
        "use_cpu": not training.gpu,
        "logging_nan_inf_filter": False,  # a loss that is not finite is to be seen
        "save_strategy": "steps",
        "save_steps": t.save_every if isinstance(t.save_every, int) else 10**9,  # minutes: the callback saves
        "logging_steps": 1,
        "report_to": list(t.report_to) or "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": training.gpu,
        "ddp_find_unused_parameters": False,
        **training.algorithm.settings,
        **{field: own[field] for field in OVERRIDES if field in own},
        **_rollouts(training),
    }


def _rollouts(training: Training) -> dict[str, Any]:
    """The engine's settings, or those of a vLLM server on other GPUs.

    TRL would multiply the losses of vLLM's rollouts by importance ratios, and drop sequences by them, which
    is in none of the algorithms' papers: only where an algorithm or engine wants it.
    """
    found = {**training.engine.rollouts}
    if (address := training.config.rollout_server) is not None:
        found = {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": address}
    if found.get("use_vllm"):
        corrects = "vllm_importance_sampling_correction"
        found[corrects] = training.algorithm.settings.get(corrects, found.get(corrects, False))
    if found.get("vllm_mode") == "colocate":
        found["vllm_max_model_length"] = max(training.longest, 128)  # `check_rollouts` needs as much
    return found


def arguments(run: Run, training: Training) -> tuple[type, Any]:
    """(trainer class, its `GRPOConfig`). Raises TinaError for a setting that TRL does not have."""
    from trl import GRPOConfig, GRPOTrainer

    algorithm = training.algorithm
    wanted = settings(training)
    known = {f.name for f in dataclasses.fields(GRPOConfig)}
    for key in wanted:
        if key not in known:
            hint = did_you_mean(key, known)
            raise TinaError(f"algorithm '{algorithm.name}' sets '{key}', which TRL does not have", hint)
    trainer_class: Any = GRPOTrainer
    if algorithm.trainer is not None:
        with checked.calling(algorithm, "trainer"):
            trainer_class = algorithm.trainer()
        if not isinstance(trainer_class, type) or not issubclass(trainer_class, GRPOTrainer):
            raise checked.wrong(algorithm, "trainer", trainer_class, "a subclass of TRL's GRPOTrainer")
    try:
        return trainer_class, GRPOConfig(output_dir=str(run.checkpoints_dir), **wanted)
    except (TypeError, ValueError) as error:
        raise TinaError(f"TRL refuses the settings of the algorithm '{algorithm.name}': {error}") from error
