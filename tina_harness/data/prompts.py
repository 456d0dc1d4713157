"""From a problem to the prompt a model sees, without importing torch.

The model's own chat template is rendered as transformers renders it (sandboxed Jinja) and counted
with its own tokenizer, so that the rows a dry run counts are the rows a run trains on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tina_harness.errors import TinaError, did_you_mean

Message = dict[str, str]


def template_text(catalogue: Mapping[str, Any], name: str) -> str:
    """The text of a named prompt template; "" for the empty name."""
    if not name:
        return ""
    prompts = catalogue.get("prompts", {})
    if name not in prompts:
        hint = did_you_mean(name, prompts, f"there are: {', '.join(sorted(prompts))}")
        raise TinaError(f"there is no prompt template '{name}'", hint)
    return str(prompts[name]["text"]).strip()


def messages(problem: str, system: str = "", user: str = "{problem}") -> list[Message]:
    """A conversation that ends with the user's turn. `user` holds `{problem}`; other braces stay."""
    turns = [{"role": "system", "content": system}] if system else []
    return [*turns, {"role": "user", "content": user.replace("{problem}", problem)}]


def context_length(folder: Path) -> int | None:
    """The longest sequence, in tokens, that a model's configuration allows."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    length = config.get("max_position_embeddings")
    return int(length) if length else None


class ChatTokenizer:
    """The chat template and tokenizer of a model folder."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        if not (folder / "tokenizer.json").exists():
            raise TinaError(
                f"{folder} has no tokenizer.json", "convert its tokenizer to the fast format first"
            )
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        config_file = folder / "tokenizer_config.json"
        config = json.loads(config_file.read_text(encoding="utf-8")) if config_file.exists() else {}
        self._special = {k: _content(v) for k, v in config.items() if k.endswith("_token") and v}
        source = config.get("chat_template")
        if isinstance(source, list):
            source = next((t["template"] for t in source if t["name"] == "default"), None)
        if (folder / "chat_template.jinja").exists():
            source = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        self._template = _environment().from_string(source) if source else None

    @property
    def has_template(self) -> bool:
        """Whether the model is a chat model."""
        return self._template is not None

    def render(self, conversation: Sequence[Message]) -> str:
        """The prompt as text, up to where the assistant's turn begins."""
        if self._template is None:
            return "\n\n".join(m["content"] for m in conversation) + "\n\n"
        return self._template.render(messages=list(conversation), add_generation_prompt=True, **self._special)

    def count(self, prompts: Sequence[str]) -> list[int]:
        """The length of each rendered prompt in tokens."""
        return [len(ids) for ids in self.ids(prompts)]

    def ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """The token ids of each rendered prompt."""
        encoded = self._tokenizer.encode_batch_fast(list(prompts), add_special_tokens=not self.has_template)
        return [e.ids for e in encoded]


def _content(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else str(token)


def _environment() -> Any:
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TinaError(f"the model's chat template refuses this conversation: {message}")

    def strftime_now(pattern: str) -> str:
        from datetime import datetime

        return datetime.now().strftime(pattern)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = lambda value, **kw: json.dumps(value, ensure_ascii=False, **kw)
    environment.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    return environment
