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
from tina_harness.errors import PluginError
from tina_harness.evaluation.samples import SampleStore
from tina_harness.evaluation.statistics import bootstrap_mean, majority, pass_at_k
from tina_harness.grading import Grader, Item, Verdict, rules
from tina_harness.runs import Run, now, write_json
from tina_harness.scoring import Verdicts, asked
from tina_harness.specs import (
    Benchmark,
    Completion,
    Problem,
    RewardContext,
    RewardFunction,
    Sampling,
)

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
    """A benchmark's problems, and the prompt of each as one model sees it (rendered)."""

    benchmark: Benchmark
    problems: Sequence[Problem]
    prompts: Sequence[str]
    origin: str
    revision: str
    fingerprint: str


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
    run: Run,
    subject: Subject,
    task: Task,
    sampler: Sampler,
    store: SampleStore,
    grader: Grader,
    rewards: Mapping[str, RewardFunction],
    *,
    proof: Callable[[Path | None], Mapping[str, Any] | None],
    sampling: Sampling,
    samples: int,
    seed: int,
    progress: Callable[[Progress], None] = lambda _: None,
) -> dict[str, Any]:
    """Score a subject on a task and write `evals/<checkpoint>-<benchmark>/`.

    sampler: (prompts, seeds, sampling, adapter) -> (index, completion) pairs, as they finish; it is not
    called where every sample is in the store. rewards: the run's reward functions, measured on the same
    samples. proof: what is known of the sampler's use of an adapter, once it was called. Returns the
    `results.json`.
    """
    start = time.monotonic()
    finished, verdicts, reused = _sample(
        task, subject, sampler, store, grader, sampling, samples, seed, progress
    )
    seconds = time.monotonic() - start
    grader.check()
    graded = [_as_graded(s) for s in finished]
    by_problem = _by_problem(finished, verdicts) if verdicts else {}
    per_problem = {p: sum(v) / len(v) for p, (v, _) in by_problem.items()}
    several = _of_several(by_problem, samples)
    metric = "pass@1"
    values = [None if v.correct is None else float(v.correct) for v in verdicts]
    grade = _grade(task.benchmark, finished, verdicts, grader)
    measured = _measure(rewards, graded, finished, grade, sampling)
    if task.benchmark.score is not None:
        scores = _scores(task.benchmark, finished)
        metric = next(iter(next(iter(scores.values()))))
        per_problem = {p: s[metric] for p, s in scores.items()}
        several = {
            m: sum(s[m] for s in scores.values()) / len(scores) for m in scores[finished[0].problem.id]
        }
        values = [per_problem[s.problem.id] for s in finished]
        verdicts = [_verdict(metric, per_problem[s.problem.id]) for s in finished]
    share = all(0 <= value <= 1 for value in per_problem.values())
    result: dict[str, Any] = {
        "run": run.id,
        "checkpoint": subject.checkpoint,
        "label": subject.label,
        "model": subject.model,
        "benchmark": task.benchmark.name,
        "metric": metric,
        "unit": "share" if share else "number",
        "key": result_key(task, store, samples, seed),
        "problems": len(task.problems),
        "problems_of": task.benchmark.expected_rows,
        "samples": samples,
        "reused": reused,
        "not_gradable": sum(v.correct is None for v in verdicts),
        "verdicts": dict(Counter(v.outcome for v in verdicts)),
        "answer_policy": task.benchmark.answer_policy,
        "sampling": sampling._asdict(),
        "adapter_check": proof(subject.adapter),
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
    score = bootstrap_mean(list(per_problem.values()), share=share) if per_problem else None
    result["pass@1"] = score.mean if score else None
    result["ci95"] = [score.low, score.high] if score and score.low is not None else None
    result["rewards"] = measured
    if taken := sorted((result.keys() & several.keys()) - {metric}):
        raise PluginError(
            f"{task.benchmark.named}: score gives '{taken[0]}', which is another number in results.json",
            "give it another name",
        )
    result |= several
    _write(run, subject, task.benchmark, result, finished, verdicts, values)
    return result


def result_key(task: Task, store: SampleStore, samples: int, seed: int) -> str:
    """What a result depends on: the samples, the problems and golds, and how they are graded."""
    benchmark = task.benchmark
    prompts = hashlib.sha256("\0".join(task.prompts).encode("utf-8", "surrogatepass")).hexdigest()
    parts = (store.key, task.fingerprint, samples, seed, prompts, benchmark.answer_policy)
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:24]


def _sample(
    task: Task,
    subject: Subject,
    sampler: Sampler,
    store: SampleStore,
    grader: Grader,
    sampling: Sampling,
    samples: int,
    seed: int,
    progress: Callable[[Progress], None],
) -> tuple[list[Sample], list[Verdict], int]:
    """The samples in order, their verdicts (graded beside the sampling), and how many were in the store.

    No verdicts where the benchmark scores its completions itself.
    """
    wanted = [
        (p, i, sample_seed(seed, p.id, i), prompt)
        for p, prompt in zip(task.problems, task.prompts, strict=True)
        for i in range(samples)
    ]
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
            item = _item(sample, task.benchmark)
            done[number] = sample
            if task.benchmark.score is None:
                verdicts[number] = beside.submit(lambda: grader.grade([item])[0])
                ungraded.append(verdicts[number])

        for number, (_, _, seed_, prompt) in enumerate(wanted):
            if (known := store.get(prompt, seed_)) is not None:
                finish(number, known, 0.0)
        reused = len(done)
        missing = [n for n in range(len(wanted)) if n not in done]
        if missing:
            texts, seeds = [wanted[n][3] for n in missing], [wanted[n][2] for n in missing]
            for place, completion in sampler(texts, seeds, sampling, subject.adapter):
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


def _as_graded(sample: Sample) -> str:
    """The completion, with the `<think>` that the chat template may have put into the prompt."""
    opened = sample.prompt.rstrip().endswith("<think>")
    return f"<think>{sample.completion.text}" if opened else sample.completion.text


def _item(sample: Sample, benchmark: Benchmark) -> Item:
    """What the grader is asked."""
    problem = sample.problem
    return Item(problem.gold, _as_graded(sample), problem.kind, benchmark.answer_policy, problem.problem)


def _scores(benchmark: Benchmark, finished: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Of each problem, what the benchmark's own scoring says."""
    texts: dict[str, list[str]] = {}
    for sample in finished:
        texts.setdefault(sample.problem.id, []).append(_as_graded(sample))
    found: dict[str, dict[str, float]] = {}
    names: dict[str, float] = {}
    for problem in (s.problem for s in finished if s.index == 0):
        found[problem.id] = checked.scores(benchmark, problem, texts[problem.id], names)
        names = names or found[problem.id]
    return found


def _verdict(metric: str, score: float) -> Verdict:
    """What samples.parquet says of a sample whose problem was scored by the benchmark itself."""
    return Verdict("correct" if score >= 1 else "incorrect", None, f"{metric} {score:g}")


def _by_problem(
    finished: Sequence[Sample], verdicts: Sequence[Verdict]
) -> dict[str, tuple[list[float], list[str | None]]]:
    """Of each problem with gradable samples: their correctness and their answers."""
    found: dict[str, tuple[list[float], list[str | None]]] = {}
    for sample, verdict in zip(finished, verdicts, strict=True):
        if verdict.correct is not None:
            right, answers = found.setdefault(sample.problem.id, ([], []))
            right.append(float(verdict.correct))
            answers.append(verdict.answer)
    return found


def _of_several(
    by_problem: Mapping[str, tuple[list[float], list[str | None]]], samples: int
) -> dict[str, float]:
    """pass@k for k = 2, 4, 8, ... and maj@n, with more than one sample a problem."""
    found: dict[str, float] = {}
    if samples < 2 or not by_problem:
        return found
    k = 2
    while k <= min(len(right) for right, _ in by_problem.values()):
        values = [pass_at_k(len(right), int(sum(right)), k) for right, _ in by_problem.values()]
        found[f"pass@{k}"] = sum(values) / len(values)
        k *= 2
    votes = [
        majority(answers, [bool(r) for r in right], lambda a, b: rules.compare(a, b).same)
        for right, answers in by_problem.values()
    ]
    counted = [v for v in votes if v is not None]
    found[f"maj@{samples}"] = sum(counted) / len(counted)
    return found


def _grade(
    benchmark: Benchmark, finished: Sequence[Sample], verdicts: Sequence[Verdict], grader: Grader
) -> Callable[[Sequence[str], Sequence[str]], Sequence[Verdict]]:
    """`RewardContext.grade` for the samples; no verdict is known where a benchmark has a score of its own."""
    if benchmark.score is None:
        return Verdicts(grader, [_item(s, benchmark) for s in finished], verdicts)
    unknown = Verdict("bad_gold", None, "the benchmark scores completions itself")
    return lambda completions, golds: [unknown for _ in asked(completions, golds)]


def _measure(
    rewards: Mapping[str, RewardFunction],
    texts: Sequence[str],
    finished: Sequence[Sample],
    grade: Callable[[Sequence[str], Sequence[str]], Sequence[Verdict]],
    sampling: Sampling,
) -> dict[str, float | None]:
    """The mean of each reward over the samples that it counts; None where it counts none."""
    means: dict[str, float | None] = {}
    for name, reward in rewards.items():
        context = RewardContext(
            grade=grade,
            tokens=[s.completion.tokens for s in finished],
            prompts=[s.prompt for s in finished],
            max_completion_tokens=sampling.max_new_tokens,
            problem_ids=[s.problem.id for s in finished],
        )
        values = [v for v in reward(texts, [s.problem.gold for s in finished], context) if v is not None]
        means[name] = sum(values) / len(values) if values else None
    return means


def _write(
    run: Run,
    subject: Subject,
    benchmark: Benchmark,
    result: Mapping[str, Any],
    finished: Sequence[Sample],
    verdicts: Sequence[Verdict],
    values: Sequence[float | None],
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = run.evaluation(subject.checkpoint, benchmark.name)
    folder.mkdir(parents=True, exist_ok=True)
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
            "answer": v.answer,
            "verdict": v.outcome,
            "rule": v.rule,
            "score": value,
        }
        for s, v, value in zip(finished, verdicts, values, strict=True)
    ]
    temporary = folder / "samples.tmp"
    pq.write_table(pa.Table.from_pylist(rows), temporary)
    temporary.replace(folder / "samples.parquet")
    write_json(folder / "results.json", result)
