"""Rewards: bounded, deterministic, total on any text, and equal to the published formulas."""

import importlib
import math
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tina_harness import Reward, RewardContext, TinaError, registry
from tina_harness.config import RunConfig
from tina_harness.grading import Grader, GraderFailing
from tina_harness.testing import HOSTILE
from tina_harness.training.rewards import Scorer, build_rewards

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
    built = build_rewards(config, REGISTRY)
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
        build_rewards(config, REGISTRY)
    assert message in str(caught.value)


def scorer_calls_accuracy(grader):
    scorer = Scorer(grader, {"accuracy": REWARDS["accuracy"].build()}, 10, False)
    texts = ["\\boxed{x+x}", "\\boxed{3x}", "nothing"]
    state = SimpleNamespace(global_step=1)
    return scorer.functions()[0](
        prompts=["p"] * 3, completions=texts, completion_ids=[[1]] * 3, gold=["2x"] * 3, trainer_state=state
    )


def test_a_training_whose_grader_fails_stops_and_one_whose_grader_works_goes_on(tmp_path, monkeypatch):
    with Grader(1) as grader:
        assert scorer_calls_accuracy(grader) == [1.0, 0.0, 0.0]
    (tmp_path / "math_verify.py").write_text("raise ImportError('broken on purpose')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with Grader(1) as grader, pytest.raises(GraderFailing, match="failed on 2 of 3 items"):
        scorer_calls_accuracy(grader)
