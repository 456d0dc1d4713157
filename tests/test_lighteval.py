"""lighteval's tasks here, our benchmarks there. Needs lighteval: CI has an environment for it."""

import json
import sys
import types

import pytest

from tina_harness import Benchmark, Completion, Metric, Sampling, TinaError, registry
from tina_harness.data import load_problems
from tina_harness.data.prompts import template_text

pytest.importorskip("lighteval", reason="needs lighteval: pip install 'tina-harness[lighteval]'")
pytestmark = pytest.mark.slow


def text(gold, wrong):
    return f"<think>\nLet me see: maybe {wrong}, no.\n</think>\n\nThe final answer is $\\boxed{{{gold}}}$."


def replayed(problems):
    """Two completions a problem: one in three of them right twice, once, and never."""
    golds = [p.gold for p in problems]
    return {
        p.problem: [
            text(p.gold if n % 3 == 0 else golds[n - 1], golds[n - 1]),
            text(p.gold if n % 3 < 2 else golds[n - 1], golds[n - 1]),
        ]
        for n, p in enumerate(problems)
    }


def through_the_pipeline(tasks, file, completions, monkeypatch, tmp_path):
    """Scores of lighteval's own Pipeline, with a model that repeats completions; only our tasks are read."""
    from lighteval.logging.evaluation_tracker import EvaluationTracker
    from lighteval.models.abstract_model import LightevalModel
    from lighteval.models.dummy.dummy_model import DummyModelConfig
    from lighteval.models.model_output import ModelResponse
    from lighteval.pipeline import ParallelismManager, Pipeline, PipelineParameters
    from lighteval.tasks.registry import Registry

    class Replay(LightevalModel):
        config = DummyModelConfig()
        tokenizer, add_special_tokens, max_length = None, False, 4096
        _cache = types.SimpleNamespace(_init_registry=lambda registry: None)
        loglikelihood = loglikelihood_rolling = None

        def greedy_until(self, docs):
            return [ModelResponse(text=completions[d.specific["problem"]]) for d in docs]

    monkeypatch.setattr(Registry, "_load_from_files", staticmethod(lambda files, prefix: {}))
    monkeypatch.setattr(Registry, "_load_from_subdirs", staticmethod(lambda subdirs: {}))
    pipeline = Pipeline(
        tasks=tasks,
        pipeline_parameters=PipelineParameters(
            launcher_type=ParallelismManager.NONE, custom_tasks_directory=str(file)
        ),
        evaluation_tracker=EvaluationTracker(output_dir=str(tmp_path / "lighteval")),
        model=Replay(),
    )
    pipeline.evaluate()
    (scores,) = [s for name, s in pipeline.get_results()["results"].items() if name.startswith("tina:")][:1]
    return scores


def through_tina(name, completions, tmp_path):
    """Pass@1 by `evaluate` of the same completions."""
    from tina_harness.evaluation import Subject, Task, evaluate
    from tina_harness.evaluation.evaluate import Settings
    from tina_harness.evaluation.samples import SampleStore
    from tina_harness.grading import Grader

    found = registry.load()
    spec = found.get(Benchmark, name)
    loaded = load_problems(spec, found.catalogue)
    asked = [p.problem for p in loaded.problems]

    sampling = Sampling(0.6, 0.95, 32)

    def sampler(prompts, seeds, sampling, adapter):
        for n, prompt in enumerate(prompts):
            yield n, Completion(completions[prompt][n % 2], 1, "stop")

    with Grader() as grader:
        return (
            evaluate(
                Subject("m", "m", None, None),
                Task(
                    spec,
                    loaded.problems,
                    asked,
                    loaded.origin,
                    loaded.revision,
                    loaded.fingerprint,
                    {},
                    "all",
                ),
                Settings(sampling, sampling, 2, 0, [found.get(Metric, "pass@1")], {}),
                sampler,
                SampleStore(tmp_path / "samples", "key", print),
                grader,
            )
            .metrics["pass@1"]
            .value
        )


@pytest.mark.parametrize("name", ["math500", "minerva"])
def test_the_same_completions_score_the_same_here_and_in_lighteval_s_pipeline(
    name, mirror, tina, monkeypatch, tmp_path
):
    assert tina("export", "lighteval", tmp_path / "ours.py").returncode == 0
    found = registry.load()
    problems = load_problems(found.get(Benchmark, name), found.catalogue).problems
    completions = replayed(problems)
    there = through_the_pipeline(f"tina:{name}|0", tmp_path / "ours.py", completions, monkeypatch, tmp_path)
    here = through_tina(name, completions, tmp_path)
    assert there["tina_pass@1"] == pytest.approx(here, abs=1e-12)
    assert 0.4 < here < 0.65
    (theirs,) = [v for k, v in there.items() if k.startswith("avg@n") and "stderr" not in k]
    print(name, here, theirs)
    assert theirs == pytest.approx(here, abs=0.02)  # docs/evaluation.md: where the two differ


def test_the_prompt_in_lighteval_is_ours_and_a_file_is_not_overwritten(mirror, tina, tmp_path):
    from tina_harness.lighteval_tasks import task

    found = registry.load()
    spec = found.get(Benchmark, "aime24")
    config = task("aime24")
    row = {"problem": "What is 1 + 1?", "answer": "2"}
    expected = template_text(found.catalogue, spec.prompt).replace("{problem}", "What is 1 + 1?")
    assert config.prompt_function(row, "t").query == expected
    assert config.prompt_function({"problem": "x", "answer": None}, "t") is None
    (tmp_path / "mine.py").write_text("mine")
    done = tina("export", "lighteval", tmp_path / "mine.py")
    assert (done.returncode, (tmp_path / "mine.py").read_text()) == (2, "mine")


def test_lighteval_s_tasks_run_here_with_examples_and_stop_sequences(mirror, tina):
    words = ("--limit", "3", "--max-new-tokens", "24", "--json")
    done = tina("eval", "tina-nano", "--bench", "lighteval:gsm8k|2", "--bench", "lighteval:math_500", *words)
    assert done.returncode == 0, done.stderr
    gsm8k, math = json.loads(done.stdout)
    assert (gsm8k["benchmark"], gsm8k["primary"]) == ("lighteval:gsm8k|2", "extractive_match")
    assert math["primary"].startswith("pass@k")
    assert gsm8k["problems"] == math["problems"] == 3
    again = tina("eval", "tina-nano", "--bench", "lighteval:gsm8k|2", *words)
    assert "everything was evaluated before" in again.stderr or json.loads(again.stdout)[0]["reused"] == 3


def test_a_task_s_metric_sees_what_was_said_before_a_stop_sequence(mirror):
    from tina_harness.lighteval_tasks import benchmark

    spec = benchmark("gsm8k|1")
    (problem, *_) = load_problems(spec, {}, limit=1).problems
    turns = spec.conversation(problem)
    assert [t["role"] for t in turns] == ["user", "assistant", "user"]
    right = f"<think>12 or 13?</think> The answer is {problem.gold.rpartition('#### ')[2]}."
    assert spec.score(problem, [right]) == {"extractive_match": 1.0}
    assert spec.score(problem, ["The answer is -77."]) == {"extractive_match": 0.0}
    assert spec.score(problem, [f"Question: what? {right}"]) == {"extractive_match": 0.0}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gsm9k", "did you mean 'gsm8k'"),
        ("gsm8k|x", "NAME or NAME|FEW_SHOTS"),
        ("mmlu", "it has parts: mmlu:abstract_algebra"),
        ("arc:easy", "needs log-likelihoods"),
    ],
)
def test_a_task_that_cannot_be_run_is_said(name, said):
    from tina_harness.lighteval_tasks import benchmark

    with pytest.raises(TinaError) as caught:
        benchmark(name)
    assert said in f"{caught.value} {caught.value.hint}"
    assert sys.stdout is not None


DIFFERENT = [  # gold, completion, our verdict, lighteval's score; the table in docs/evaluation.md
    ("204", r"\boxed{205}. No: \boxed{204}", "incorrect", 1.0),
    ("5", r"<think>so \boxed{5}", "no_answer", 1.0),
    ("5", "It is 3. It is 4. It is 5.", "no_answer", 1.0),
    ("5", "The final answer is 5.", "no_answer", 1.0),
    ("50\\%", r"\boxed{50}", "correct", 0.0),
    ("0.0000002", r"\boxed{0.0000001}", "incorrect", 1.0),
    ("[0,1)", r"\boxed{0 \le x < 1}", "correct", 0.0),
    (r"\text{East}", r"\boxed{\text{east}}", "correct", 0.0),
    ("1010_2", r"\boxed{1010_3}", "incorrect", 1.0),
    (r"5 \text{ cm}", r"\boxed{5 \text{ km}}", "incorrect", 1.0),
    (r"\pm 2", r"\boxed{2, -2}", "correct", 0.0),
]


@pytest.mark.parametrize(("gold", "completion", "ours", "theirs"), DIFFERENT)
def test_where_lighteval_s_extractor_says_something_else(gold, completion, ours, theirs):
    from lighteval.metrics.metrics import Metrics
    from lighteval.models.model_output import ModelResponse
    from lighteval.tasks.requests import Doc
    from lighteval.utils.utils import remove_reasoning_tags

    from tina_harness.grading import Grader, Item

    with Grader(workers=1) as grader:
        assert grader.grade([Item(gold, completion)])[0].outcome == ours
    metric = Metrics.avg_at_n_math(sample_params={"n": 1})
    response = ModelResponse(text=[remove_reasoning_tags(completion, [("<think>", "</think>")])])
    doc = Doc(query="", choices=[f"${gold}$"], gold_index=0)
    assert list(metric.compute_sample(model_response=response, doc=doc).values()) == [theirs]
