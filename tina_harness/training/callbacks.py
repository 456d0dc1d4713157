"""What happens at each step of a training: metrics, completions, checkpoints, stopping."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from tina_harness.errors import RunError
from tina_harness.runs import Run, seal
from tina_harness.training.guards import divergence, hacking
from tina_harness.training.train import Training
from tina_harness.training.transition import transition

# TRL's names for what `metrics.jsonl` calls otherwise.
NAMES = {
    "loss": "loss",
    "reward": "reward",
    "reward_std": "reward_std",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "kl": "kl",
    "entropy": "entropy",
    "clip_ratio/region_mean": "clip_ratio",
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "truncated",
    "frac_reward_zero_std": "groups_without_signal",
    "num_tokens": "tokens",
}


class StepCallback(TrainerCallback):
    """Writes a metrics line a step, keeps the rollouts, and stops the trainer when asked to."""

    def __init__(self, run: Run, training: Training) -> None:
        self.run, self.training = run, training
        self.clock = self.began = time.monotonic()
        self.random: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.warned = False
        self.seen: int | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start-up is over."""
        self.began = time.monotonic()
        self.random = random_state()
        self.history = [m for m in self.run.metrics() if m["step"] <= state.global_step]
        self.seen = next((m["step"] for m in self.history if "transition" in m), None)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """How long the steps took, without start-up, this time."""
        self.run.update(seconds_of_steps=round(time.monotonic() - self.began, 3))

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Time runs from here."""
        self.clock = time.monotonic()
        self.training.stop.interruptible = True

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """From here on the step is to be finished."""
        self.training.stop.interruptible = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop at the recipe's last step, or when the user asked to, with a checkpoint."""
        self.random = random_state()
        enough = state.global_step >= self.training.steps or self._long_after(state.global_step)
        if enough or self.training.stop():
            control.should_training_stop = True
            control.should_save = True
            if enough:
                self.run.update(trained_to=state.global_step)

    def _long_after(self, step: int) -> bool:
        """Whether the phase transition was so long ago that the recipe wants to stop."""
        after = self.training.config.train.stop_after_transition
        return after is not None and self.seen is not None and step >= self.seen + after

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        """One line of metrics.jsonl."""
        if "loss" not in logs:
            return  # the trainer's closing summary
        line: dict[str, Any] = {"step": state.global_step}
        line |= {ours: logs[theirs] for theirs, ours in NAMES.items() if theirs in logs}
        for key, value in logs.items():
            if key.startswith("rewards/") and key.endswith("/mean"):
                line[key.removesuffix("/mean")] = value
        line["not_gradable"] = self.training.scorer.not_gradable
        line["seconds"] = round(time.monotonic() - self.clock, 4)
        self.run.save_completions(state.global_step, self.training.scorer.rollouts)
        self.history.append(line)
        guard = self.training.config.guard
        lost, hacked = divergence(self.history, guard), hacking(self.history)
        if hacked and not self.warned:
            question = f"warning: {hacked}: is a reward being hacked? Examples:"
            self.training.say([question, *self._examples()])
            self.warned = True
        if hacked:
            line["alarm"] = "hacking"
        if lost:
            line["alarm"] = "diverged"
        if self.seen is None and (place := transition(self.history)) is not None:
            line["transition"] = place
            self.seen = state.global_step
            self.run.update(transition={"step": place, "checkpoint": state.global_step})
            self.training.say([f"phase transition at step {place}; checkpoint at step {state.global_step}"])
            control.should_save = True
        self.training.on_step(line)
        self.run.append_metrics(line)
        if lost or (hacked and guard.stop_on_hack):
            raise RunError(
                f"stopped at step {state.global_step}: {lost or hacked}",
                self._last_good(),
            )

    def _examples(self) -> list[str]:
        """A few completions of the newest rollouts, on a line each."""
        texts = self.training.scorer.rollouts.get("completion", [])
        return [repr(text[:160]) for text in texts[:: max(1, len(texts) // 3)]][:3]

    def _last_good(self) -> str:
        kept = self.run.checkpoints()
        if not kept:
            return "no checkpoint was saved before it"
        step = kept[-1][0]
        return f"the last checkpoint is that of step {step}: tina eval {self.run.id}@{step} --bench NAME"

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint is on disk."""
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        seal(path)
        self.training.on_save(path, state.global_step)


def random_state() -> dict[str, Any]:
    """The state of every random stream that a checkpoint keeps."""
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.random.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Go back to it."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.random.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.random.set_rng_state_all(state["cuda"])
