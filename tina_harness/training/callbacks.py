"""What happens at each step of a training: metrics, completions, checkpoints, stopping."""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME

from tina_harness import stopping
from tina_harness.config import TrainConfig
from tina_harness.errors import RunError, TinaError
from tina_harness.runs import CHECKSUMS, Run, damaged, seal
from tina_harness.training.guards import WINDOW, divergence, hacking, silent
from tina_harness.training.randomness import random_state, save_random_states
from tina_harness.training.settings import Training
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

    def __init__(self, run: Run, training: Training, trainer: Any) -> None:
        self.run, self.training, self.trainer = run, training, trainer
        self.clock = self.began = time.monotonic()
        self.random: list[dict[str, Any]] = []  # of each process; no step has begun
        self.free = False  # whether `stop.changing` is not held by this
        self.kept = 0  # the step of the newest checkpoint; rank 0
        self.spare: int | None = None  # the checkpoint that is kept only until there is a newer one
        self.sparing = False  # whether the next one is such
        self.tokens = 0
        self.history: list[dict[str, Any]] = []
        self.warned = False
        self.silent: set[str] = set()  # rewards without a value, of which the user was told
        self.seen: int | None = None
        self.saved = self.logged = self.began  # when the newest checkpoint and metrics line were written
        self.saving = 0.0  # seconds that checkpoints took

    @property
    def _config(self) -> TrainConfig:
        return self.training.config.train

    @property
    def whole(self) -> bool:
        """Whether this process has the whole model and optimizer, and so can save them alone."""
        return not (self.trainer._dist.is_fsdp or self.trainer._dist.zero_stage)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start-up is over."""
        self.began = self.saved = time.monotonic()
        self.kept = state.global_step
        self.history = [m for m in self.run.metrics() if m["step"] <= state.global_step]
        self.seen = next((m["step"] for m in self.history if "transition" in m), None)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """How long the steps took, without start-up, this time."""
        spent = round(time.monotonic() - self.began, 3)
        self.run.update(seconds_of_steps=spent, seconds_of_checkpoints=round(self.saving, 3))

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Time runs from here, and a step that is given up goes back to here, if that can be saved or is."""
        self.clock = time.monotonic()
        alone = self.trainer.accelerator.num_processes == 1
        mine = random_state(one_gpu=alone)
        self.random, self.tokens = [mine] if alone else gather_object([mine]), state.num_input_tokens_seen
        if not self.free and (self.whole or self.kept == state.global_step):
            self.free = True
            self.training.stop.changing.release()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """From here on the step is to be finished, unless a reward failed in it."""
        if self.free:
            self.training.stop.changing.acquire()
            self.free = False
        fault = self.training.scorer.fault
        (failed,) = self._together(fault is not None)
        if failed:
            self._stop_for(fault)

    def _stop_for(self, fault: TinaError | None) -> None:
        """Where a reward failed in some process: save the state in which the step began, and end the run."""
        accelerator = self.trainer.accelerator
        mine = [None if fault is None else (fault.message, fault.hint)]
        said = mine if accelerator.num_processes == 1 else gather_object(mine)
        message, hint = next(s for s in said if s is not None)
        if self.whole and self.run.leads:
            self.give_up()
        accelerator.wait_for_everyone()
        onward = f"when that is put right, go on with: tina resume {self.run.id}"
        raise RunError(
            f"stopped in step {self.trainer.state.global_step + 1}: {message}",
            "\n  ".join(filter(None, [hint, self._last_good(), onward])),
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop at the recipe's last step, or when the user asked to, with a checkpoint."""
        enough = state.global_step >= self.training.steps or self._long_after(state.global_step)
        every = self._config.save_every
        due = isinstance(every, str) and time.monotonic() - self.saved >= 60 * int(every.removesuffix("m"))
        stop, due, slow = self._together(self.training.stop(), due, self._slow())
        if enough or stop:
            control.should_training_stop = True
            if enough:
                self.run.update(trained_to=state.global_step)
        if enough or stop or due:
            control.should_save = True
        self.sparing = slow and not control.should_save
        control.should_save |= slow

    def _slow(self) -> bool:
        """Whether the next step may outlast the grace after SIGTERM, and its beginning has to be saved now.

        Where no process has the whole state, none can save it alone in the middle of a step. Whole models
        are too large to be written at each step.
        """
        if self.whole or self.training.config.full:
            return False
        return time.monotonic() - self.clock > stopping.GRACE_S

    def _together(self, *mine: bool) -> list[bool]:
        """True where it is so in any process; all have to leave the loop, and save, after the same step."""
        return [bool(count) for count in self._sum(*mine)]

    def _sum(self, *mine: int) -> list[int]:
        """Over all processes."""
        accelerator = self.trainer.accelerator
        if accelerator.num_processes == 1:
            return list(mine)
        told = torch.tensor(mine, dtype=torch.int64, device=accelerator.device)
        return [int(t) for t in accelerator.reduce(told, "sum").tolist()]

    def _long_after(self, step: int) -> bool:
        """Whether the phase transition was so long ago that the recipe wants to stop."""
        after = self._config.stop_after_transition
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
        scorer = self.training.scorer
        ungraded, late = self._sum(scorer.not_gradable, scorer.timeouts)
        line |= {"not_gradable": ungraded, "grader_timeouts": late}
        scorer.not_gradable = scorer.timeouts = 0
        phases, line["groups_skipped"] = self.trainer.take()
        seconds = time.monotonic() - self.clock
        line["seconds"] = round(seconds, 4)
        line |= {f"seconds_{name}": round(spent, 4) for name, spent in phases.items()}
        line["seconds_update"] = round(seconds - sum(phases.values()), 4)
        self.run.save_completions(state.global_step, self._rollouts(), self._config.keep_completions)
        self.history.append(line)
        guard = self.training.config.guard
        lost, hacked = divergence(self.history, guard), hacking(self.history)
        if hacked and not self.warned:
            question = f"warning: {hacked}: is a reward being hacked? Examples:"
            self.training.say([question, *self._examples()])
            self.warned = True
        for name in silent(self.history) - self.silent:
            named = self.training.scorer.rewards[name].spec.named
            self.training.say([f"warning: {named} gave None for every completion of {WINDOW} steps"])
        self.silent |= silent(self.history)
        if hacked:
            line["alarm"] = "hacking"
        if lost:
            line["alarm"] = "diverged"
        if self.seen is None and (place := transition(self.history)) is not None:
            line["transition"] = place
            self.seen = state.global_step
            self.run.update(transition={"step": place, "checkpoint": state.global_step})
            self.training.say([f"phase transition at step {place}; checkpoint at step {state.global_step}"])
            control.should_save, self.sparing = True, False
        self.logged = time.monotonic()
        why = self.training.on_step(line)
        self.run.append_metrics(line)
        (enough,) = self._together(why is not None)
        if enough and state.global_step < self.training.steps:
            self.training.say([f"stopping at step {state.global_step}: {why}"])
            control.should_training_stop = control.should_save = True
            self.sparing = False
            self.run.update(trained_to=state.global_step)
        if lost or (hacked and guard.stop_on_hack):
            raise RunError(
                f"stopped at step {state.global_step}: {lost or hacked}",
                self._last_good(),
            )

    def _rollouts(self) -> dict[str, list[Any]]:
        """The step's rollouts, of all processes."""
        mine = self.training.scorer.rollouts
        if self.trainer.accelerator.num_processes == 1:
            return mine
        each = gather_object([mine])
        return {name: [value for one in each for value in one[name]] for name in mine}

    def _examples(self) -> list[str]:
        """A few completions of the newest rollouts, on a line each."""
        texts = self.training.scorer.rollouts["completion"]
        return [repr(text[:160]) for text in texts[:: max(1, len(texts) // 3)]][:3]

    def _last_good(self) -> str:
        kept = self.run.whole_checkpoints(lambda damage: self.training.say([damage]))
        if not kept:
            return "no checkpoint was saved before it"
        step = kept[-1][0]
        return f"the last checkpoint is that of step {step}: tina eval {self.run.id}@{step} --bench NAME"

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint is on disk."""
        self.trainer.accelerator.wait_for_everyone()  # each process writes its random state
        self.saved = time.monotonic()
        if state.is_world_process_zero:
            self._keep(self._folder())
        self.saving += time.monotonic() - self.logged

    def _folder(self) -> Path:
        return Path(self.trainer.args.output_dir) / f"checkpoint-{self.trainer.state.global_step}"

    def _keep(self, path: Path) -> None:
        seal(path)
        self.kept = self.trainer.state.global_step
        if not self.sparing:
            self.training.on_save(path, self.kept)
        if self.spare is not None:
            _remove(self.run.checkpoints_dir / f"checkpoint-{self.spare}")
        self.spare = self.kept if self.sparing else None
        self._prune()

    def give_up(self) -> None:
        """Save the state in which the step under way began, in rank 0 alone, whatever the others wait for.

        Only before the step's update, of a model that every process has whole, if it is not saved yet.
        """
        trainer, folder = self.trainer, self._folder()
        if not trainer.state.global_step or not self.random or not damaged(folder):
            return
        trainer.store_flos = lambda: None  # it sums over the processes
        trainer._save_rng_state = lambda _: save_random_states(self.random, folder)
        # On a GPU the default stream may be waiting for another process, too.
        with torch.cuda.stream(torch.cuda.Stream() if torch.cuda.is_available() else None):
            trainer._save_checkpoint(trainer.model, trial=None)
        begun = dataclasses.replace(trainer.state, num_input_tokens_seen=self.tokens)
        begun.save_to_json(str(folder / TRAINER_STATE_NAME))
        self._keep(folder)

    def _prune(self) -> None:
        """Remove checkpoints by `keep_last` and `keep_best`; never the newest or the transition's."""
        last, best = self._config.keep_last, self._config.keep_best
        if last is None and best is None:
            return
        steps = [step for step, _ in self.run.checkpoints()]
        rewards = {m["step"]: m.get("reward") or 0.0 for m in self.history}

        def mean(step: int) -> float:
            near = [r for s, r in rewards.items() if step - WINDOW < s <= step]
            return sum(near) / max(1, len(near))

        keep = {*steps[-(last or 1) :], *sorted(steps, key=mean)[-(best or 0) or len(steps) :]}
        keep.add(self.run.manifest().get("transition", {}).get("checkpoint", -1))
        for step, path in self.run.checkpoints():
            if step not in keep:
                _remove(path)


def _remove(checkpoint: Path) -> None:
    (checkpoint / CHECKSUMS).unlink(missing_ok=True)  # first, so that a kill leaves no half that counts
    shutil.rmtree(checkpoint, ignore_errors=True)
