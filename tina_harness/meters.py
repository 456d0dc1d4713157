"""How fast a training goes, what it costs so far, and whether its budget ends it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tina_harness.data import load_benchmark
from tina_harness.errors import TinaError
from tina_harness.planning import Plan
from tina_harness.registry import Registry
from tina_harness.reporting.console import Console, step_line
from tina_harness.runs import Run


class Clock:
    """Speed, time left and dollars of a training, for the live line."""

    def __init__(self, run: Run, plan: Plan, console: Console, checkpoint: Path | None) -> None:
        self.run, self.plan, self.console = run, plan, console
        manifest = run.manifest()
        phase = manifest.get("phase")
        self.before = sum(manifest.get("seconds", {}).values())
        self.since = phase["since"] if phase else time.time()
        self.first = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
        seen = [m.get("tokens", 0) for m in run.metrics() if m["step"] <= self.first]
        self.tokens_before = float(seen[-1]) if seen else 0.0  # the count goes on through a resume
        self.stepping = 0.0  # seconds of the steps of this session

    def step(self, metrics: Mapping[str, Any]) -> float | None:
        """Show a step's line; returns the dollars spent so far."""
        usd = self.run.usd(self.before + time.time() - self.since)
        step, total = metrics["step"], self.plan.steps
        tokens = float(metrics.get("tokens") or 0)
        rate = (tokens - self.tokens_before) / max(metrics["seconds"], 1e-9)
        self.tokens_before = tokens
        self.stepping += metrics["seconds"]
        left = (total - step) * self.stepping / max(1, step - self.first)
        self.console.status(step_line(metrics, total, rate, left, usd), final=step >= total)
        return None if usd is None else round(usd, 6)


class Budget:
    """Whether another step would leave too little of `budget_usd` for the evaluation at the end.

    The evaluation is taken to sample at the speed of the rollouts, completions that use the same share of
    the longest length as those do.
    """

    def __init__(self, run: Run, plan: Plan, registry: Registry) -> None:
        self._run, self._plan, self._limit = run, plan, plan.config.budget_usd
        if self._limit is None:
            return
        if run.usd(1.0) is None:
            raise TinaError(
                f"no price is known for {plan.hardware.device}, so a budget cannot be kept",
                "add it to a registry.toml, or name it: --set hardware=NAME",
            )
        wanted = plan.config.eval
        self._longest = 0  # tokens of the evaluation, base and trained, were all as long as they may be
        for b in plan.benchmarks:
            problems = len(load_benchmark(b, registry, wanted.limit).problems)
            each = (wanted.samples or b.samples) * (wanted.max_new_tokens or b.max_new_tokens)
            self._longest += 2 * problems * each

    def spent(self, metrics: Mapping[str, Any]) -> str | None:
        """Why to stop after this step."""
        if self._limit is None:
            return None
        usd, train = metrics["usd"], self._plan.config.train
        step = self._run.usd(metrics["seconds"]) or 0.0
        length = metrics.get("completion_length") or train.max_new_tokens
        per_token = metrics["seconds_rollout"] / (length * self._plan.completions_per_step)
        tokens = self._longest * min(1.0, length / train.max_new_tokens)
        reserve = self._run.usd(tokens * per_token) or 0.0
        if usd + step + reserve < self._limit:
            return None
        return f"${usd:.4f} spent, ${reserve:.4f} kept for the evaluation, of a budget of ${self._limit:g}"
