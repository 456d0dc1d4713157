"""Reward specs as the reward functions TRL calls, sharing one grader and one record of the rollouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tina_harness.config import RunConfig
from tina_harness.errors import TinaError
from tina_harness.grading import Grader, Item, Verdict
from tina_harness.registry import Registry
from tina_harness.specs import Reward, RewardContext, RewardFunction


def build_rewards(config: RunConfig, registry: Registry) -> dict[str, RewardFunction]:
    """The recipe's reward functions by name, with their parameters."""
    built = {}
    for name, table in config.rewards.items():
        spec = registry.get(Reward, name)
        parameters = {**spec.defaults, **{k: v for k, v in table.items() if k != "weight"}}
        try:
            built[name] = spec.build(**parameters)
        except (TypeError, ValueError) as error:
            raise TinaError(f"[rewards.{name}] cannot be built: {error}") from error
    return built


def weights(config: RunConfig) -> list[float]:
    """The weight of each reward, in the recipe's order; 1 where it gives none."""
    return [float(table.get("weight", 1.0)) for table in config.rewards.values()]


@dataclass
class Scorer:
    """Turns texts into rewards for TRL, and keeps the latest rollouts for `completions/`.

    opens_think: the chat template ends the prompt with `<think>`, which is then put before each
    completion, so that graders and rewards see the whole of it.
    not_gradable, timeouts: verdicts since they were last set to 0.
    """

    grader: Grader
    rewards: Mapping[str, RewardFunction]
    max_completion_tokens: int
    opens_think: bool
    rollouts: dict[str, list[Any]] = field(default_factory=dict)
    not_gradable: int = 0
    timeouts: int = 0
    _graded: tuple[list[str], list[Verdict]] | None = None

    def functions(self) -> list[Callable[..., list[float | None]]]:
        """One function a reward, named as in the registry, in the recipe's order."""
        return [self._function(name) for name in self.rewards]

    def _function(self, name: str) -> Callable[..., list[float | None]]:
        def reward(
            prompts: Sequence[Any],
            completions: Sequence[Any],
            completion_ids: Sequence[Sequence[int]],
            gold: Sequence[str],
            trainer_state: Any,
            **_: Any,
        ) -> list[float | None]:
            texts = [_text(c) for c in completions]
            if self.opens_think:
                texts = [f"<think>{t}" for t in texts]
            context = RewardContext(
                grade=self._grade,
                tokens=[len(ids) for ids in completion_ids],
                prompts=[_text(p) for p in prompts],
                max_completion_tokens=self.max_completion_tokens,
                step=trainer_state.global_step,
            )
            values = self.rewards[name](texts, list(gold), context)
            self.rollouts.update(
                {"prompt": list(context.prompts), "completion": texts, "gold": list(gold), name: list(values)}
            )
            return values

        reward.__name__ = name
        return reward

    def _grade(self, completions: Sequence[str], golds: Sequence[str]) -> Sequence[Verdict]:
        key = [*completions, *golds]
        if self._graded is None or self._graded[0] != key:
            items = [Item(g, c) for g, c in zip(golds, completions, strict=True)]
            self._graded = (key, self.grader.grade(items))
            self.grader.check()
            self.not_gradable += sum(v.correct is None for v in self._graded[1])
            self.timeouts += sum(v.outcome == "timeout" for v in self._graded[1])
        return self._graded[1]


def _text(turns: Any) -> str:
    """The last message's content of a conversation, or the text itself."""
    return turns if isinstance(turns, str) else str(turns[-1]["content"] or "")
