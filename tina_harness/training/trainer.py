"""What a run needs of the trainer besides the algorithm: times by phase, and groups that are skipped."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer

OnAdvantages = Callable[[list[list[int]], list[float]], None]

# Losses that divide by the number of sequences, which the masks of skipped ones do not lower.
_BY_SEQUENCE = ("grpo", "sapo", "dr_grpo")


def neutral(rewards: torch.Tensor, group: int) -> torch.Tensor:
    """NaN, "do not count this one", becomes the mean of its group and reward: it neither helps nor hurts.

    rewards: (completions, reward functions), groups of `group` one after another. TRL counts it as 0, as if
    the completion had failed. Where a whole group has no value, NaN stays.
    """
    grouped = rewards.view(-1, group, rewards.shape[1])
    mean = grouped.nanmean(dim=1, keepdim=True).expand_as(grouped)
    return torch.where(grouped.isnan(), mean, grouped).view_as(rewards)


def merged_weights(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """(name in the base model, weight with the adapter in it) of a peft model, one after another.

    TRL adds the adapter to the weights in place and takes it off again. In bf16 that does not give back what
    was there, and the base would drift a little with each step; here a layer's weight is merged in a copy.
    """
    layers = {
        f"{name}.base_layer.weight": layer
        for name, layer in model.named_modules()
        if isinstance(layer, BaseTunerLayer)
    }
    for name, parameter in model.named_parameters():
        if model.prefix in name or "original_module" in name:
            continue
        plain = name.removeprefix("base_model.model.")
        plain = plain.replace(".base_layer", "").replace("modules_to_save.default.", "")
        kept, layer = parameter.data, layers.get(name)
        if layer is not None:
            layer.merge(safe_merge=True)
        try:
            yield plain, parameter.data
        finally:
            if layer is not None:
                parameter.data = kept
                layer.merged_adapters.clear()


@functools.cache
def harnessed(trainer_class: type) -> type:
    """A subclass of a `GRPOTrainer` class that counts seconds by phase and leaves groups without rewards out.

    `on_advantages` is told of each scored batch: (token ids of each completion, then padding; advantages).
    `phases`: seconds since they were last taken, of "rollout" and "grading". `skipped`: groups since then in
    which no completion got any reward (all `None`). TRL gives such a group advantages of zero and still
    divides by it; here its tokens do not count, neither in the loss nor in what the loss is divided by.
    With several backward passes a step a loss that is normalised in each of them (`bnpo`) is so in each.
    """

    class Harnessed(trainer_class):
        def __init__(self, *args: Any, **options: Any) -> None:
            self.phases = {"rollout": 0.0, "grading": 0.0}
            self.skipped = 0
            self.on_advantages: OnAdvantages = lambda token_ids, advantages: None
            super().__init__(*args, **options)
            sharded = self._dist.is_fsdp or self._dist.is_zero3
            if self.use_vllm and isinstance(self.model, PeftModel) and not sharded:
                self.vllm_generation._iter_named_params = functools.partial(merged_weights, self.model)

        @contextmanager
        def _phase(self, name: str) -> Iterator[None]:
            start = time.monotonic()
            try:
                yield
            finally:
                self.phases[name] += time.monotonic() - start

        def take(self) -> tuple[dict[str, float], int]:
            """(seconds by phase, groups skipped), and start anew."""
            taken = self.phases, self.skipped
            self.phases, self.skipped = dict.fromkeys(self.phases, 0.0), 0
            return taken

        def _generate_single_turn(self, *args: Any, **options: Any) -> Any:
            with self._phase("rollout"):
                return super()._generate_single_turn(*args, **options)

        def _calculate_rewards(self, *args: Any, **options: Any) -> Any:
            with self._phase("grading"):
                rewards = super()._calculate_rewards(*args, **options)
            group = self.num_generations if self.model.training else self.num_generations_eval
            self._empty = torch.isnan(rewards).all(dim=1).view(-1, group).all(dim=1)
            self.skipped += int(self._empty.sum())
            self._empty = self._empty.repeat_interleave(group)
            return neutral(rewards, group)

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            batch = super()._generate_and_score_completions(inputs)
            if batch["advantages"].dim() == 1:  # an algorithm may have one a token
                self.on_advantages(batch["completion_ids"].tolist(), batch["advantages"].tolist())
            if not self._empty.any():
                return batch
            here = len(batch["completion_mask"])
            first = self.accelerator.process_index * here
            empty = self._empty[first : first + here].to(batch["completion_mask"].device)
            batch["completion_mask"] = batch["completion_mask"] * ~empty[:, None]
            if batch.get("num_items_in_batch") is not None:
                left = self.accelerator.gather(batch["completion_mask"].sum()).sum()
                batch["num_items_in_batch"] = left.to(batch["num_items_in_batch"].dtype)
            batch["kept_share"] = 1.0 - self._empty.float().mean()
            return batch

        def _compute_loss(self, model: Any, inputs: Any) -> Any:
            loss = super()._compute_loss(model, inputs)
            share = inputs.get("kept_share")
            if share is None or self.loss_type not in _BY_SEQUENCE:
                return loss
            return loss / share.clamp(min=1e-9)

    Harnessed.__name__ = Harnessed.__qualname__ = trainer_class.__name__
    return Harnessed
