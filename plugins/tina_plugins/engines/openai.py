"""openai: any server with OpenAI's interface, such as a `vllm serve` on another machine.

The server gets rendered prompts at /completions, so that the chat template is the one of the model named
on the command line, here. Settings come from the environment: OPENAI_BASE_URL (for example
http://host:8000/v1), OPENAI_API_KEY (sent, never stored or shown), TINA_OPENAI_MODEL (what the server
calls the model; the first that it lists), TINA_OPENAI_CONCURRENCY (requests under way; 32).
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tina_harness import Completion, Engine, Sampling, TinaError, hookimpl

ATTEMPTS = 6
LONGEST_WAIT_S = 30.0
RETRIED = (408, 409, 429, 500, 502, 503, 504)


class Again(Exception):
    """An answer that may be better the next time; the message says what it was."""


class Session:
    """A connection to a server. Adapters are served by their own model names."""

    def __init__(self, folder: Path, dtype: str, max_tokens: int, lora_rank: int) -> None:
        import httpx

        from tina_harness.evaluation.asynchronous import BackgroundLoop

        self.url = base_url()
        self.model = os.environ.get("TINA_OPENAI_MODEL", "") or self._first_model()
        self.concurrency = int(os.environ.get("TINA_OPENAI_CONCURRENCY", "32"))
        self.client = httpx.AsyncClient(timeout=None, headers=_headers())
        self.loop = BackgroundLoop()

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling, adapter: Path | None
    ) -> Iterator[tuple[int, Completion]]:
        """See `EngineSession.generate`. Completions come as the server finishes them."""
        if adapter is not None:
            raise TinaError(
                "the openai engine cannot send an adapter to its server",
                f"serve it there (vllm serve ... --lora-modules mine={adapter}), and evaluate the base model "
                "with TINA_OPENAI_MODEL=mine",
            )

        async def ask(index: int) -> Completion:
            return await self._ask(
                {
                    "model": self.model,
                    "prompt": prompts[index],
                    "seed": seeds[index] % 2**31,
                    "temperature": sampling.temperature,
                    "top_p": sampling.top_p,
                    "max_tokens": sampling.max_new_tokens,
                }
            )

        yield from self.loop.as_finished(ask, len(prompts), self.concurrency)

    def close(self) -> None:
        """Close the connections."""
        self.loop.run(self.client.aclose())
        self.loop.close()

    async def _ask(self, body) -> Completion:
        """One completion; what may be better the next time is tried again, later and later."""
        import tenacity

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Again),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=LONGEST_WAIT_S),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            reraise=True,
        )
        try:
            return await retrying(self._once, body)
        except Again as error:
            raise TinaError(
                f"the server at {self.url} failed {ATTEMPTS} times: {error}",
                "finished samples are kept: the same command continues with the others",
            ) from error

    async def _once(self, body) -> Completion:
        import httpx

        try:
            answer = await self.client.post(f"{self.url}/completions", json=body)
        except httpx.HTTPError as error:
            raise Again(f"{type(error).__name__} {error}".strip()) from error
        if answer.status_code in RETRIED:
            raise Again(f"status {answer.status_code}: {answer.text[:200]}")
        if answer.status_code != 200:
            raise TinaError(
                f"the server at {self.url} refused: status {answer.status_code}: {answer.text[:300]}",
                "check OPENAI_BASE_URL, OPENAI_API_KEY and TINA_OPENAI_MODEL",
            )
        try:
            found = answer.json()
            choice = found["choices"][0]
            reason = "length" if choice["finish_reason"] == "length" else "stop"
            return Completion(str(choice["text"]), int(found["usage"]["completion_tokens"]), reason)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise Again(f"not a completion: {answer.text[:200]!r}") from error

    def _first_model(self) -> str:
        import httpx

        try:
            answer = httpx.get(f"{self.url}/models", headers=_headers(), timeout=30)
            return str(answer.json()["data"][0]["id"])
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
            raise TinaError(
                f"the server at {self.url} does not list its models: {type(error).__name__}: {error}",
                "is it running? TINA_OPENAI_MODEL names the model where it does not list any",
            ) from error


def base_url() -> str:
    """OPENAI_BASE_URL, or an error that says so."""
    url = os.environ.get("OPENAI_BASE_URL", "").rstrip("/")
    if not url:
        raise TinaError("the openai engine needs OPENAI_BASE_URL", "for example http://host:8000/v1")
    return url


def identity() -> str:
    """What samples depend on besides the local model folder."""
    return f"{base_url()} {os.environ.get('TINA_OPENAI_MODEL', '')}"


def _headers() -> dict[str, str]:
    key = os.environ.get("OPENAI_API_KEY", "")
    return {"Authorization": f"Bearer {key}"} if key else {}


@hookimpl
def tina_engines():
    yield Engine(
        name="openai",
        summary="a server with OpenAI's interface, such as vllm serve; evaluates only",
        source="https://platform.openai.com/docs/api-reference/completions",
        open=Session,
        requires="tenacity",
        remote=True,
        identity=identity,
        install="pip install 'tina-harness[openai]'",
    )
