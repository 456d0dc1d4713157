"""transformers: sampling on any machine.

Prompts are batched by length and left-padded. Rows that have ended leave the batch, which `generate` does
not do: their completions are there at once, and cost nothing more. Each sample draws from a random stream of
its own (inverse transform sampling from its seed), so it does not depend on what it is batched with.
"""

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tina_harness import Completion, Engine, Sampling, TinaError, hookimpl

if TYPE_CHECKING:
    from peft import PeftModel

BATCH_TOKENS = 32_768  # prompt + completion tokens of a batch on a CPU; bounds the KV cache
BATCH = 64
SHRINK = 8  # a batch is made smaller when one row in so many has ended: it costs a copy of the KV cache
# What peft switches off with an adapter's matrices: it is beside the model's weights, too.
COMES_OFF = ("use_dora", "rank_pattern", "alpha_pattern", "lora_bias")


class Session:
    """A loaded model, and adapters that are switched in place.

    An adapter that changes the model itself, such as its biases, has a model of its own: it is loaded afresh
    before such an adapter and after it.
    """

    def __init__(self, folder: Path, dtype: str, max_tokens: int, lora_rank: int) -> None:
        from transformers import AutoTokenizer

        self.folder, self.dtype = folder, dtype
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self._load()

    def _load(self) -> None:
        """The model as it is in its folder, without an adapter."""
        import torch
        from transformers import AutoModelForCausalLM

        self._free()
        model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=getattr(torch, self.dtype))
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        ends = model.generation_config.eos_token_id or self.tokenizer.eos_token_id
        self.ends = {ends} if isinstance(ends, int) else set(ends or ())
        # Without it a model gives logits for every token of a prompt, gigabytes for a batch of them.
        parameters = inspect.signature(model.forward).parameters
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling, adapter: Path | None
    ) -> Iterator[tuple[int, Completion]]:
        """See `EngineSession.generate`."""
        self._use(adapter)
        special = not self.tokenizer.chat_template  # a chat template writes its special tokens itself
        ids = self.tokenizer(list(prompts), add_special_tokens=special)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        while order:
            longest = len(ids[order[0]]) + sampling.max_new_tokens
            size = max(1, min(BATCH, BATCH_TOKENS // longest))
            batch, order = order[:size], order[size:]
            for i, completion in self._batch([ids[i] for i in batch], [seeds[i] for i in batch], sampling):
                yield batch[i], completion

    def logprobs(self, sequences: Sequence[Sequence[int]], adapter: Path | None) -> list[list[float]]:
        """See `LogprobsSession.logprobs`."""
        from tina_harness.evaluation.proof import token_logprobs

        self._use(adapter)
        return token_logprobs(self.model, sequences)

    def close(self) -> None:
        """Free the memory."""
        self._free()

    def _free(self) -> None:
        import gc

        import torch

        self.model = None
        self.adapted: PeftModel | None = None
        self.adapters: dict[str, str] = {}
        self.changed_by: Path | None = None  # the adapter that is in the model for good
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _use(self, adapter: Path | None) -> None:
        """Give the model this adapter and no other: switched, or loaded with a model of its own."""
        from tina_harness.evaluation.adapters import beyond_matrices

        if self.changed_by is not None and adapter != self.changed_by:
            self._load()
        if adapter is None:
            if self.adapted is not None:
                self.adapted.base_model.disable_adapter_layers()
        elif adapter != self.changed_by:
            check_adapter(adapter)
            if beyond_matrices(adapter, COMES_OFF):
                self._put_in(adapter)
            else:
                self._switch_on(adapter)
            self.model.eval()

    def _put_in(self, adapter: Path) -> None:
        from peft import PeftModel

        if self.adapted is not None:
            self._load()
        self.adapted = PeftModel.from_pretrained(self.model, str(adapter))
        self.changed_by = adapter

    def _switch_on(self, adapter: Path) -> None:
        """Switch the layers that peft puts in the place of the model's own."""
        from peft import PeftModel

        name = self.adapters.get(str(adapter))
        if name is None:
            name = f"adapter{len(self.adapters)}"
            if self.adapted is None:
                self.adapted = PeftModel.from_pretrained(self.model, str(adapter), adapter_name=name)
            else:
                self.adapted.load_adapter(str(adapter), adapter_name=name)
            self.adapters[str(adapter)] = name
        self.adapted.base_model.enable_adapter_layers()
        self.adapted.set_adapter(name)

    def _batch(
        self, ids: list[list[int]], seeds: list[int], sampling: Sampling
    ) -> Iterator[tuple[int, Completion]]:
        """(place in the batch, completion) as the rows end."""
        import torch
        from transformers import DynamicCache

        inputs = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self.model.device)
        tokens, mask = inputs["input_ids"], inputs["attention_mask"]
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.model.config)
        draws = SeededSampling(seeds, sampling)
        written: list[list[int]] = [[] for _ in ids]
        rows, ended = list(range(len(ids))), set()
        for step in range(sampling.max_new_tokens):
            chosen = self._step(tokens, mask, positions, cache, draws, rows, step)
            for row, token in zip(rows, chosen.tolist(), strict=True):
                if row in ended:
                    continue
                stop = token in self.ends
                if not stop:
                    written[row].append(token)
                if stop or step + 1 == sampling.max_new_tokens:
                    ended.add(row)
                    text = self.tokenizer.decode(written[row], skip_special_tokens=True)
                    yield row, Completion(text, len(written[row]), "stop" if stop else "length")
            if len(ended) == len(ids):
                return
            keep = [place for place, row in enumerate(rows) if row not in ended]
            if (len(rows) - len(keep)) * SHRINK >= len(rows):
                rows = [rows[place] for place in keep]
                cache.batch_select_indices(chosen.new_tensor(keep))
                chosen, mask, positions = chosen[keep], mask[keep], positions[keep]
            tokens = chosen[:, None]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=-1)
            positions = positions[:, -1:] + 1

    def _step(self, tokens, mask, positions, cache, draws, rows, step):
        """The next token of each row, shape (rows,)."""
        import torch

        with torch.inference_mode():
            output = self.model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                **self.last_only,
            )
            return draws(output.logits[:, -1], rows, step)


class SeededSampling:
    """Temperature and nucleus sampling (Holtzman et al. 2020), one random stream a sample; greedy at 0.

    Called with scores of shape (rows, vocabulary), the rows' places in the batch, and the step; returns the
    drawn tokens, shape (rows,).
    """

    def __init__(self, seeds: Sequence[int], sampling: Sampling) -> None:
        import numpy as np

        self.draws = np.stack([np.random.default_rng(s).random(sampling.max_new_tokens) for s in seeds])
        self.sampling = sampling

    def __call__(self, scores, rows, step):
        """Draw the next token of each row."""
        import torch

        if self.sampling.temperature == 0:
            return scores.argmax(dim=-1)
        probabilities = torch.softmax(scores.double() / self.sampling.temperature, dim=-1)
        ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
        total = ordered.cumsum(dim=-1)
        if self.sampling.top_p < 1:
            ordered = torch.where(total - ordered < self.sampling.top_p, ordered, 0.0)
            total = ordered.cumsum(dim=-1)
        draws = torch.as_tensor(self.draws[rows, step], device=scores.device)[:, None] * total[:, -1:]
        place = torch.searchsorted(total, draws, right=True).clamp(max=total.shape[-1] - 1)
        return tokens.gather(-1, place)[:, 0]


def check_adapter(adapter: Path) -> None:
    """Refuse activated LoRA: peft switches it on at a place in the prompt, in its own `generate` only."""
    from tina_harness.evaluation.adapters import adapter_settings

    if adapter_settings(adapter).get("alora_invocation_tokens"):
        raise TinaError(
            f"the transformers engine cannot use the adapter {adapter}: it is switched on by tokens of the "
            "prompt (alora_invocation_tokens)",
            "an adapter that is on for the whole prompt can be evaluated",
        )


@hookimpl
def tina_engines():
    yield Engine(
        name="transformers",
        summary="batches in transformers; works everywhere, the choice without a GPU",
        source="https://github.com/huggingface/transformers",
        open=Session,
        requires="transformers",
        check_adapter=check_adapter,
    )
