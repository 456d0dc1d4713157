"""A recipe's rewards as the functions TRL calls, sharing one grader and one record of the rollouts."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tina_harness.errors import TinaError
from tina_harness.grading import Grader, Item, Verdict
from tina_harness.scoring import BuiltReward, Verdicts
from tina_harness.specs import RewardContext


@dataclass
class Scorer:
    """Turns texts into rewards for TRL, and keeps the latest rollouts for `completions/`.

    opens_think: the chat template ends the prompt with `<think>`, which is then put before each
    completion, so that graders and rewards see the whole of it.
    not_gradable, timeouts: verdicts since they were last set to 0. fault: what a reward or the grader
    failed with. It is not raised here, because TRL gathers the values of all processes next: the step is
    to be given up before its update.
    """

    grader: Grader
    rewards: Mapping[str, BuiltReward]
    max_completion_tokens: int
    opens_think: bool
    rollouts: dict[str, list[Any]] = field(default_factory=dict)
    not_gradable: int = 0
    timeouts: int = 0
    fault: TinaError | None = None
    _batch: tuple[int, list[str], list[str]] | None = None  # step, completions, golds
    _verdicts: Verdicts | None = None

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
            problem_id: Sequence[str] = (),
            **_: Any,
        ) -> list[float | None]:
            texts, golds = [_text(c) for c in completions], list(gold)
            if self.opens_think:
                texts = [f"<think>{t}" for t in texts]
            context = RewardContext(
                grade=self._grade_for(trainer_state.global_step, texts, golds),
                tokens=[len(ids) for ids in completion_ids],
                prompts=[_text(p) for p in prompts],
                max_completion_tokens=self.max_completion_tokens,
                step=trainer_state.global_step,
                problem_ids=list(problem_id),
            )
            rows = {"prompt": list(context.prompts), "completion": texts, "gold": golds}
            values: list[float | None] = [None] * len(texts)
            try:
                values = self.rewards[name](texts, golds, context)
            except TinaError as error:
                self.fault = self.fault or error
            self.rollouts.update({**rows, name: list(values)})
            return values

        reward.__name__ = name
        return reward

    def _grade_for(
        self, step: int, texts: list[str], golds: list[str]
    ) -> Callable[[Sequence[str], Sequence[str]], list[Verdict]]:
        """`RewardContext.grade` of a batch, the same for all its rewards; each row is counted once."""
        if self._verdicts is None or self._batch != (step, texts, golds):
            self._batch = (step, texts, golds)
            items = [Item(g, t) for g, t in zip(golds, texts, strict=True)]
            self._verdicts = Verdicts(self.grader, items)
        verdicts, rows = self._verdicts, Counter(zip(texts, golds, strict=True))

        def grade(completions: Sequence[str], golds: Sequence[str]) -> list[Verdict]:
            before = len(verdicts.known)
            found = verdicts(completions, golds)
            for pair, verdict in itertools.islice(verdicts.known.items(), before, None):
                self.not_gradable += rows[pair] * (verdict.correct is None)
                self.timeouts += rows[pair] * (verdict.outcome == "timeout")
            return found

        return grade


def _text(turns: Any) -> str:
    """The last message's content of a conversation, or the text itself."""
    return turns if isinstance(turns, str) else str(turns[-1]["content"] or "")
