"""Rewards: bounded, deterministic, total on any text, and equal to the published formulas."""

import importlib
import math
import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tina_harness import Problem, Reward, RewardContext, TinaError, registry
from tina_harness.config import RunConfig
from tina_harness.errors import PluginError
from tina_harness.grading import Grader, GraderFailing
from tina_harness.scoring import build_rewards, item_of
from tina_harness.testing import HOSTILE
from tina_harness.training.rewards import Scorer

REGISTRY = registry.load()
REWARDS = {name: REGISTRY.get(Reward, name) for name in REGISTRY.names("reward")}
ANY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

TAGGED = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(
            ["<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "}", "\n", " ", "Step 1:", "7"]
        ),
    ),
    max_size=12,
).map("".join)
ROW = st.tuples(
    st.one_of(
        TAGGED,
        st.text(alphabet=st.characters(), max_size=60),
        st.sampled_from([h.completion[:3000] for h in HOSTILE]),
    ),
    st.text(max_size=5),  # gold
    st.integers(0, 2000),  # tokens
    st.sampled_from(["p", "q", ""]),  # prompt
    st.sampled_from([True, False, None]),  # verdict
)  # fmt: skip


def values(reward, rows):
    """What a reward gives for rows of (completion, gold, tokens, prompt, verdict)."""
    verdicts = {(c, g, n): SimpleNamespace(correct=v) for n, (c, g, _, _, v) in enumerate(rows)}
    context = RewardContext(
        grade=lambda completions, golds: [
            verdicts[c, g, n] for n, (c, g) in enumerate(zip(completions, golds, strict=True))
        ],
        tokens=[r[2] for r in rows],
        prompts=[r[3] for r in rows],
        max_completion_tokens=1000,
    )
    return reward([r[0] for r in rows], [r[1] for r in rows], context)


@pytest.mark.parametrize("name", REWARDS)
@ANY
@given(rows=st.lists(ROW, min_size=1, max_size=6), order=st.randoms(use_true_random=False))
def test_a_reward_is_bounded_deterministic_and_does_not_depend_on_the_order(name, rows, order):
    spec = REWARDS[name]
    reward = spec.build(**spec.defaults)
    given_values = values(reward, rows)
    assert len(given_values) == len(rows)
    for value in given_values:
        assert value is None or (math.isfinite(value) and spec.low <= value <= spec.high)
    assert values(spec.build(**spec.defaults), rows) == given_values
    places = list(range(len(rows)))
    order.shuffle(places)
    assert values(reward, [rows[i] for i in places]) == [given_values[i] for i in places]


@pytest.mark.parametrize("name", REWARDS)
def test_a_reward_is_total_on_hostile_texts(name):
    spec = REWARDS[name]
    tags = [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "\n</think>\n",
        "- ",
        "1. ",
        "Step ",
        "\\boxed{",
        " a",
    ]
    texts = (
        [h.completion for h in HOSTILE]
        + [t * 200_000 for t in tags]
        + ["<think>" + "</think><answer>" * 100_000]
    )
    rows = [(text, "5", len(text), "p", False) for text in texts]
    assert all(spec.low <= v <= spec.high for v in values(spec.build(**spec.defaults), rows))


@pytest.mark.parametrize("name", REWARDS)
def test_a_reward_says_where_it_comes_from_and_has_a_worked_example(name):
    spec = REWARDS[name]
    module = importlib.import_module(spec.build.__module__)
    for part in (">>>", "Source:", "Range:", "https://"):
        assert part in module.__doc__


def one(name, completion, tokens=0, verdict=True, longest=1000, **parameters):
    reward = REWARDS[name].build(**parameters)
    grade = lambda c, g: [SimpleNamespace(correct=verdict)] * len(c)  # noqa: E731
    return reward([completion], ["2"], RewardContext(grade, [tokens], ["p"], longest))[0]


def group(name, samples, **parameters):
    """A reward over one group: samples of (tokens, verdict)."""
    rows = [("x", "2", tokens, "p", verdict) for tokens, verdict in samples]
    return values(REWARDS[name].build(**parameters), rows)


@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ("<think>1 + 1 = 2</think><answer>2</answer>", 1),
        ("<think>a</think>\n<answer>so \\boxed{2}</answer>\n", 1),
        ("<think></think><answer>2</answer>", 0),
        ("<think> \n</think><answer>2</answer>", 0),
        ("<think>...</think><answer>2</answer>", 0),
        ("<think>\u200b</think><answer>2</answer>", 0),
        ("<think>a</think><answer></answer>", 0),
        ("<think>a</think><answer>\\boxed{}</answer>", 0),
        ("<think>a</think><answer>so \\boxed{ }</answer>", 0),
        ("<think>a</think><answer>so \\boxed{\\text{}}</answer>", 0),
        ("<think>a</think><answer>so \\boxed{\\phantom{2}}</answer>", 0),
        ("<think>a</think><answer>so \\boxed{ANSWER}</answer>", 0),
        ("<think>a</think><answer>so \\boxed{2</answer>", 0),
        ("<think>a</think><answer>2</answer><answer>3</answer>", 0),
        ("<think>a</think>b<answer>2</answer>", 0),
        ("a<think>a</think><answer>2</answer>", 0),
        ("<answer>2</answer><think>a</think>", 0),
        ("", 0),
    ],
)
def test_format_strict(completion, value):
    assert one("format", completion) == value


@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ("<think>a\n</think>\nso \\boxed{2}", 1),
        ("a\n</think>\nb", 1),
        ("\n</think>\nb", 0),
        ("a\n</think>\n", 0),
        ("a\n</think>\n\\boxed{}", 0),
        ("a</think>b", 0),
        ("a\n</think>\nb\n</think>\nc", 0),
    ],
)
def test_format_of_templates_that_open_the_thinking(completion, value):
    assert one("format", completion, variant="close_think") == value


def test_tag_count_gives_a_quarter_a_tag_and_nothing_for_empty_blocks():
    assert one("tag_count", "<think>a</think><answer>b</answer>") == 1
    assert one("tag_count", "<think>a</think>b") == 0.5
    assert one("tag_count", "<think></think><answer> </answer>") == 0
    assert one("tag_count", "<think>a</think><think>a</think><answer>2</answer>") == 0.5


def test_length_is_kimis_formula_within_a_group():
    # lambda = 0.5 - (len - min) / (max - min); a wrong answer gets min(0, lambda)
    assert group("length", [(100, True), (200, True), (300, True)]) == [0.5, 0.0, -0.5]
    assert group("length", [(100, False), (300, False), (200, True)]) == [0.0, -0.5, 0.0]
    assert group("length", [(100, True), (100, False)]) == [0.0, 0.0]
    assert group("length", [(1, None), (100, True), (300, True)]) == [None, 0.5, -0.5]


def test_cosine_is_the_published_curve_at_its_ends_and_middle():
    def curve(verdict):
        return [one("cosine", "x", tokens, verdict, max_len=3584) for tokens in (0, 1792, 3584, 9999)]

    assert curve(True) == pytest.approx([1.0, 0.75, 0.5, 0.5])
    assert curve(False) == pytest.approx([-0.5, -0.25, 0.0, 0.0])
    assert one("cosine", "x", 896, max_len=3584) == pytest.approx(0.5 + 0.25 * (1 + math.cos(math.pi / 4)))
    assert one("cosine", "x", 500, longest=1000) == pytest.approx(0.75)


def test_repetition_penalty_is_the_share_of_repeated_ngrams():
    assert one("repetition_penalty", "a b c d") == 0
    assert one("repetition_penalty", "a a a a") == pytest.approx(-0.5)  # 1 of 2 distinct
    assert one("repetition_penalty", "a b a b a b a b", ngram=2, max_penalty=-2.0) == pytest.approx(
        -2 * (1 - 2 / 7)
    )
    assert one("repetition_penalty", "a") == 0


def test_reasoning_steps_counts_marks():
    assert one("reasoning_steps", "Step 1: a\nStep 2: b") == pytest.approx(2 / 3)
    assert one("reasoning_steps", "1. a\n2. b\n- c\n- d") == 1


def test_soft_overlong_is_dapos_equation_13():
    lengths = [0, 16384, 18432, 20480, 20481]
    rewards = [one("soft_overlong", "x", n, max_len=20480, cache=4096) for n in lengths]
    assert rewards == pytest.approx([0, 0, -0.5, -1, -1])
    assert one("soft_overlong", "x", 900, longest=1000) == pytest.approx(-0.5)


def test_parameters_come_from_the_recipe():
    config = RunConfig.model_validate(
        {"dataset": "d", "algo": "a", "rewards": {"cosine": {"weight": 2.0, "max_len": 3584}, "format": {}}}
    )
    built = build_rewards(config, REGISTRY, print)
    context = RewardContext(lambda c, g: [SimpleNamespace(correct=True)], [1792], ["p"], 10)
    assert built["cosine"](["x"], ["2"], context) == pytest.approx([0.75])


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("cosine", {"max_len": -1}, "rewards.cosine.max_len = -1: expected 0 or more"),
        ("cosine", {"min_right": 2.0}, "rewards.cosine.min_right = 2.0: expected at most max_right"),
        ("cosine", {"max_wrong": math.nan}, "rewards.cosine.max_wrong = nan: expected a finite number"),
        ("format", {"variant": "loose"}, "expected one of strict, close_think"),
        ("reasoning_steps", {"steps": 0}, "rewards.reasoning_steps.steps = 0: expected 1 or more"),
        ("repetition_penalty", {"ngram": 0}, "rewards.repetition_penalty.ngram = 0: expected 1 or more"),
        ("repetition_penalty", {"max_penalty": 1.0}, "expected at most 0"),
        (
            "soft_overlong",
            {"max_len": 10, "cache": 10},
            "rewards.soft_overlong.cache = 10: expected 0 or more",
        ),
        ("soft_overlong", {"max_len": -5}, "rewards.soft_overlong.max_len = -5: expected 0 or more"),
        ("length", {"speed": 1}, "speed"),
    ],
)
def test_impossible_parameters_are_named(name, parameters, message):
    config = RunConfig.model_validate({"dataset": "d", "algo": "a", "rewards": {name: parameters}})
    with pytest.raises(TinaError, match=r"\[rewards\.") as caught:
        build_rewards(config, REGISTRY, print)
    assert message in str(caught.value)


def built(spec, warn=print, **parameters):
    """A reward as a recipe with these parameters has it."""
    known = registry.load()
    known.entries["reward"][spec.name] = [registry.Entry(spec, None)]
    config = RunConfig.model_validate({"dataset": "d", "algo": "a", "rewards": {spec.name: parameters}})
    return build_rewards(config, known, warn)[spec.name]


def problems_with(golds, kind="math"):
    return [Problem(f"id{n}", f"p{n}", gold, kind, "mine") for n, gold in enumerate(golds)]


def scored(grader, rewards, texts, golds, problems=None, scorer=None, step=1):
    """(rewards by name, the scorer) of one batch, as TRL asks for it."""
    scorer = scorer or Scorer(grader, rewards, 10, False, problems or problems_with(golds))
    given = {
        function.__name__: function(
            prompts=["p"] * len(texts),
            completions=texts,
            completion_ids=[[len(text), 1] for text in texts],
            place=range(len(texts)),
            trainer_state=SimpleNamespace(global_step=step),
        )
        for function in scorer.functions()
    }
    return given, scorer


def scorer_calls_accuracy(grader):
    texts = ["\\boxed{x+x}", "\\boxed{3x}", "nothing"]
    return scored(grader, {"accuracy": built(REWARDS["accuracy"])}, texts, ["2x"] * 3)


def test_a_training_whose_grader_fails_stops_and_one_whose_grader_works_goes_on(tmp_path, monkeypatch):
    with Grader(1) as grader:
        values, scorer = scorer_calls_accuracy(grader)
        assert values == {"accuracy": [1.0, 0.0, 0.0]}
        assert scorer.fault is None
    (tmp_path / "math_verify.py").write_text("raise ImportError('broken on purpose')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with Grader(1) as grader:
        values, scorer = scorer_calls_accuracy(grader)
        assert isinstance(scorer.fault, GraderFailing)
        assert "failed on 2 of 3 items" in str(scorer.fault)
        assert values == {"accuracy": [None] * 3}


# ---------------------------------------------------------------------------------------------------------
# What a reward may ask


TEXTS = ["\\boxed{1}", "\\boxed{2}", "nothing", "\\boxed{1}"]
GOLDS = ["1", "3", "3", "1"]
ASKED = [  # completions, golds, and which are right
    (TEXTS, GOLDS, [True, False, False, True]),
    (TEXTS[1:3], GOLDS[1:3], [False, False]),
    (TEXTS[1:], GOLDS[1:], [False, False, True]),
    (TEXTS[1:2], ["2"], [True]),
    (["\\boxed{7}", TEXTS[0]], ["7", "8"], [True, False]),
    ([], [], []),
    (TEXTS[:1] * 3, GOLDS[:1] * 3, [True, True, True]),
]


def asking(answers):
    """A reward that asks for each of ASKED and keeps what it is told."""

    def function(completions, golds, context):
        for texts, wanted, _ in ASKED:
            answers.append([v.correct for v in context.grade(texts, wanted)])
        completions.clear()
        return [0.0] * len(golds)

    return Reward(name="asking", summary="s", source="x", build=lambda: function)


def test_a_reward_gets_the_verdicts_of_what_it_asks_for_in_training():
    answers = []
    with Grader(1) as grader:
        rewards = {"asking": built(asking(answers)), "accuracy": built(REWARDS["accuracy"])}
        values, scorer = scored(grader, rewards, TEXTS, GOLDS)
    assert scorer.fault is None
    assert answers == [right for _, _, right in ASKED]
    assert values["accuracy"] == [1.0, 0.0, 0.0, 1.0]
    assert scorer.rollouts["completion"] == TEXTS


def test_each_row_is_counted_once_whatever_the_rewards_ask_for():
    with Grader(1) as grader:
        rewards = {"asking": built(asking([])), "accuracy": built(REWARDS["accuracy"])}
        _, scorer = scored(grader, rewards, ["\\boxed{1}", "\\boxed{1}", "\\boxed{2}"], ["{", "{", "2"])
    assert scorer.not_gradable == 2


def test_a_training_grades_with_kind_policy_and_problem_text():
    said_again = "Which letter? The answer is the one that you box: \\boxed{B}"
    problem = Problem("id0", said_again, "B", "choice", "mine")
    texts = ["Answer: (b)", f"{said_again} I do not know", "\\boxed{A}, no, \\boxed{B}"]
    with Grader(1) as grader:
        for policy, right in (("tina", [1, 0, 0]), ("last-box", [1, 0, 1])):
            rewards = {"accuracy": built(REWARDS["accuracy"])}
            scorer = Scorer(grader, rewards, 10, False, [problem] * 3, policy)
            values, _ = scored(grader, rewards, texts, ["B"] * 3, scorer=scorer)
            items = [item_of(problem, text, policy) for text in texts]
            assert values["accuracy"] == [v.correct for v in grader.grade(items)] == right
            assert scorer.rollouts["score"] == right


def test_rows_with_one_text_and_one_gold_are_each_graded_by_their_own_problem():
    one, other = "Say it, please: \\boxed{7}", "Say 7 in any way that you like"
    problems = [Problem("id0", other, "7", "math", "mine"), Problem("id1", one, "7", "math", "mine")]
    with Grader(1) as grader:
        values, _ = scored(grader, {"accuracy": built(REWARDS["accuracy"])}, [one, one], ["7", "7"], problems)
    assert values["accuracy"] == [1.0, 0.0]


def test_a_reward_gets_the_problems_with_their_further_columns():
    seen = []

    def function(completions, golds, context):
        seen.append((context.problems, context.problem_ids))
        return [p.extra["weight"] * 1.0 for p in context.problems]

    spec = Reward(name="weighted", summary="s", source="x", build=lambda: function, high=3)
    problems = [p._replace(extra={"weight": n}) for n, p in enumerate(problems_with("123"))]
    with Grader(1) as grader:
        values, _ = scored(grader, {"weighted": built(spec)}, ["a", "b", "c"], "123", problems)
    assert values["weighted"] == [0.0, 1.0, 2.0]
    assert seen == [(problems, ["id0", "id1", "id2"])]


# ---------------------------------------------------------------------------------------------------------
# What is kept of the rollouts


def columns(scorer, *names):
    return [scorer.rollouts[name] for name in names]


def test_the_rollouts_of_a_step_have_problem_score_and_advantage_in_the_order_of_its_completions():
    rewards = {"accuracy": built(REWARDS["accuracy"])}
    with Grader(1) as grader:
        _, scorer = scored(grader, rewards, TEXTS, ["1", "3", "", "1"])
        assert columns(scorer, "problem_id", "advantage") == [["id0", "id1", "id2", "id3"], [None] * 4]
        assert columns(scorer, "score", "gold") == [[1.0, 0.0, None, 1.0], ["1", "3", "", "1"]]
        scorer.add_advantages([[9, 1, 0], [9, 1, 0], [7, 1, 0], [9, 1, 0]], [1.0, -1.0, 0.0, 1.0])
        scored(grader, rewards, TEXTS[1:3], ["1", "3"], scorer=scorer)  # the step samples once more
        scorer.add_advantages([[9, 1], [7, 1]], [0.5, -0.5])
        assert columns(scorer, "advantage") == [[1.0, -1.0, 0.0, 1.0, 0.5, -0.5]]
        assert columns(scorer, "completion") == [TEXTS + TEXTS[1:3]]
        assert {len(values) for values in scorer.rollouts.values()} == {6}
        scored(grader, rewards, TEXTS[:2], ["1", "3"], scorer=scorer, step=2)
        assert columns(scorer, "completion", "advantage") == [TEXTS[:2], [None, None]]


@pytest.mark.parametrize("trained_on", [[[9, 1]], [[7, 1], [9, 1]], [[9, 1], [7, 1], [9, 1]], []])
def test_advantages_of_other_completions_than_were_scored_are_not_said_to_be_theirs(trained_on):
    with Grader(1) as grader:
        _, scorer = scored(grader, {"accuracy": built(REWARDS["accuracy"])}, TEXTS[1:3], ["1", "1"])
    scorer.add_advantages(trained_on, [1.0] * len(trained_on))
    assert columns(scorer, "advantage") == [[None, None]]
    unasked = Scorer(None, {}, 10, False, [])  # the trainer scores by itself
    unasked.add_advantages(trained_on, [1.0] * len(trained_on))
    assert columns(unasked, "advantage") == [[]]


def test_without_a_reward_that_asks_for_verdicts_there_are_no_scores_and_nothing_is_graded():
    with Grader(1) as grader:
        _, scorer = scored(grader, {"format": built(REWARDS["format"])}, TEXTS, GOLDS)
        assert columns(scorer, "score") == [[None] * 4]
        assert grader.counts.total() == 0


def test_a_reward_named_as_a_column_of_ours_has_a_column_of_its_own():
    spec = Reward(name="score", summary="s", source="x", build=lambda: lambda c, g, x: [0.25] * len(c))
    with Grader(1) as grader:
        _, scorer = scored(
            grader, {"score": built(spec), "accuracy": built(REWARDS["accuracy"])}, TEXTS, GOLDS
        )
    assert columns(scorer, "score", "rewards/score") == [[1.0, 0.0, 0.0, 1.0], [0.25] * 4]


@pytest.mark.parametrize(
    ("completions", "golds", "said"),
    [
        (["a"], [], "grade was given 1 completions and 0 golds"),
        (["a"], [None], "grade was given None: completions and golds are texts"),
        ([7], ["7"], "grade was given 7: completions and golds are texts"),
    ],
)
def test_a_reward_that_asks_in_the_wrong_way_is_named(completions, golds, said):
    def function(texts, wanted, context):
        return context.grade(completions, golds)

    spec = Reward(name="odd", summary="s", source="x", build=lambda: function).offered_by("tina-odd 1.0")
    with Grader(1) as grader:
        _, scorer = scored(grader, {"odd": built(spec)}, ["a", "b"], ["1", "1"])
    assert str(scorer.fault).startswith("the reward 'odd' of tina-odd 1.0: its function, on 2 completions")
    assert said in str(scorer.fault)
    assert "id0, id1" in str(scorer.fault)


# ---------------------------------------------------------------------------------------------------------
# What a reward may give


def giving(values, **fields):
    """A reward that gives these values, whatever it is asked."""
    given = values if callable(values) else lambda: values
    spec = Reward(name="mine", summary="s", source="x", build=lambda: lambda c, g, context: given(), **fields)
    return spec.offered_by("tina-mine 1.0")


TWO = (["a", "b"], ["1", "1"], RewardContext(lambda c, g: [], problem_ids=["id0", "id1"]))


@pytest.mark.parametrize(
    "values",
    [
        [0.5, None],
        (0.5, None),
        lambda: (v for v in (0.5, None)),
        [np.float32(0.5), None],
        [torch.tensor(0.5), None],
        [Fraction(1, 2), None],
    ],
)
def test_a_list_a_tuple_or_a_generator_of_numbers_and_none_is_taken(values):
    assert built(giving(values))(*TWO) == [0.5, None]


@pytest.mark.parametrize("values", [np.array([0, 1]), torch.tensor([0.0, 1.0]), [False, True]])
def test_an_array_or_a_tensor_of_one_dimension_is_taken(values):
    found = built(giving(values))(*TWO)
    assert found == [0.0, 1.0]
    assert {type(v) for v in found} == {float}


def raises():
    raise ZeroDivisionError("division by zero")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.5, math.nan], "its function, for completion 2 of 2 (problem id1), gave nan: expected a finite"),
        ([-math.inf, 0.5], "its function, for completion 1 of 2 (problem id0), gave -inf: expected a finite"),
        ([0.5, 1e39], "(problem id1), gave 1e+39: expected a finite number"),
        ([0.5, 10**400], "(problem id1), gave 1000"),
        ([0.5, np.float64("nan")], "(problem id1), gave nan"),
        (torch.tensor([math.nan, 1.0]), "(problem id0), gave nan: expected a finite"),
        ([0.5, "0.5"], "(problem id1), gave the text '0.5': expected a finite number"),
        ([0.5, [0.5]], "(problem id1), gave a value of type list: expected a finite number"),
        ([0.5, 1j], "(problem id1), gave a value of type complex"),
        ([0.5], "its function gave 1 values: expected 2"),
        ([0.5] * 3, "its function gave more than 2 values: expected 2"),
        (lambda: iter(int, 1), "its function gave more than 2 values: expected 2"),
        ([], "its function gave 0 values: expected 2"),
        (None, "its function gave None: expected a list of 2"),
        (0.5, "its function gave 0.5: expected a list of 2"),
        ({"a": 0.5, "b": 0.5}, "its function gave a value of type dict: expected a list of 2"),
        ({0.5, 0.6}, "its function gave a value of type set: expected a list of 2"),
        ("ab", "its function gave the text 'ab': expected a list of 2"),
        (
            np.zeros((2, 1)),
            "its function gave a value of type ndarray and shape (2, 1): expected",
        ),
        (torch.tensor(0.5), "its function gave 0.5: expected a list of 2"),
        (raises, "its function, on 2 completions (problems: id0, id1), raised ZeroDivisionError: division"),
        (lambda: (raises() for _ in range(2)), "its function raised ZeroDivisionError: division by zero"),
        (lambda: sys.exit(3), "raised SystemExit: 3"),
    ],
)
def test_other_values_are_an_error_that_names_plugin_reward_and_problem(values, said):
    with pytest.raises(PluginError) as caught:
        built(giving(values))(*TWO)
    assert str(caught.value).startswith("the reward 'mine' of tina-mine 1.0: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "values", "outcome"),
    [
        ({}, [0.0, 1.0], ""),
        ({}, [7.0, 0.5], "warning: the reward 'mine' of tina-mine 1.0 gives values above 1"),
        ({}, [-7.0, 0.5], "warning: the reward 'mine' of tina-mine 1.0 gives values below 0"),
        ({"high": 1.0}, [7.0, 0.5], "(problem id0), gave 7: it declares values from 0 to 1"),
        ({"high": 1.0}, [-7.0, 0.5], "warning"),
        ({"low": -1, "high": 10}, [-1, 10], ""),
        ({"low": -1, "high": 10}, [0, 10.1], "(problem id1), gave 10.1: it declares values from -1 to 10"),
        ({"high": 0.3}, [0.1 + 0.2, 0.0], ""),
        ({"bounds": lambda: (-2, 2)}, [-2, 2], ""),
        ({"bounds": lambda: (-2, 2)}, [-2, 3], "gave 3: it declares values from -2 to 2"),
        ({"bounds": lambda: (2, -2)}, [0, 0], "its values are said to be between 2 and -2: expected two"),
        ({"bounds": lambda: (0, math.nan)}, [0, 0], "its values are said to be between 0 and nan"),
        ({"bounds": lambda: None}, [0, 0], "bounds gave None: expected a list of 2"),
        ({"low": 2}, [0, 0], "its values are said to be between 2 and 1"),
    ],
)
def test_a_declared_range_is_kept_to_and_leaving_another_one_is_a_warning(fields, values, outcome):
    said = []
    try:
        assert built(giving(values, **fields), said.append)(*TWO) == values
    except PluginError as error:
        said.append(str(error))
    assert len(said) == bool(outcome)
    assert outcome in "".join(said)


@pytest.mark.parametrize(
    ("name", "parameters", "verdict"),
    [
        ("cosine", {"min_wrong": -10.0}, False),
        ("cosine", {"max_right": 5.0}, True),
        ("repetition_penalty", {"max_penalty": -2.0}, False),
        ("soft_overlong", {"max_len": 1, "cache": 0}, False),
    ],
)
def test_parameters_move_the_range_of_a_built_in_reward(name, parameters, verdict):
    reward = built(REWARDS[name], pytest.fail, **parameters)
    context = RewardContext(lambda c, g: [SimpleNamespace(correct=verdict)], [0], ["p"], 1000)
    assert abs(reward(["a a a a a a a a"], ["2"], context)[0]) <= 10


def test_other_parameters_than_the_defaults_may_move_a_declared_range_and_are_a_warning():
    spec = Reward(
        name="mine",
        summary="s",
        source="x",
        build=lambda scale: lambda c, g, context: [scale * 1.0] * len(c),
        defaults={"scale": 1},
        low=0,
        high=1,
    )
    said = []
    assert built(spec, said.append, scale=5)(*TWO) == [5.0, 5.0]
    assert ["gives values above 1" in line for line in said] == [True, True]


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: None, "the reward 'mine' of tina-mine 1.0: build gave None: expected a function"),
        (raises, "the reward 'mine' of tina-mine 1.0: build raised ZeroDivisionError: division by zero"),
        (lambda: {}["x"], "the reward 'mine' of tina-mine 1.0: build raised KeyError: 'x'"),
        (lambda: sys.exit(), "the reward 'mine' of tina-mine 1.0: build raised SystemExit"),
        (lambda: math.sqrt(-1), "[rewards.mine] the reward 'mine' of tina-mine 1.0 cannot be built: math"),
    ],
)
def test_a_reward_that_cannot_be_built_is_named(build, said):
    spec = Reward(name="mine", summary="s", source="x", build=build).offered_by("tina-mine 1.0")
    with pytest.raises(TinaError) as caught:
        built(spec)
    assert str(caught.value).startswith(said)
