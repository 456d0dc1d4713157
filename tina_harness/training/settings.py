"""What a training needs, and the settings of TRL's trainer that follow from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tina_harness import checked
from tina_harness.config import RunConfig
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


def settings(training: Training) -> dict[str, Any]:
    """`GRPOConfig` fields of a training: the recipe's, then the algorithm's, then the engine's."""
    t = training.config.train
    overrides = {"loss_type": t.loss_type, "scale_rewards": t.scale_rewards}
    checkpointing = training.gpu if t.gradient_checkpointing is None else t.gradient_checkpointing
    return {
        "learning_rate": t.learning_rate,
        "lr_scheduler_type": t.schedule,
        "lr_scheduler_kwargs": (
            {"min_lr_rate": t.min_lr_share} if t.schedule == "cosine_with_min_lr" else None
        ),
        "warmup_steps": round(t.warmup * training.schedule_steps),
        "max_steps": training.schedule_steps,
        "weight_decay": t.weight_decay,
        "max_grad_norm": t.max_grad_norm,
        "per_device_train_batch_size": t.batch,
        "gradient_accumulation_steps": t.accumulate,
        "num_generations": t.group,
        "max_completion_length": t.max_new_tokens,
        "temperature": t.temperature,
        "beta": t.beta,
        "reward_weights": weights(training.config),
        "seed": training.config.seed,
        "bf16": training.dtype == "bfloat16" and training.gpu,
        "use_cpu": not training.gpu,
        "gradient_checkpointing": checkpointing,
        "logging_nan_inf_filter": False,  # a loss that is not finite is to be seen
        "save_strategy": "steps",
        "save_steps": t.save_every if isinstance(t.save_every, int) else 10**9,  # minutes: the callback saves
        "logging_steps": 1,
        "report_to": list(t.report_to) or "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": training.gpu,
        "ddp_find_unused_parameters": False,
        **training.algorithm.settings,
        **{k: v for k, v in overrides.items() if v is not None},
        **_rollouts(training),
    }


def _rollouts(training: Training) -> dict[str, Any]:
    """The engine's settings, or those of a vLLM server on other GPUs.

    TRL would multiply the losses of vLLM's rollouts by importance ratios, and drop sequences by them, which
    is in none of the algorithms' papers.
    """
    found = {**training.engine.rollouts}
    if (address := training.config.rollout_server) is not None:
        found = {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": address}
    if found.get("use_vllm"):
        found["vllm_importance_sampling_correction"] = False
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
    return trainer_class, GRPOConfig(output_dir=str(run.checkpoints_dir), **wanted)
