"""vllm: one engine load for any number of benchmarks, samples and adapters.

Rollouts use TRL's colocated mode: trainer and engine share the GPU.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tina_harness import Completion, Engine, Sampling, hookimpl


class Session:
    """A vLLM engine; adapters are served as adapters, never merged."""

    def __init__(self, folder: Path, dtype: str, max_tokens: int, lora_rank: int) -> None:
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        from vllm import LLM
        from vllm.platforms import current_platform

        self.adapters: dict[str, int] = {}
        self.llm = LLM(
            model=str(folder),
            dtype=dtype,
            max_model_len=max_tokens,
            enable_lora=lora_rank > 0,
            max_lora_rank=max(8, lora_rank),
            enable_prefix_caching=True,
            gpu_memory_utilization=0.6,  # a training in this process may still hold its own engine
            enforce_eager=not current_platform.is_cuda(),
        )

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling, adapter: Path | None
    ) -> Iterator[tuple[int, Completion]]:
        """See `EngineSession.generate`."""
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest

        lora = None
        if adapter is not None:
            number = self.adapters.setdefault(str(adapter), len(self.adapters) + 1)
            lora = LoRARequest(f"adapter{number}", number, str(adapter))
        tokenizer = self.llm.get_tokenizer()
        special = not tokenizer.chat_template
        requests = [
            {"prompt_token_ids": tokenizer(p, add_special_tokens=special)["input_ids"]} for p in prompts
        ]
        parameters = [
            SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_new_tokens,
                seed=seed % 2**63,
            )
            for seed in seeds
        ]
        outputs = self.llm.generate(requests, parameters, lora_request=lora, use_tqdm=False)
        for index, output in enumerate(outputs):
            best = output.outputs[0]
            stopped = best.finish_reason == "stop"
            yield index, Completion(best.text, len(best.token_ids) - stopped, best.finish_reason or "stop")

    def close(self) -> None:
        """Shut the engine down and free the memory."""
        import gc

        del self.llm
        gc.collect()


@hookimpl
def tina_engines():
    yield Engine(
        name="vllm",
        summary="paged attention, prefix caching, adapters served as adapters; the choice on a GPU",
        source="https://arxiv.org/abs/2309.06180",
        open=Session,
        rollouts={"use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": 0.3},
        requires="vllm",
        needs_gpu=True,
        install="pip install 'tina-harness[vllm]'",
    )
