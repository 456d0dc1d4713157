"""vllm: one engine load for any number of benchmarks, samples and adapters.

It uses every device that CUDA_VISIBLE_DEVICES names, one whole model on each (data parallel);
TINA_VLLM_TENSOR_PARALLEL=N spreads each model over N of them. On a CPU its threads are bound to the cores
(VLLM_CPU_OMP_THREADS_BIND) and its cache is at most 4 GiB (VLLM_CPU_KVCACHE_SPACE), unless these are set.
Rollouts use TRL's colocated mode: trainer and engine share the GPU.
"""

import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from tina_harness import Completion, Engine, Sampling, TinaError, hookimpl

AT_ONCE = 4096  # requests that the engine knows of: enough to fill its batches


class Session:
    """A vLLM engine; adapters are served as adapters, never merged."""

    def __init__(self, folder: Path, dtype: str, max_tokens: int, lora_rank: int) -> None:
        from tina_harness.evaluation.asynchronous import BackgroundLoop

        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        # torch may have computed in this process, whose threads a fork would leave behind.
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
        from vllm import AsyncEngineArgs, AsyncLLMEngine
        from vllm.platforms import current_platform

        on_gpu = current_platform.is_cuda_alike()
        tensor, data = parallel(current_platform.device_count() if on_gpu else 1)
        whole_prompts = {}
        if not on_gpu:
            cores = sorted(os.sched_getaffinity(0))
            ranks = [",".join(map(str, cores[i :: tensor * data])) for i in range(tensor * data)]
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "|".join(ranks))
            os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(cache_gib()))
            # After a prompt that is prefilled in parts, vLLM 0.31 rewinds the request's random stream, which
            # no generator on a CPU can do: the engine dies.
            whole_prompts = {"enable_chunked_prefill": False, "max_num_batched_tokens": max(4096, max_tokens)}
        self.adapters: dict[str, int] = {}
        self.loop = BackgroundLoop()
        arguments = AsyncEngineArgs(
            model=str(folder),
            dtype=dtype,
            max_model_len=max_tokens,
            enable_lora=lora_rank > 0,
            max_loras=4,
            max_lora_rank=max(8, lora_rank),
            enable_prefix_caching=True,
            tensor_parallel_size=tensor,
            data_parallel_size=data,
            gpu_memory_utilization=0.6,  # a training in this process may still hold its own engine
            enforce_eager=not on_gpu,
            disable_log_stats=True,
            **whole_prompts,
        )

        async def start() -> AsyncLLMEngine:
            return AsyncLLMEngine.from_engine_args(arguments)

        try:
            self.engine = self.loop.run(start())
        except RuntimeError as error:  # from a process of vLLM's, which says why in the log only
            raise TinaError(
                f"vLLM could not start: {(str(error).splitlines() or ['?'])[0]}",
                "the reason is in the run's log.txt; for want of memory: VLLM_CPU_KVCACHE_SPACE=1 on a CPU",
            ) from error

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling, adapter: Path | None
    ) -> Iterator[tuple[int, Completion]]:
        """See `EngineSession.generate`. Completions come as the engine finishes them."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        lora = self._lora(adapter)
        tokenizer = self.engine.get_tokenizer()
        special = not tokenizer.chat_template  # a chat template writes its special tokens itself
        ids = [tokenizer(p, add_special_tokens=special)["input_ids"] for p in prompts]
        call = uuid.uuid4().hex

        async def ask(index: int) -> Completion:
            parameters = SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_new_tokens,
                seed=seeds[index] % 2**63,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            request = {"prompt_token_ids": ids[index]}
            async for output in self.engine.generate(
                request, parameters, f"{call}-{index}", lora_request=lora
            ):
                best = output.outputs[0]
            stopped = best.finish_reason == "stop"
            return Completion(best.text, len(best.token_ids) - stopped, best.finish_reason or "stop")

        yield from self.loop.as_finished(ask, len(prompts), AT_ONCE)

    def logprobs(self, sequences: Sequence[Sequence[int]], adapter: Path | None) -> list[list[float]]:
        """See `LogprobsSession.logprobs`."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        lora, call = self._lora(adapter), uuid.uuid4().hex
        places = [(row, end) for row, ids in enumerate(sequences) for end in range(1, len(ids))]

        async def ask(index: int) -> float:
            """A request a token: vLLM's log-probabilities of prompts go astray with adapters (0.31 dies)."""
            row, end = places[index]
            ids = list(sequences[row])
            parameters = SamplingParams(
                temperature=0,
                max_tokens=1,
                logprobs=0,
                allowed_token_ids=[ids[end]],  # the log-probabilities are those from before this choice
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            async for output in self.engine.generate(
                {"prompt_token_ids": ids[:end]}, parameters, f"{call}-{index}", lora_request=lora
            ):
                best = output.outputs[0]
            return float(best.logprobs[0][ids[end]].logprob)

        found = dict(self.loop.as_finished(ask, len(places), AT_ONCE))
        return [[found[i] for i, (at, _) in enumerate(places) if at == row] for row in range(len(sequences))]

    def _lora(self, adapter: Path | None):
        from vllm.lora.request import LoRARequest

        if adapter is None:
            return None
        number = self.adapters.setdefault(str(adapter), len(self.adapters) + 1)
        return LoRARequest(f"adapter{number}", number, str(adapter))

    def close(self) -> None:
        """Shut the engine down and free the memory."""
        self.engine.shutdown()
        self.loop.close()
        del self.engine


def check_adapter(adapter: Path) -> None:
    """Refuse what vLLM leaves out of an adapter, with an error in some versions and silently in others."""
    from tina_harness.evaluation.adapters import beyond_matrices

    if found := beyond_matrices(adapter):
        raise TinaError(
            f"vLLM serves LoRA matrices only, and the adapter {adapter} has more: {', '.join(found)}",
            "evaluate it with --engine transformers",
        )


def cache_gib() -> int:
    """GiB for the keys and values on a CPU: 4, or a third of the memory that is free where that is less."""
    import psutil  # vLLM requires it

    return max(1, min(4, psutil.virtual_memory().available // 3 // 2**30))


def parallel(devices: int) -> tuple[int, int]:
    """(tensor, data) parallel sizes: a whole model on each device, unless the environment says."""
    text = os.environ.get("TINA_VLLM_TENSOR_PARALLEL", "1")
    tensor = int(text) if text.isdigit() else 0
    if tensor < 1 or (devices > 1 and devices % tensor):
        raise TinaError(
            f"TINA_VLLM_TENSOR_PARALLEL={text} does not divide the {devices} devices",
            "set it to a divisor, or CUDA_VISIBLE_DEVICES to the devices to use",
        )
    return tensor, max(1, devices // tensor)


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
        check_adapter=check_adapter,
        install="pip install 'tina-harness[vllm]'",
    )
