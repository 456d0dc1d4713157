"""transformers: sampling with `generate`, on any machine.

Prompts are batched by length and left-padded. Each sample draws from a random stream of its own
(inverse transform sampling from its seed), so it does not depend on what it is batched with.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tina_harness import Completion, Engine, Sampling, hookimpl

BATCH_TOKENS = 32_768  # prompt + completion tokens of a batch on a CPU; bounds the KV cache
BATCH = 64


class Session:
    """A loaded model, and adapters that are switched in place."""

    def __init__(self, folder: Path, dtype: str, max_tokens: int, lora_rank: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.adapters: dict[str, str] = {}

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
            completions = self._batch([ids[i] for i in batch], [seeds[i] for i in batch], sampling)
            yield from zip(batch, completions, strict=True)

    def close(self) -> None:
        """Free the memory."""
        import gc

        import torch

        del self.model
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _use(self, adapter: Path | None) -> None:
        if adapter is None:
            if self.adapters:
                self.model.disable_adapters()
            return
        name = self.adapters.get(str(adapter))
        if name is None:
            name = self.adapters[str(adapter)] = f"adapter{len(self.adapters)}"
            self.model.load_adapter(str(adapter), adapter_name=name)
        self.model.enable_adapters()
        self.model.set_adapter(name)
        self.model.eval()

    def _batch(self, ids: list[list[int]], seeds: list[int], sampling: Sampling) -> list[Completion]:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList

        inputs = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self.model.device)
        config = GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            do_sample=False,  # the processor below leaves one token to choose from
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.model.generation_config.eos_token_id or self.tokenizer.eos_token_id,
            bos_token_id=self.tokenizer.bos_token_id,
        )
        processors = LogitsProcessorList()
        if sampling.temperature > 0:
            processors.append(SeededSampling(seeds, sampling))
        start = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            output = self.model.generate(**inputs, generation_config=config, logits_processor=processors)
        ends = config.eos_token_id
        ends = {ends} if isinstance(ends, int) else set(ends)
        return [self._completion(row, ends) for row in output[:, start:].tolist()]

    def _completion(self, row: list[int], ends: set[int]) -> Completion:
        stop = next((i for i, token in enumerate(row) if token in ends), None)
        kept = row if stop is None else row[:stop]
        text = self.tokenizer.decode(kept, skip_special_tokens=True)
        return Completion(text, len(kept), "length" if stop is None else "stop")


class SeededSampling:
    """Temperature and nucleus sampling (Holtzman et al. 2020), one random stream a sample.

    Called by `generate` with scores of shape (batch, vocabulary); returns them with all but the
    drawn token at minus infinity.
    """

    def __init__(self, seeds: Sequence[int], sampling: Sampling) -> None:
        import numpy as np

        self.draws = np.stack([np.random.default_rng(s).random(sampling.max_new_tokens) for s in seeds])
        self.sampling = sampling
        self.step = 0

    def __call__(self, input_ids, scores):
        """Draw the next token of each sample."""
        import torch

        probabilities = torch.softmax(scores.double() / self.sampling.temperature, dim=-1)
        ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
        total = ordered.cumsum(dim=-1)
        if self.sampling.top_p < 1:
            ordered = torch.where(total - ordered < self.sampling.top_p, ordered, 0.0)
            total = ordered.cumsum(dim=-1)
        draws = torch.as_tensor(self.draws[:, self.step], device=scores.device)[:, None] * total[:, -1:]
        self.step += 1
        place = torch.searchsorted(total, draws, right=True).clamp(max=total.shape[-1] - 1)
        chosen = tokens.gather(-1, place)
        return torch.full_like(scores, float("-inf")).scatter(-1, chosen, 0.0)


@hookimpl
def tina_engines():
    yield Engine(
        name="transformers",
        summary="batched generate of transformers; works everywhere, the choice without a GPU",
        source="https://github.com/huggingface/transformers",
        open=Session,
        requires="transformers",
    )
