"""A recipe's rewards as the functions TRL calls, sharing one grader and one record of the rollouts."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tina_harness.errors import TinaError
from tina_harness.grading import Grader, Item, Verdict
from tina_harness.runs import ROLLOUT_TEXTS
from tina_harness.scoring import BuiltReward, Verdicts, as_score, item_of
from tina_harness.specs import Problem, RewardContext

# The columns of completions/*.parquet before those of the rewards.
COLUMNS = (*ROLLOUT_TEXTS, "score", "advantage")


@dataclass
class _Batch:
    """Completions that were sampled together, in TRL's order. rewards: values by the reward's name."""

    problems: list[Problem]
    items: list[Item]
    prompts: list[str]
    token_ids: list[list[int]]
    verdicts: Verdicts
    rewards: dict[str, list[float | None]]
    advantages: list[float | None]

    def columns(self) -> dict[str, list[Any]]:
        """Its rows of completions/*.parquet. A score is None where no reward asked for the verdict."""
        verdicts = [self.verdicts.known.get(item) for item in self.items]
        return {
            "problem_id": [p.id for p in self.problems],
            "prompt": self.prompts,
            "completion": [item.completion for item in self.items],
            "gold": [item.gold for item in self.items],
            "score": [None if v is None else as_score(v).value for v in verdicts],
            "advantage": self.advantages,
            **{column(name): values for name, values in self.rewards.items()},
        }


def column(reward: str) -> str:
    """The column of completions/*.parquet that holds a reward's values: its name, where that is free."""
    return f"rewards/{reward}" if reward in COLUMNS else reward


@dataclass
class Scorer:
    """Turns texts into rewards for TRL, and keeps the latest rollouts for `completions/`.

    opens_think: the chat template ends the prompt with `<think>`, which is then put before each
    completion, so that graders and rewards see the whole of it. problems, policy: what is trained on, and
    what counts as an answer; TRL gives the place of a completion's problem among them.
    not_gradable, timeouts: verdicts since they were last set to 0. fault: what a reward or the grader
    failed with. It is not raised here, because TRL gathers the values of all processes next: the step is
    to be given up before its update.
    """

    grader: Grader
    rewards: Mapping[str, BuiltReward]
    max_completion_tokens: int
    opens_think: bool
    problems: Sequence[Problem]
    policy: str = "tina"
    not_gradable: int = 0
    timeouts: int = 0
    fault: TinaError | None = None
    _step: int = -1
    _batches: list[_Batch] = field(default_factory=list)  # of the latest step that sampled

    def functions(self) -> list[Callable[..., list[float | None]]]:
        """One function a reward, named as in the registry, in the recipe's order."""
        return [self._function(name) for name in self.rewards]

    @property
    def rollouts(self) -> dict[str, list[Any]]:
        """The latest step's completions of this process, by the columns of completions/*.parquet."""
        found: dict[str, list[Any]] = {n: [] for n in (*COLUMNS, *map(column, self.rewards))}
        for batch in self._batches:
            for name, values in batch.columns().items():
                found[name] += values
        return found

    def add_advantages(self, token_ids: Sequence[Sequence[int]], advantages: Sequence[float]) -> None:
        """What TRL computed for the batch that was scored last. token_ids: of each completion, then padding.

        Where the algorithm trains on other completions than these, in number or order, they stay None.
        """
        for batch in self._batches[-1:]:  # none where a trainer calls no reward function
            pairs = zip(batch.token_ids, token_ids, strict=False)
            if len(batch.items) == len(token_ids) and all(ids == list(row[: len(ids)]) for ids, row in pairs):
                batch.advantages = list(advantages)

    def _function(self, name: str) -> Callable[..., list[float | None]]:
        def reward(
            prompts: Sequence[Any],
            completions: Sequence[Any],
            completion_ids: Sequence[Sequence[int]],
            place: Sequence[int],
            trainer_state: Any,
            **_: Any,
        ) -> list[float | None]:
            if name == next(iter(self.rewards)):  # TRL calls all of them on one batch after another
                self._begin(trainer_state.global_step, prompts, completions, completion_ids, place)
            batch = self._batches[-1]
            context = RewardContext(
                grade=self._grade_for(batch),
                tokens=[len(ids) for ids in batch.token_ids],
                prompts=list(batch.prompts),
                max_completion_tokens=self.max_completion_tokens,
                step=trainer_state.global_step,
                problem_ids=[p.id for p in batch.problems],
                problems=list(batch.problems),
            )
            texts, golds = [i.completion for i in batch.items], [i.gold for i in batch.items]
            values: list[float | None] = [None] * len(texts)
            try:
                values = self.rewards[name](texts, golds, context)
            except TinaError as error:
                self.fault = self.fault or error
            batch.rewards[name] = list(values)
            return values

        reward.__name__ = name
        return reward

    def _begin(
        self,
        step: int,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        place: Sequence[int],
    ) -> None:
        """A new batch; a step has several where it samples more than once."""
        problems = [self.problems[at] for at in place]
        texts = [f"<think>{_text(c)}" if self.opens_think else _text(c) for c in completions]
        items = [item_of(p, text, self.policy) for p, text in zip(problems, texts, strict=True)]
        if step != self._step:
            self._step, self._batches = step, []
        self._batches.append(
            _Batch(
                problems=problems,
                items=items,
                prompts=[_text(p) for p in prompts],
                token_ids=[list(ids) for ids in completion_ids],
                verdicts=Verdicts(self.grader, items),
                rewards={},
                advantages=[None] * len(items),
            )
        )

    def _grade_for(self, batch: _Batch) -> Callable[[Sequence[str], Sequence[str]], list[Verdict]]:
        """`RewardContext.grade` of a batch, the same for all its rewards; each row is counted once."""
        verdicts, rows = batch.verdicts, Counter(batch.items)

        def grade(completions: Sequence[str], golds: Sequence[str]) -> list[Verdict]:
            before = len(verdicts.known)
            found = verdicts(completions, golds)
            for item, verdict in itertools.islice(verdicts.known.items(), before, None):
                self.not_gradable += rows[item] * (verdict.correct is None)
                self.timeouts += rows[item] * (verdict.outcome == "timeout")
            return found

        return grade


def _text(turns: Any) -> str:
    """The last message's content of a conversation, or the text itself."""
    return turns if isinstance(turns, str) else str(turns[-1]["content"] or "")
