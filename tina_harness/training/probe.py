"""Whether the rollout engine samples from the model that is trained, found out before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from tina_harness.errors import TinaError
from tina_harness.training.randomness import random_state, set_random_state

TOKENS = 16  # sampled for the comparison
_STRONG = 0.5  # nats a token by which the probe has to move the model


def check_rollouts(trainer: Any, prompt: Sequence[int]) -> dict[str, float] | None:
    """Compare the engine's log-probabilities of its own samples with the trained model's.

    A new adapter changes nothing (B = 0), so that an engine without it would look right: for the comparison
    B is filled with noise, pushed to the engine as after a step, and put back. prompt: token ids. Returns
    mean absolute differences in nats a token: "engine" to the trained model, "base" from the engine to the
    model with the adapter off. None, not compared, where the parameters are spread over processes (FSDP,
    ZeRO-3). Raises TinaError where the engine is nearer to the base, or far from both.
    """
    if trainer._dist.is_fsdp or trainer._dist.is_zero3:
        return None
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.to(trainer.accelerator.device)  # with ZeRO it would come there later
    factors = [p for name, p in model.named_parameters() if "lora_B" in name and p.requires_grad]
    kept = [p.detach().clone() for p in factors]
    noise = torch.Generator().manual_seed(0)
    random = random_state()
    training = model.training
    model.eval()
    try:
        scale, ids = 0.01, [list(prompt)]
        while factors:
            for p in factors:
                p.data.copy_(torch.randn(p.shape, generator=noise) * scale)
            head, tail = [ids[0][:1]], [ids[0][1:] or ids[0]]
            moved = _log_probs(trainer, model, head, tail) - _log_probs(trainer, model, head, tail, off=True)
            if moved.abs().mean() >= _STRONG or scale > 10:
                break
            scale *= 2
        completions, said = _sample(trainer, model, ids * 4)
        own = _log_probs(trainer, model, ids * 4, completions)
        base = _log_probs(trainer, model, ids * 4, completions, off=True) if factors else None
        engine = pad_sequence([torch.tensor(s, dtype=torch.float32) for s in said], batch_first=True)
        mask = pad_sequence([torch.ones(len(s)) for s in said], batch_first=True).bool()
        found = {"engine": float((engine - own.cpu()).abs()[mask].mean())}
        if base is not None:
            found["base"] = float((engine - base.cpu()).abs()[mask].mean())
    finally:
        for p, before in zip(factors, kept, strict=True):
            p.data.copy_(before)
        set_random_state(random)
        model.train(training)
        if trainer.use_vllm:
            trainer._last_loaded_step = -1  # the weights are pushed again before the first rollout
    if found["engine"] > min(0.25, 0.5 * found.get("base", 1.0)):
        raise TinaError(
            "the rollout engine does not sample from the model that is trained: its log-probabilities "
            f"differ by {found['engine']:.3f} nats a token"
            + (f" (from the model without the adapter: {found['base']:.3f})" if "base" in found else ""),
            "try --engine transformers; 'tina doctor' shows the versions",
        )
    return {name: round(value, 6) for name, value in found.items()}


def _sample(trainer: Any, model: Any, prompts: list[list[int]]) -> tuple[list[list[int]], list[list[float]]]:
    """(completions, their log-probabilities as the engine says them) for prompts of one length."""
    if trainer.use_vllm:
        engine = trainer.vllm_generation
        longest, engine.max_completion_length = engine.max_completion_length, TOKENS
        trainer._last_loaded_step = -1
        try:
            completions, said = trainer._generate_single_turn(prompts, None, {}, len(prompts))
        finally:
            engine.max_completion_length = longest
        return completions, said
    ids = torch.tensor(prompts, device=model.device)
    with torch.no_grad():
        done = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=trainer.generation_config,
            max_new_tokens=TOKENS,
            return_dict_in_generate=True,
            output_scores=True,
        )
    new = done.sequences[:, ids.shape[1] :]
    scores = torch.stack(done.scores, dim=1).float().log_softmax(-1)
    said = scores.gather(-1, new[..., None]).squeeze(-1)
    ends = torch.isin(new, torch.tensor(trainer.eos_token_ids, device=new.device)).int()
    lengths = torch.where(ends.any(1), ends.argmax(1) + 1, new.shape[1]).tolist()
    return (
        [row[:n].tolist() for row, n in zip(new, lengths, strict=True)],
        [row[:n].tolist() for row, n in zip(said, lengths, strict=True)],
    )


def _log_probs(
    trainer: Any, model: Any, prompts: list[list[int]], completions: Sequence[list[int]], off: bool = False
) -> torch.Tensor:
    """What the loss would take them to be, of shape (batch, longest completion)."""
    device = model.device
    rows = [torch.tensor(c, device=device) for c in completions]
    tail = pad_sequence(rows, batch_first=True)
    there = pad_sequence([torch.ones_like(r) for r in rows], batch_first=True)
    head = torch.tensor(prompts, device=device)
    ids, mask = torch.cat([head, tail], 1), torch.cat([torch.ones_like(head), there], 1)
    with torch.no_grad(), model.disable_adapter() if off else nullcontext():
        found = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, tail.shape[1])[0]
    return torch.as_tensor(found).float()
