"""lighteval, both ways: its tasks as benchmarks here, our benchmarks as tasks there.

All that knows lighteval is in this module, written for lighteval 0.13. Its registry and Pipeline are not
used: the registry imports every task, one of which downloads at import, and the Pipeline brings engines and a
cache of its own. A task's rows, prompts and metrics are lighteval's; samples, seeds and engines are ours.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.util
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tina_harness.data import hub, messages
from tina_harness.data.load import parse_row, problem_id, unwrap
from tina_harness.data.prompts import template_text
from tina_harness.errors import TinaError, did_you_mean
from tina_harness.registry import Registry
from tina_harness.specs import Benchmark, Problem

PREFIX = "lighteval:"
_INSTALL = "pip install 'tina-harness[lighteval]'"
_THINK = [("<think>", "</think>")]


# ---------------------------------------------------------------------------------------------------------
# Theirs, here


def benchmark(name: str) -> Benchmark:
    """`NAME` or `NAME|FEW_SHOTS`, a task of the installed lighteval, as a benchmark.

    Its score is the task's first metric over completions; the others are in `results.json` ("metrics").
    Raises TinaError for a task that is not there, or that needs log-likelihoods, which no engine here gives.
    """
    config = _config(name)
    from lighteval.tasks.requests import SamplingMethod

    metrics = [m for m in config.metrics if m.category == SamplingMethod.GENERATIVE]
    if not metrics:
        raise TinaError(
            f"lighteval's task '{config.name}' needs log-likelihoods, and the engines only sample",
            "choose a generative task",
        )
    task = _Task(config, metrics)
    return Benchmark(
        name=f"{PREFIX}{name}",
        summary=f"lighteval's task {config.name}, version {config.version}",
        source="https://github.com/huggingface/lighteval",
        rows=lambda seed: task.rows(),
        problem="query",
        answer="gold",
        conversation=task.conversation,
        score=task.score,
        samples=task.samples,
        max_new_tokens=config.generation_size or Benchmark.max_new_tokens,
    )


class _Task:
    """A task's documents by the id of their problem, its prompts and its metrics."""

    def __init__(self, config: Any, metrics: Sequence[Any]) -> None:
        from lighteval.metrics.metrics_sample import SamplingMetric

        self.config, self.metrics = config, metrics
        functions = [m.sample_level_fn for m in metrics]
        self.samples = max([1] + [f.num_samples() for f in functions if isinstance(f, SamplingMetric)])
        self.docs: dict[str, Any] = {}

    def rows(self) -> Iterator[Mapping[str, Any]]:
        for doc in self._load():
            text = self.conversation_of(doc)[-1]["content"]
            self.docs.setdefault(problem_id(text), doc)
            golds = [str(g) for g in doc.get_golds()] if doc.choices else []
            yield {"query": text, "gold": " / ".join(golds).strip() or "(none)"}

    def conversation(self, problem: Problem) -> list[dict[str, str]]:
        """See `Benchmark.conversation`: few-shot examples come before the question."""
        return self.conversation_of(self.docs[problem.id])

    def conversation_of(self, doc: Any) -> list[dict[str, str]]:
        from lighteval.tasks.prompt_manager import PromptManager

        turns: list[dict[str, str]] = PromptManager(use_chat_template=True).prepare_prompt_api(doc)
        return turns

    def score(self, problem: Problem, completions: Sequence[str]) -> Mapping[str, float]:
        """See `Benchmark.score`. Text from a stop sequence on, and what was thought, does not count."""
        from lighteval.metrics import apply_metric
        from lighteval.models.model_output import ModelResponse
        from lighteval.utils.utils import remove_reasoning_tags

        doc = self.docs[problem.id]
        texts = [remove_reasoning_tags(_until(t, doc.stop_sequences or ()), _THINK) for t in completions]
        response = ModelResponse(input=doc.query, text=texts, text_post_processed=texts)
        (found,) = apply_metric([response], [doc], list(self.metrics))
        return {name: float(value) for name, value in found.items()}

    def _load(self) -> list[Any]:
        from datasets import load_dataset
        from lighteval.tasks.lighteval_task import LightevalTask

        task = LightevalTask(self.config)
        folder = hub.mirrored(self.config.hf_repo)
        try:
            if folder is None:
                task.dataset = LightevalTask.download_dataset_worker(task)
            else:
                subset = self.config.hf_subset
                rows = load_dataset(str(folder), data_dir=subset if (folder / subset).is_dir() else None)
                task.dataset = rows.filter(task.dataset_filter) if task.dataset_filter else rows
            docs: list[Any] = task.get_docs()
            return docs
        except TinaError:
            raise
        except Exception as error:  # datasets, the hub client and the task's own code
            raise TinaError(
                f"the rows of lighteval's task '{self.config.name}' ({self.config.hf_repo}) could not be "
                f"loaded: {type(error).__name__}: {str(error).strip()[:300]}",
                f"check the network, or set TINA_MIRROR=DIR where DIR/{self.config.hf_repo}/ holds its files",
            ) from error


def _until(text: str, stops: Sequence[str]) -> str:
    return text[: min([len(text)] + [text.find(s) for s in stops if s and s in text])]


def _config(name: str) -> Any:
    """A task's configuration, from the first module that has it: those that mention the name come first."""
    wanted, _, shots = name.partition("|")
    if shots and not shots.isdigit():
        raise TinaError(f"'{PREFIX}{name}' is not NAME or NAME|FEW_SHOTS", f"for example {PREFIX}gsm8k|5")
    package = importlib.util.find_spec("lighteval")
    if package is None or not package.submodule_search_locations:
        raise TinaError(f"'{PREFIX}{name}' needs lighteval", _INSTALL)
    folder = Path(package.submodule_search_locations[0]) / "tasks" / "tasks"
    files = {f"lighteval.tasks.tasks.{p.stem}": p for p in folder.glob("*.py") if p.stem != "__init__"}
    files |= {f"lighteval.tasks.tasks.{p.parent.name}.main": p for p in folder.glob("*/main.py")}
    texts = {module: path.read_text(encoding="utf-8") for module, path in sorted(files.items())}
    stem = wanted.partition(":")[0]
    order = sorted(texts, key=lambda m: (f'"{wanted}"' not in texts[m], stem not in texts[m]))
    there: dict[str, Any] = {}
    broken: list[str] = []
    for module in order:
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                table = importlib.import_module(module).TASKS_TABLE
        except Exception as error:
            broken.append(f"{module.removeprefix('lighteval.tasks.tasks.')} ({type(error).__name__})")
            continue
        there |= {config.name: config for config in table}
        if wanted in there:
            config = copy.deepcopy(there[wanted])
            config.num_fewshots = int(shots or 0)
            config.full_name = f"{wanted}|{config.num_fewshots}"
            return config
    parts = sorted(n for n in there if n.startswith(f"{wanted}:"))
    hint = f"it has parts: {', '.join(parts[:8])} ..." if parts else did_you_mean(wanted, there)
    if broken:
        hint += f"\n  these modules of lighteval could not be imported: {', '.join(broken)}"
    raise TinaError(f"lighteval has no task '{wanted}'", hint.strip())


# ---------------------------------------------------------------------------------------------------------
# Ours, there


def export_text(registry: Registry) -> str:
    """A module of lighteval tasks, for its `--custom-tasks`: one for each benchmark with a repository."""
    lines = [
        '"""The benchmarks of tina-harness as lighteval tasks.',
        "",
        'lighteval accelerate "model_name=..." "tina:math500|0" --custom-tasks THIS_FILE',
        "",
        "Each scores tina_pass@1, as `tina eval` does, and a metric of lighteval's own.",
        f'Needs {_INSTALL}."""',
        "",
        "from tina_harness.lighteval_tasks import task",
        "",
        "TASKS_TABLE = [",
    ]
    for name in registry.names("benchmark"):
        spec = registry.get(Benchmark, name)
        if spec.repo:
            lines.append(f'    task("{name}"),  # {spec.repo}, {spec.samples} samples a problem')
    return "\n".join([*lines, "]", ""])


def task(name: str) -> Any:
    """A benchmark of the registry as a `LightevalTaskConfig` named `tina:NAME`."""
    from lighteval.metrics.metrics import Metrics
    from lighteval.metrics.utils.metric_utils import SampleLevelMetric
    from lighteval.tasks.lighteval_task import LightevalTaskConfig
    from lighteval.tasks.requests import Doc, SamplingMethod

    from tina_harness import registry as registry_module

    registry = registry_module.load()
    spec = registry.get(Benchmark, name)
    user = template_text(registry.catalogue, spec.prompt)
    system = template_text(registry.catalogue, spec.system)

    choice = spec.answer_kind == "choice"

    def prompt(line: Mapping[str, Any], task_name: str) -> Any:
        text, gold = parse_row(spec, line)
        if not text.strip() or not gold:
            return None
        turns = messages(text.strip(), "", user)
        return Doc(
            task_name=task_name,
            query=turns[-1]["content"],
            choices=[gold if choice else f"${gold}$"],  # as its extractors want them
            gold_index=0,
            instruction=system or None,
            specific={"problem": text.strip(), "gold": unwrap(gold)},
        )

    import numpy as np

    ours = SampleLevelMetric(
        metric_name="tina_pass@1",
        higher_is_better=True,
        category=SamplingMethod.GENERATIVE,
        sample_level_fn=_metric(spec),
        corpus_level_fn=np.nanmean,  # a gold that cannot be read is not counted
        batched_compute=True,
    )
    if choice:
        theirs = Metrics.gpqa_instruct_pass_at_k(sample_params={"k": 1, "n": spec.samples})
    else:
        theirs = Metrics.avg_at_n_math(sample_params={"n": spec.samples})
    folder = hub.mirrored(spec.repo)
    return LightevalTaskConfig(
        name=f"tina:{name}",
        prompt_function=prompt,
        hf_repo=str(folder or spec.repo),
        hf_subset=(None if folder else spec.config) or "default",
        hf_revision=None if folder else registry.catalogue.get("revisions", {}).get(spec.repo),
        hf_avail_splits=[spec.split],
        evaluation_splits=[spec.split],
        generation_size=spec.max_new_tokens,
        metrics=[ours, theirs],
    )


def _metric(spec: Benchmark) -> Any:
    """Our grader as a metric: the mean correctness of a problem's samples."""
    from lighteval.metrics.metrics_sample import SampleLevelComputation

    class PassAt1(SampleLevelComputation):
        """Pass@1 by tina-harness's grader."""

        def compute(self, responses: Sequence[Any], docs: Sequence[Any], **_: Any) -> list[float]:
            from tina_harness.grading import Grader, Item

            items = [
                Item(d.specific["gold"], text, spec.answer_kind, spec.answer_policy, d.specific["problem"])
                for r, d in zip(responses, docs, strict=True)
                for text in r.text
            ]
            with Grader() as grader:
                verdicts = iter(grader.grade(items))
                grader.check()
            right = [[next(verdicts).correct for _ in r.text] for r in responses]
            known = [[float(c) for c in row if c is not None] for row in right]
            return [sum(row) / len(row) if row else float("nan") for row in known]

    return PassAt1()
