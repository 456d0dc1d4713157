"""One checkpoint on one benchmark: sample, grade beside it, score, write."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tina_harness import checked
from tina_harness.errors import TinaError
from tina_harness.evaluation.samples import SampleStore
from tina_harness.files import write_json
from tina_harness.grading import Grader, Verdict
from tina_harness.runs import Run, now
from tina_harness.runs.identity import Identity
from tina_harness.runs.records import SCHEMA, EngineRecord, EstimateRecord, Result
from tina_harness.scoring import Scorer, Verdicts, as_score, asked, item_of
from tina_harness.specs import (
    Benchmark,
    Completion,
    Estimate,
    Metric,
    Problem,
    RewardContext,
    RewardFunction,
    Sampling,
    Score,
)
from tina_harness.statistics import estimate

Sampler = Callable[[Sequence[str], Sequence[int], Sampling, "Path | None"], Iterator[tuple[int, Completion]]]


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    label: as in the leaderboard. adapter: a folder, None for the base. step: of a run's checkpoint.
    whole: the folder of a model that was trained in full, in place of base and adapter.
    """

    label: str
    model: str
    adapter: Path | None
    step: int | None
    whole: Path | None = None

    @property
    def checkpoint(self) -> str:
        """ "base", "step 40", or "adapter NAME" for one that no run here made."""
        if self.step is not None:
            return f"step {self.step}"
        return "base" if self.adapter is None else f"adapter {self.adapter.name}"


@dataclass(frozen=True)
class Task:
    """A benchmark's problems, and the prompt of each as one model sees it (rendered).

    prompted: how the prompts came about, before they were rendered. subset: which of the problems, in words.
    """

    benchmark: Benchmark
    problems: Sequence[Problem]
    prompts: Sequence[str]
    origin: str
    revision: str
    fingerprint: str
    prompted: Mapping[str, Any]
    subset: str


@dataclass(frozen=True)
class Settings:
    """How a task is sampled and what is computed.

    asked: the sampling as it was asked for; sampling: with the length that the model's context leaves.
    samples: a problem. rewards: of the run, measured on the same samples.
    """

    asked: Sampling
    sampling: Sampling
    samples: int
    seed: int
    metrics: Sequence[Metric]
    rewards: Mapping[str, RewardFunction]


@dataclass(frozen=True)
class Evaluated:
    """A task's samples in order, what each is worth, and the metrics; the first metric is the primary one."""

    samples: Sequence[Sample]
    scores: Sequence[Score]
    metrics: Mapping[str, Estimate]
    reused: int
    seconds: float


@dataclass(frozen=True)
class Sample:
    """One finished sample, before grading. seconds: since the sampling began; 0 for a reused one."""

    problem: Problem
    index: int
    seed: int
    prompt: str
    completion: Completion
    seconds: float


@dataclass(frozen=True)
class Progress:
    """How far a task is. score: Pass@1 of what was graded so far, None before."""

    done: int
    total: int
    reused: int
    tokens: int
    score: float | None


def sample_seed(seed: int, problem: str, index: int) -> int:
    """A seed for sample `index` of a problem: the same whatever batch, order or resume point.

    Hashed, not added, so that no two samples of a run share a stream.
    """
    digest = hashlib.sha256(f"{seed}:{problem}:{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def evaluate(
    subject: Subject,
    task: Task,
    settings: Settings,
    sampler: Sampler,
    store: SampleStore,
    grader: Grader,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Evaluated:
    """Sample, score beside it, and compute the metrics. Writes nothing but the samples in the store.

    sampler: (prompts, seeds, sampling, adapter) -> (index, completion) pairs, as they finish; it is not
    called where every sample is in the store.
    """
    start = time.monotonic()
    finished, verdicts, reused = _sample(subject, task, settings, sampler, store, grader, progress)
    seconds = time.monotonic() - start
    grader.check()
    scores, own = _scores(task.benchmark, finished, verdicts)
    by_problem: dict[str, list[Score]] = {}
    for sample, score in zip(finished, scores, strict=True):
        by_problem.setdefault(sample.problem.id, []).append(score)
    metrics = dict(own)
    for metric in () if own else settings.metrics:
        metrics |= checked.estimates(metric, by_problem, metrics)
    if not metrics:
        raise TinaError(
            f"no metric applies to {task.benchmark.name}", "add one: --metric pass@1 ('tina list metrics')"
        )
    metrics |= _measured(settings, finished, _grade(task.benchmark, finished, verdicts, grader))
    metrics["tokens"] = _over_problems(finished, [s.completion.tokens for s in finished], "tokens")
    cut = [float(s.completion.stop_reason == "length") for s in finished]
    metrics["truncated"] = _over_problems(finished, cut, "share")
    return Evaluated(finished, scores, metrics, reused, seconds)


def write(
    run: Run,
    subject: Subject,
    task: Task,
    identity: Identity,
    found: Evaluated,
    engine: EngineRecord,
    usd: float | None,
    adapter_check: dict[str, Any] | None,
) -> Result:
    """Write `samples.parquet` and `results.json` of an evaluation, and return the latter."""
    result = Result(
        schema=SCHEMA,
        run=run.id,
        checkpoint=subject.checkpoint,
        label=subject.label,
        model=subject.model,
        benchmark=task.benchmark.name,
        identity=identity,
        primary=next(iter(found.metrics)),
        metrics={name: _record(e) for name, e in found.metrics.items()},
        problems=len(task.problems),
        problems_of=task.benchmark.expected_rows,
        samples=identity["sampling"]["samples"],
        counts=dict(Counter(s.outcome for s in found.scores)),
        reused=found.reused,
        seed=identity["noted"]["seed"],
        origin=task.origin,
        revision=task.revision,
        tokens=sum(s.completion.tokens for s in found.samples),
        engine=engine,
        seconds=round(found.seconds, 3),
        when=now(),
        usd=usd,
        adapter_check=adapter_check,
    )
    path = run.samples_of(result)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_samples(path, found)
    write_json(path.with_name("results.json"), result)
    return result


def _sample(
    subject: Subject,
    task: Task,
    settings: Settings,
    sampler: Sampler,
    store: SampleStore,
    grader: Grader,
    progress: Callable[[Progress], None],
) -> tuple[list[Sample], list[Verdict], int]:
    """The samples in order, their verdicts (graded beside the sampling), and how many were in the store.

    No verdicts where the benchmark scores its completions itself.
    """
    wanted = [
        (p, i, sample_seed(settings.seed, p.id, i), prompt)
        for p, prompt in zip(task.problems, task.prompts, strict=True)
        for i in range(settings.samples)
    ]
    graded = task.benchmark.score is None and task.benchmark.scorer is None
    done: dict[int, Sample] = {}
    verdicts: dict[int, Future[Verdict]] = {}
    start = time.monotonic()
    tokens = 0
    ungraded: deque[Future[Verdict]] = deque()
    right: list[bool] = []
    with ThreadPoolExecutor(2, thread_name_prefix="grading") as beside:

        def finish(number: int, completion: Completion, seconds: float) -> None:
            problem, index, seed_, prompt = wanted[number]
            sample = Sample(problem, index, seed_, prompt, completion, seconds)
            item = item_of(problem, _as_graded(sample), task.benchmark.answer_policy)
            done[number] = sample
            if graded:
                verdicts[number] = beside.submit(lambda: grader.grade([item])[0])
                ungraded.append(verdicts[number])

        for number, (_, _, seed_, prompt) in enumerate(wanted):
            if (known := store.get(prompt, seed_)) is not None:
                finish(number, known, 0.0)
        reused = len(done)
        missing = [n for n in range(len(wanted)) if n not in done]
        if missing:
            texts, seeds = [wanted[n][3] for n in missing], [wanted[n][2] for n in missing]
            for place, completion in sampler(texts, seeds, settings.sampling, subject.adapter):
                number = missing[place]
                store.add(texts[place], seeds[place], completion)
                finish(number, completion, round(time.monotonic() - start, 3))
                tokens += completion.tokens
                last = len(done) == len(wanted)  # its line shows the score of the table
                while ungraded and (last or ungraded[0].done()):
                    verdict = ungraded.popleft().result()
                    right += [] if verdict.correct is None else [verdict.correct]
                score = sum(right) / len(right) if right else None
                progress(Progress(len(done), len(wanted), reused, tokens, score))
        numbers = range(len(wanted))
        return [done[n] for n in numbers], [verdicts[n].result() for n in numbers if n in verdicts], reused


def _record(e: Estimate) -> EstimateRecord:
    return EstimateRecord(value=e.value, low=e.low, high=e.high, n=e.n, unit=e.unit)


def _as_graded(sample: Sample) -> str:
    """The completion, with the `<think>` that the chat template may have put into the prompt."""
    opened = sample.prompt.rstrip().endswith("<think>")
    return f"<think>{sample.completion.text}" if opened else sample.completion.text


def _scores(
    benchmark: Benchmark, finished: Sequence[Sample], verdicts: Sequence[Verdict]
) -> tuple[list[Score], dict[str, Estimate]]:
    """(what each sample is worth, the estimates of a benchmark that scores problems as a whole)."""
    if benchmark.score is None and benchmark.scorer is None:
        return [as_score(v) for v in verdicts], {}
    places: dict[str, list[int]] = {}
    for place, sample in enumerate(finished):
        places.setdefault(sample.problem.id, []).append(place)
    scorer = Scorer(benchmark)
    found: dict[int, Score] = {}
    for mine in places.values():
        problem = finished[mine[0]].problem
        found |= zip(mine, scorer(problem, [_as_graded(finished[i]) for i in mine]), strict=True)
    return [found[place] for place in range(len(finished))], scorer.estimates()


def _grade(
    benchmark: Benchmark, finished: Sequence[Sample], verdicts: Sequence[Verdict], grader: Grader
) -> Callable[[Sequence[str], Sequence[str]], Sequence[Verdict]]:
    """`RewardContext.grade` for the samples; no verdict is known where a benchmark has a score of its own."""
    if verdicts:
        items = [item_of(s.problem, _as_graded(s), benchmark.answer_policy) for s in finished]
        return Verdicts(grader, items, verdicts)
    unknown = Verdict("bad_gold", None, "the benchmark scores completions itself")
    return lambda completions, golds: [unknown for _ in asked(completions, golds)]


def _measured(
    settings: Settings,
    finished: Sequence[Sample],
    grade: Callable[[Sequence[str], Sequence[str]], Sequence[Verdict]],
) -> dict[str, Estimate]:
    """Of each reward, as "rewards/NAME", the mean over problems of the samples that it counts."""
    texts, golds = [_as_graded(s) for s in finished], [s.problem.gold for s in finished]
    means: dict[str, Estimate] = {}
    for name, reward in settings.rewards.items():
        context = RewardContext(
            grade=grade,
            tokens=[s.completion.tokens for s in finished],
            prompts=[s.prompt for s in finished],
            max_completion_tokens=settings.sampling.max_new_tokens,
            problem_ids=[s.problem.id for s in finished],
            problems=[s.problem for s in finished],
        )
        values = reward(texts, golds, context)
        share = all(0 <= v <= 1 for v in values if v is not None)
        means[f"rewards/{name}"] = _over_problems(finished, values, "share" if share else "number")
    return means


def _over_problems(finished: Sequence[Sample], values: Sequence[float | None], unit: str) -> Estimate:
    """The mean over problems of the mean over a problem's samples; None is not counted."""
    by_problem: dict[str, list[float]] = {}
    for sample, value in zip(finished, values, strict=True):
        if value is not None:
            by_problem.setdefault(sample.problem.id, []).append(float(value))
    return estimate([sum(v) / len(v) for v in by_problem.values()], unit)


def _write_samples(path: Path, found: Evaluated) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "problem_id": s.problem.id,
            "sample": s.index,
            "prompt": s.prompt,
            "completion": s.completion.text,
            "tokens": s.completion.tokens,
            "stop_reason": s.completion.stop_reason,
            "seconds": s.seconds,
            "seed": s.seed,
            "gold": s.problem.gold,
            "answer": score.answer,
            "verdict": score.outcome,
            "rule": score.rule,
            "score": score.value,
        }
        for s, score in zip(found.samples, found.scores, strict=True)
    ]
    temporary = path.with_suffix(".tmp")
    pq.write_table(pa.Table.from_pylist(rows), temporary)
    temporary.replace(path)
