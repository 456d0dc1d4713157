"""One checkpoint on one benchmark: sample, grade, score, write."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tina_harness.evaluation.statistics import bootstrap_mean
from tina_harness.grading import Grader, Item
from tina_harness.runs import Run, now, write_json
from tina_harness.specs import (
    Benchmark,
    Completion,
    EngineSession,
    Problem,
    RewardContext,
    RewardFunction,
    Sampling,
)


@dataclass(frozen=True)
class Subject:
    """What is evaluated. label: as in the leaderboard; adapter: a checkpoint folder, None: the base."""

    label: str
    model: str
    adapter: Path | None
    step: int | None


@dataclass(frozen=True)
class Task:
    """A benchmark's problems, and the prompt of each as one model sees it (rendered)."""

    benchmark: Benchmark
    problems: Sequence[Problem]
    prompts: Sequence[str]
    origin: str
    revision: str
    fingerprint: str


@dataclass(frozen=True)
class Sample:
    """One finished sample, before grading."""

    problem: Problem
    index: int
    seed: int
    prompt: str
    completion: Completion


def sample_seed(seed: int, problem: str, index: int) -> int:
    """A seed for sample `index` of a problem: the same whatever batch, order or resume point.

    Hashed, not added, so that no two samples of a run share a stream.
    """
    digest = hashlib.sha256(f"{seed}:{problem}:{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def evaluate(
    run: Run,
    subject: Subject,
    task: Task,
    session: EngineSession,
    grader: Grader,
    rewards: Mapping[str, RewardFunction],
    *,
    sampling: Sampling,
    samples: int,
    seed: int,
    progress: Callable[[int, int, int], None] = lambda done, total, tokens: None,
) -> dict[str, Any]:
    """Score a subject on a task and write `evals/<checkpoint>-<benchmark>/`.

    rewards: the run's reward functions, measured on the same samples. Returns the `results.json`.
    """
    start = time.monotonic()
    finished = _sample(task, subject, session, sampling, samples, seed, progress)
    seconds = time.monotonic() - start
    graded = [_as_graded(s) for s in finished]
    verdicts = grader.grade(
        Item(s.problem.gold, text, s.problem.kind, task.benchmark.answer_policy, s.problem.problem)
        for s, text in zip(finished, graded, strict=True)
    )
    grader.check()
    correct = [v.correct for v in verdicts]
    known = [float(c) for c in correct if c is not None]
    per_problem = _by_problem(finished, correct)
    result: dict[str, Any] = {
        "run": run.id,
        "checkpoint": f"step {subject.step}" if subject.step is not None else "base",
        "label": subject.label,
        "model": subject.model,
        "benchmark": task.benchmark.name,
        "problems": len(task.problems),
        "problems_of": task.benchmark.expected_rows,
        "samples": samples,
        "not_gradable": len(correct) - len(known),
        "verdicts": dict(Counter(v.outcome for v in verdicts)),
        "answer_policy": task.benchmark.answer_policy,
        "sampling": sampling._asdict(),
        "seed": seed,
        "origin": task.origin,
        "revision": task.revision,
        "fingerprint": task.fingerprint,
        "tokens": sum(s.completion.tokens for s in finished),
        "mean_tokens": sum(s.completion.tokens for s in finished) / len(finished),
        "truncated": sum(s.completion.stop_reason == "length" for s in finished) / len(finished),
        "seconds": round(seconds, 3),
        "when": now(),
    }
    score = bootstrap_mean(list(per_problem.values())) if per_problem else None
    result["pass@1"] = score.mean if score else None
    result["ci95"] = [score.low, score.high] if score else None
    result["rewards"] = _measure(rewards, graded, finished, verdicts, sampling.max_new_tokens)
    _write(run, subject, task.benchmark, result, finished, verdicts)
    return result


def _sample(
    task: Task,
    subject: Subject,
    session: EngineSession,
    sampling: Sampling,
    samples: int,
    seed: int,
    progress: Callable[[int, int, int], None],
) -> list[Sample]:
    wanted = [
        (p, i, sample_seed(seed, p.id, i), prompt)
        for p, prompt in zip(task.problems, task.prompts, strict=True)
        for i in range(samples)
    ]
    done: dict[int, Completion] = {}
    tokens = 0
    seeds = [w[2] for w in wanted]
    for index, completion in session.generate([w[3] for w in wanted], seeds, sampling, subject.adapter):
        done[index] = completion
        tokens += completion.tokens
        progress(len(done), len(wanted), tokens)
    return [Sample(p, i, s, prompt, done[n]) for n, (p, i, s, prompt) in enumerate(wanted)]


def _as_graded(sample: Sample) -> str:
    """The completion, with the `<think>` that the chat template may have put into the prompt."""
    opened = sample.prompt.rstrip().endswith("<think>")
    return f"<think>{sample.completion.text}" if opened else sample.completion.text


def _by_problem(finished: Sequence[Sample], correct: Sequence[bool | None]) -> dict[str, float]:
    """Mean correctness of each problem's gradable samples."""
    by_problem: dict[str, list[float]] = {}
    for sample, right in zip(finished, correct, strict=True):
        if right is not None:
            by_problem.setdefault(sample.problem.id, []).append(float(right))
    return {key: sum(values) / len(values) for key, values in by_problem.items()}


def _measure(
    rewards: Mapping[str, RewardFunction],
    texts: Sequence[str],
    finished: Sequence[Sample],
    verdicts: Sequence[Any],
    longest: int,
) -> dict[str, float | None]:
    context = RewardContext(
        grade=lambda completions, golds: verdicts,
        tokens=[s.completion.tokens for s in finished],
        prompts=[s.prompt for s in finished],
        max_completion_tokens=longest,
    )
    means: dict[str, float | None] = {}
    for name, reward in rewards.items():
        values = [v for v in reward(texts, [s.problem.gold for s in finished], context) if v is not None]
        means[name] = sum(values) / len(values) if values else None
    return means


def folder_name(subject: Subject, benchmark: str) -> str:
    """The folder under evals/, for example "step-000040-aime24"."""
    return f"{'base' if subject.step is None else f'step-{subject.step:06d}'}-{benchmark}"


def _write(
    run: Run,
    subject: Subject,
    benchmark: Benchmark,
    result: Mapping[str, Any],
    finished: Sequence[Sample],
    verdicts: Sequence[Any],
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = run.path / "evals" / folder_name(subject, benchmark.name)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "problem_id": s.problem.id,
            "sample": s.index,
            "prompt": s.prompt,
            "completion": s.completion.text,
            "tokens": s.completion.tokens,
            "stop_reason": s.completion.stop_reason,
            "seed": s.seed,
            "gold": s.problem.gold,
            "answer": v.answer,
            "verdict": v.outcome,
            "rule": v.rule,
        }
        for s, v in zip(finished, verdicts, strict=True)
    ]
    temporary = folder / "samples.tmp"
    pq.write_table(pa.Table.from_pylist(rows), temporary)
    temporary.replace(folder / "samples.parquet")
    write_json(folder / "results.json", result)
