"""One LoRA + RL training, through TRL's GRPOTrainer and peft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tina_harness.config import RunConfig
from tina_harness.errors import TinaError
from tina_harness.runs import Run
from tina_harness.stopping import Preempted, give_up_when
from tina_harness.training.settings import Training, arguments, same, settings
from tina_harness.training.targets import check_targets, modules_in


def train(run: Run, training: Training, resume_from: Path | None = None) -> None:
    """Train until the last step or until `stop()`; checkpoints go to `run.checkpoints_dir`.

    What was built, read back from the trainer, is in the manifest before the first step.
    """
    import datasets
    import peft
    import torch
    from accelerate.utils import set_seed
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tina_harness.training.callbacks import StepCallback
    from tina_harness.training.probe import check_rollouts
    from tina_harness.training.trainer import harnessed

    config = training.config
    trainer_class, trl_config = arguments(run, training)
    torch.manual_seed(config.seed)
    # All parameters in bf16 would take none of the small updates (adapters are in fp32 by peft).
    dtype = "float32" if config.full else training.dtype
    model = AutoModelForCausalLM.from_pretrained(
        training.model_folder,
        dtype=getattr(torch, dtype),
        trust_remote_code=config.trust_remote_code,
        **_attention(training.gpu and dtype == "bfloat16"),
    )
    tokenizer = AutoTokenizer.from_pretrained(training.model_folder, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    rows = datasets.Dataset.from_dict(
        {"prompt": list(training.prompts), "place": list(range(len(training.prompts)))}
    )
    trainer = harnessed(trainer_class)(
        model=model,
        reward_funcs=training.scorer.functions(),
        args=trl_config,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=None
        if config.full
        else peft.LoraConfig(
            r=config.lora.r,
            lora_alpha=config.lora.scale,
            lora_dropout=config.lora.dropout,
            target_modules=_targets(model, config.lora.targets),
            use_rslora=config.lora.rslora,
            use_dora=config.lora.dora,
            bias="none",
            task_type="CAUSAL_LM",
        ),
    )
    trainer.on_advantages = training.scorer.add_advantages
    built = _read_back(trainer, settings(training))
    built["lora"] = _read_adapter(trainer.model, config)
    trained, everything = built["trainable_parameters"], built["parameters"]
    training.say([f"{trained:,} of {everything:,} parameters are trained ({trained / everything:.2%})"])
    built["rollout_check"] = check_rollouts(trainer, _token_ids(tokenizer, training.prompts[0]))
    if built["rollout_check"] is None:
        training.say(["the parameters are sharded: rollouts are not compared with the trained model"])
    run.update(built=built)
    if trainer.use_vllm:  # the engine in this process has seeded the random streams with its rank
        set_seed(config.seed, device_specific=True)
    callback = StepCallback(run, training, trainer)
    trainer.add_callback(callback)
    if run.leads and trainer.accelerator.num_processes > 1:
        patience = 10.0 if callback.whole else None
        give_up_when(run.give_up, training.stop, callback.give_up, patience)
    try:
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    except Preempted:  # in the middle of a step, before its update
        callback.give_up()


def _token_ids(tokenizer: Any, prompt: Any, longest: int = 64) -> list[int]:
    """The end of a prompt, conversation or text, as token ids."""
    if not isinstance(prompt, str):
        prompt = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    return list(tokenizer(prompt, add_special_tokens=False)["input_ids"])[-longest:]


_PAPER_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def _targets(model: Any, wanted: Sequence[str] | str | None) -> Sequence[str] | str:
    """The modules that get an adapter: the wanted ones, else the paper's, else (peft) all linear ones.

    Raises TinaError where the model lacks a wanted one, or one cannot be trained.
    """
    modules = modules_in(model)
    if wanted is None:
        names = {name.rpartition(".")[2] for name in modules}
        return list(_PAPER_TARGETS) if names.issuperset(_PAPER_TARGETS) else "all-linear"
    head = model.get_output_embeddings()
    check_targets(wanted, modules, [name for name, module in model.named_modules() if module is head])
    return wanted


def _attention(fits: bool) -> Mapping[str, str]:
    """Flash attention for bf16 on a GPU where the package is there; else the library's choice."""
    from importlib.util import find_spec

    return {"attn_implementation": "flash_attention_2"} if fits and find_spec("flash_attn") else {}


# Where the trainer keeps what a setting became, when it is not the setting's own name.
_KEPT_AS = {"epsilon": "epsilon_low"}
# Of what is read back, this is written down.
_RECORDED = (
    *("loss_type", "scale_rewards", "beta", "epsilon", "epsilon_high", "importance_sampling_level"),
    *("num_iterations", "num_generations", "max_completion_length", "temperature"),
    *("learning_rate", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "seed"),
)
_OTHERWISE = (
    "this version of TRL, or the algorithm's trainer, treats the setting in another way; 'tina doctor'"
)


def _read_back(trainer: Any, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What the trainer will really do, from its own state. Raises TinaError where that is not what was asked.

    A library that renames, drops or adjusts a setting, or a trainer class that sets its own, would otherwise
    run another algorithm in silence. Both its arguments and what it took from them are compared.
    """
    for key, value in wanted.items():
        if key == "report_to":  # transformers adds to it in a Kubeflow job
            continue
        there = getattr(trainer.args, key)
        for found in (there, getattr(trainer, _KEPT_AS.get(key, key), there)):
            if not same(found, value):
                raise TinaError(
                    f"the trainer was asked for {key} = {value!r} and has {found!r}",
                    f"{_OTHERWISE} shows the versions",
                )
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    everything = sum(p.numel() for p in trainer.model.parameters())
    return {
        **{k: getattr(trainer, _KEPT_AS.get(k, k), getattr(trainer.args, k)) for k in _RECORDED},
        "use_bias_correction_kl": trainer.args.use_bias_correction_kl,
        "importance_sampling_correction": bool(
            trainer.use_vllm and trainer.vllm_importance_sampling_correction
        ),
        "reward_weights": dict(zip(trainer.reward_func_names, trainer.reward_weights.tolist(), strict=True)),
        "trainable_parameters": trainable,
        "parameters": everything,
        "rollouts": "vllm" if trainer.use_vllm else "transformers",
    }


def _read_adapter(model: Any, config: RunConfig) -> dict[str, Any] | None:
    """The adapter of the trainer's model, None for none. Raises TinaError where another was asked for."""
    adapters = getattr(model, "peft_config", {})
    if config.full or not adapters:
        if bool(adapters) == config.full:
            raise TinaError(
                f"the trainer was asked for {'no' if config.full else 'an'} adapter and has "
                f"{len(adapters) or 'none'}",
                f"{_OTHERWISE} shows the versions",
            )
        return None
    lora = config.lora
    built = next(iter(adapters.values()))
    found = {
        "r": built.r,
        "alpha": built.lora_alpha,
        "dropout": built.lora_dropout,
        "targets": sorted([t] if isinstance(t := built.target_modules, str) else t),
        "rslora": built.use_rslora,
        "dora": built.use_dora,
    }
    wanted = {**lora.model_dump(), "alpha": lora.scale}
    by_name = isinstance(lora.targets, list)  # else peft has found the names
    wanted["targets"] = sorted(lora.targets or ()) if by_name else found["targets"]
    for key, value in wanted.items():
        if not same(found[key], value):
            raise TinaError(
                f"the trainer was asked for lora.{key} = {value!r} and has {found[key]!r}",
                f"{_OTHERWISE} shows the versions",
            )
    return found
