"""Scores, their intervals, and samples that do not depend on their batch."""

import itertools
import math
import random
import statistics

import pytest

from tina_harness import Benchmark, Sampling, registry
from tina_harness.data import load_problems
from tina_harness.evaluation import bootstrap_mean
from tina_harness.evaluation.evaluate import sample_seed
from tina_harness.grading import Grader, Item, extract
from tina_harness.statistics import compare, majority, pass_at_k
from tina_plugins.engines import transformers as engine
from tina_plugins.models.nano import folder


def test_the_interval_is_that_of_the_mean_over_problems():
    scores = [0.0, 0.25, 0.5, 1.0] * 50
    mean, low, high = bootstrap_mean(scores)
    error = statistics.pstdev(scores) / len(scores) ** 0.5
    assert mean == pytest.approx(0.4375)
    assert low == pytest.approx(mean - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.1 * error)
    assert bootstrap_mean(scores) == (mean, low, high)


def test_no_spread_is_not_certainty():
    assert bootstrap_mean([0.0] * 4) == pytest.approx((0.0, 0.0, 1 - 0.025**0.25))
    assert bootstrap_mean([1.0] * 30).low == pytest.approx(0.025 ** (1 / 30))
    assert bootstrap_mean([1.0]) == (1.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="no problems"):
        bootstrap_mean([])


def test_pass_at_k_is_the_share_of_draws_with_a_right_one():
    for n, c, k in [(5, 2, 1), (5, 2, 3), (6, 0, 4), (6, 6, 2), (7, 3, 7), (8, 1, 5)]:
        draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))
    assert pass_at_k(10_000, 5000, 100) == pytest.approx(1 - math.comb(5000, 100) / math.comb(10_000, 100))
    for n, c, k in [(4, 5, 1), (4, 1, 5), (4, 1, 0), (4, -1, 1)]:
        with pytest.raises(ValueError, match="pass@"):
            pass_at_k(n, c, k)


def test_the_majority_is_of_answers_that_say_the_same():
    def same(one, other):
        return float(eval(one)) == float(eval(other))

    assert majority(["1/2", "0.5", "3"], [True, True, False], same) == 1.0
    assert majority(["1/2", "3", "3.0"], [True, False, False], same) == 0.0
    assert majority(["1", "2"], [True, False], same) == 0.5
    assert majority([None, None, "4"], [False, False, True], same) == 1.0
    assert majority([None], [False], same) == 0.0
    assert majority(["1"], [None], same) is None


def test_a_comparison_is_paired_and_its_p_value_that_of_all_sign_flips():
    a = {str(i): 0.0 for i in range(6)}
    b = {str(i): 1.0 if i < 5 else 0.0 for i in range(6)}
    found = compare(a, b)
    assert (found.a, found.b) == (0.0, pytest.approx(5 / 6))
    assert found.p_value == pytest.approx(2 / 2**5)
    assert found.difference.low <= found.difference.mean <= found.difference.high
    assert compare(b, a).difference.mean == pytest.approx(-5 / 6)
    assert compare(a, a).p_value == 1.0
    assert compare(a, a).problems_needed is None
    assert "cannot tell them apart" in compare(a, a).verdict
    with pytest.raises(ValueError, match="no problem in common"):
        compare(a, {"x": 1.0})


def test_a_comparison_tells_real_differences_and_not_noise():
    chosen = random.Random(1)
    base = {str(i): chosen.random() for i in range(300)}
    better = {p: min(1.0, s + 0.1 + 0.2 * (chosen.random() - 0.5)) for p, s in base.items()}
    assert "B is better" in compare(base, better).verdict
    assert "A is better" in compare(better, base).verdict
    false = 0
    for trial in range(200):
        noise = random.Random(trial)
        one = {str(i): float(noise.random() < 0.5) for i in range(40)}
        other = {str(i): float(noise.random() < 0.5) for i in range(40)}
        false += compare(one, other, resamples=500).p_value < 0.05
    assert false <= 20  # 5% of 200 is 10, and 20 is three standard deviations above


def test_the_problems_needed_are_those_of_the_power_formula():
    a = {str(i): 0.0 for i in range(100)}
    b = {str(i): 1.0 if i < 10 else (-1.0 if i < 14 else 0.0) for i in range(100)}
    found = compare(a, b)
    variance = statistics.variance(b.values())
    assert found.problems_needed == round((1.959964 + 0.841621) ** 2 * variance / 0.06**2)


def test_seeds_of_samples_are_all_different_and_fixed():
    seeds = {sample_seed(s, p, i) for s in range(5) for p in "abcde" for i in range(40)}
    assert len(seeds) == 1000
    assert sample_seed(42, "p", 0) == sample_seed(42, "p", 0)


@pytest.fixture(scope="module")
def session():
    return engine.Session(folder(), "float32", 256, 0)


def prompts():
    questions = ["What is 1 + 2?", "What is 47 + 38?", "What is 9 - 9?", "What is 64 + 39?"]
    return [f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n" for q in questions]


def sampled(session, texts, seeds, sampling):
    return [c for _, c in sorted(session.generate(texts, seeds, sampling, None))]


def test_a_sample_depends_on_its_prompt_and_seed_only(session, monkeypatch):
    sampling = Sampling(1.0, 0.95, 48)
    seeds = [11, 12, 13, 14]
    together = sampled(session, prompts(), seeds, sampling)
    reversed_ = sampled(session, prompts()[::-1], seeds[::-1], sampling)[::-1]
    monkeypatch.setattr(engine, "BATCH", 1)
    alone = sampled(session, prompts(), seeds, sampling)
    assert together == reversed_ == alone
    assert sampled(session, prompts(), [21, 22, 23, 24], sampling) != together


def test_greedy_completions_are_those_of_generate_whenever_rows_end(session):
    import torch

    texts = prompts() * 3 + [
        f"<|im_start|>user\nWhat is {n} + {n * n}?<|im_end|>\n<|im_start|>assistant\n<think>"
        for n in range(12)
    ]
    found = sampled(session, texts, range(24), Sampling(0.0, 1.0, 29))
    for text, completion in zip(texts, found, strict=True):
        ids = session.tokenizer(text, add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            row = session.model.generate(**ids, do_sample=False, max_new_tokens=29)[
                0, ids["input_ids"].shape[1] :
            ]
        kept = [t for t in row.tolist() if t not in session.ends]
        assert completion.text == session.tokenizer.decode(kept, skip_special_tokens=True)
        assert completion.tokens == len(kept)
    assert {c.stop_reason for c in found} == {"stop", "length"}
    assert len({c.tokens for c in found}) > 2


def test_completions_come_as_their_rows_end(session):
    order = [c.tokens for _, c in session.generate(prompts() * 8, range(32), Sampling(1.0, 1.0, 64), None)]
    assert order == sorted(order)
    assert order[0] < order[-1]


def test_sampling_follows_the_models_distribution(session):
    """The first token of 4,000 samples against the model's own probabilities, by chi-square."""
    import numpy as np
    import torch
    from scipy import stats

    text, temperature = prompts()[1], 1.5
    ids = session.tokenizer(text, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        logits = session.model(**ids).logits[0, -1].double()
    expected = torch.softmax(logits / temperature, -1).numpy()
    sampler = engine.SeededSampling(
        [sample_seed(0, "p", i) for i in range(4000)], Sampling(temperature, 1.0, 1)
    )
    drawn = sampler(logits.float().repeat(4000, 1), range(4000), 0).numpy()
    counts = np.bincount(drawn, minlength=len(expected))
    common = expected * 4000 >= 5
    observed = [*counts[common], counts[~common].sum()]
    wanted = [*(expected[common] * 4000), expected[~common].sum() * 4000]
    assert stats.chisquare(observed, wanted).pvalue > 0.001


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    import torch

    scores = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).repeat(500, 1)
    sampler = engine.SeededSampling(range(500), Sampling(1.0, 0.7, 1))
    assert set(sampler(scores, range(500), 0).tolist()) == {0, 1}


def test_greedy_takes_the_likeliest_token_and_a_cut_is_recorded(session):
    first, second = (sampled(session, prompts(), [s] * 4, Sampling(0.0, 1.0, 8)) for s in (1, 2))
    assert first == second
    assert {c.stop_reason for c in first} == {"length"}
    assert {c.tokens for c in first} == {8}


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("<think>\\boxed{5}</think>\\boxed{6}", "6"),
        ("<think>\\boxed{5}</think>", None),
        ("<think>\\boxed{5}", None),
        ("\\boxed{1} then \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{}", None),
        ("\\boxed{5", None),
        ("<answer>7</answer>", "7"),
        ("It is 7.", None),
    ],
)
def test_the_answer_is_the_last_box_of_the_final_answer(completion, answer):
    assert extract(completion).text == answer


def test_verdicts_exact_symbolic_and_without_an_answer():
    items = [
        Item("204", "\\boxed{204}"),
        Item("025", "\\boxed{25}"),
        Item("1/2", "\\boxed{0.5}"),
        Item("10,000", "\\boxed{10000}"),
        Item("0.0000001", "\\boxed{0.0000002}"),
        Item("\\frac{\\sqrt{2}}{2}", "\\boxed{\\frac{1}{\\sqrt{2}}}"),
        Item("x^2-1", "\\boxed{(x-1)(x+1)}"),
        Item("x^2-1", "\\boxed{(x-1)(x+2)}"),
        Item("4", "four"),
        Item("", "\\boxed{4}"),
        Item("C", "Answer: C", "choice"),
        Item("C", "Answer: B", "choice"),
    ]
    with Grader(workers=1) as grader:
        outcomes = [v.outcome for v in grader.grade(items)]
        again = [v.outcome for v in grader.grade(items[::-1])][::-1]
    assert outcomes == again
    assert outcomes == [*["correct"] * 4, "incorrect", *["correct"] * 2, "incorrect", "no_answer", "bad_gold",
                        "correct", "incorrect"]  # fmt: skip


def test_a_tower_of_exponents_costs_its_deadline_and_the_next_item_nothing():
    with Grader(workers=1, deadline_s=3.0) as grader:
        tower, right = grader.grade([Item("x", "\\boxed{9^{9^{9^{9^{9}}}}}"), Item("2x", "\\boxed{x+x}")])
    assert tower.outcome in ("timeout", "incorrect", "error")
    assert right.outcome == "correct"


@pytest.mark.parametrize(
    ("name", "rows"), [("aime24", 30), ("aime25", 30), ("amc23", 40), ("math500", 500), ("minerva", 272)]
)
def test_every_gold_of_a_benchmark_is_right_as_an_answer(mirror, name, rows):
    names = registry.load()
    benchmark = names.get(Benchmark, name)
    problems = load_problems(benchmark, names.catalogue).problems
    assert len(problems) == rows
    items = [
        Item(p.gold, f"so it is $\\boxed{{{p.gold}}}$.", p.kind, benchmark.answer_policy, p.problem)
        for p in problems
    ]
    with Grader() as grader:
        verdicts = grader.grade(items)
    wrong = [
        (p.gold, v.outcome, v.rule) for p, v in zip(problems, verdicts, strict=True) if v.correct is not True
    ]
    assert wrong == []
