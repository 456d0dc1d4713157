"""Grading: right, the same everywhere, and impossible to hang."""

import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tina_harness import TinaError
from tina_harness.grading import Grader, GraderFailing, Item, extract, rules
from tina_harness.grading.extract import POLICIES, boxed
from tina_harness.testing import HOSTILE


@pytest.fixture(scope="module")
def grader():
    with Grader(workers=2, deadline_s=5) as shared:
        yield shared


def outcome(grader, gold, answer, kind="math"):
    return grader.grade([Item(gold, f"\\boxed{{{answer}}}", kind)])[0].outcome


RIGHT = {
    "math": [
        ("50", "50\\%"), ("50\\%", "0.5"), ("50\\%", "50"), ("0.5", "50\\%"),
        ("\\pm 2", "2, -2"), ("\\pm 2", "-2,2"), ("3 \\pm \\sqrt{2}", "3 - \\sqrt2, 3 + \\sqrt2"),
        ("[0,1)", "0 \\le x < 1"), ("0 \\le x < 1", "[0,1)"), ("[0,\\sqrt2)", "0 \\le x < \\sqrt{2}"),
        ("x > 3", "(3, \\infty)"), ("(-\\infty,-1)\\cup(1,\\infty)", "x < -1 \\text{ or } x > 1"),
        ("1011_2", "1011_{2}"), ("1011_{\\text{two}}", "1011_2"), ("1011_2", "1011"),
        ("5\\text{ cm}", "5"), ("5\\text{ cm}", "5 \\mathrm{~cm}"), ("1\\text{ m}", "100\\text{ cm}"),
        ("40\\text{ feet}", "40\\text{ ft}"), ("\\$16.56", "16.56"), ("\\$5", "500 \\text{ cents}"),
        ("\\text{east}", "\\text{East}"), ("\\text{east}", "east"), ("\\text{No}", "no"),
        ("5\\text{:}30\\text{ p.m.}", "5:30 PM"), ("\\text{June 20}", "June 20"),
        ("\\text{(A)}", "A"), ("C", "\\textbf{(C)}"),
        ("025", "25"), ("27.0", "27"), ("27", "27.0"), ("10{,}000", "10,000"), ("10\\,000", "10000"),
        ("32,349", "32,\\! 349"), ("\\frac{1}{21,000}", "1/21000"),
        ("60^\\circ", "60"), ("60^{\\circ}", "60°"), ("60", "60 \\text{ degrees}"),
        ("x=5", "5"), ("5", "x = 5"), ("(p,q)=(3,2)", "(3,2)"), ("n=1,2", "1, 2"),
        ("\\frac{1}{3}", "0.333333"), ("\\frac32", "1.5"), ("2\\frac{2}{3}", "\\frac{8}{3}"),
        ("16.\\overline{6}\\%", "\\frac{50}{3}\\%"), ("1.5 \\times 10^3", "1500"), ("-5", "\u22125"),
        ("\\{1,2\\}", "2, 1"), ("9 or 3", "3 \\text{ and } 9"), ("(1, 2)", "1, 2"),
        ("\\frac{\\sqrt2}{2}", "\\frac{1}{\\sqrt 2}"), ("x^2 - 1", "(x-1)(x+1)"),
        ("x^2 + 1 = 0", "x^2 = -1"),
        ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{bmatrix}1&2\\\\3&4\\end{bmatrix}"),
        ("\\frac{1}{3} E_{1}+\\frac{2}{3} E_{2}", "\\frac{2E_2 + E_1}{3}"),
        ("M_{\\odot}^2", "M_\\odot M_\\odot"),
        ("np.arcsin(10/13)", "\\arcsin(\\frac{10}{13})"),
        ("$\\boxed{16}$", "16"), ("\\[\n36\n\\]", "36"),
    ],
    "choice": [("B", "B"), ("B", "(B)"), ("B", "\\text{B}"), ("B", "b"), ("B", "B. 42")],
    "interval": [("(1, 2)", "1 < x < 2"), ("[1, 2]", "1 \\le x \\le 2")],
    "set": [("(1, 2)", "2, 1")],
    "tuple": [("1, 2", "1, 2")],
    "text": [("Paris", "\\text{paris}")],
    "equation": [("y = 2x", "y = 2x")],
}  # fmt: skip
WRONG = {
    "math": [
        ("0.0000001", "0.0000002"), ("12345678", "12345679"), ("\\frac{1}{3}", "0.33"), ("0.5", "0.5\\%"),
        ("1011_2", "1011_3"), ("5\\text{ cm}", "5\\text{ m}"), ("24\\text{ in}^3", "24\\text{ in}^2"),
        ("8\\sqrt3\\text{ cm}", "8\\sqrt3\\text{ kg}"),
        ("[0,1)", "0 < x < 1"), ("[1,2]", "(1,2)"), ("(1,2)", "(2,1)"), ("x=5", "y=5"),
        ("204", "204 \\text{ or } 205"), ("204", "204, 205"), ("2", "\\pm 2"),
        ("\\sqrt2", "\\sqrt2 \\text{ or } \\sqrt3"), ("\\text{east}", "west"), ("\\text{No}", "Yes"),
        ("17", "\\cup"),
        ("17", "\\cup,"),
        ("E_1", "E_2"),
        ("7:30", "7:31"), ("5", "10^{10^{10}}"), ("1", "1^^^^2"),
    ],
    "choice": [("B", "C"), ("B", "\\text{Both}"), ("B", "B or C".replace("B", "A"))],
    "set": [("(1, 2)", "1, 3")],
    "tuple": [("1, 2", "2, 1")],
    "equation": [("y = 2x", "2x")],
    "text": [("Paris", "London")],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "pairs"), RIGHT.items())
def test_right_answers_are_right(grader, kind, pairs):
    wrongly = [(g, a) for g, a in pairs if outcome(grader, g, a, kind) != "correct"]
    assert wrongly == []


@pytest.mark.parametrize(("kind", "pairs"), WRONG.items())
def test_wrong_answers_are_wrong(grader, kind, pairs):
    wrongly = [(g, a) for g, a in pairs if outcome(grader, g, a, kind) != "incorrect"]
    assert wrongly == []


@pytest.mark.parametrize("gold", ["", "  ", "10^{10^{10}}", "\\frac{1}{0}", "\\div", "9" * 5000])
def test_a_gold_that_cannot_be_read_is_the_golds_fault(grader, gold):
    verdict = grader.grade([Item(gold, "\\boxed{5}")])[0]
    assert (verdict.outcome, verdict.correct) == ("bad_gold", None)
    assert verdict.rule


# ---------------------------------------------------------------------------------------------------------
# The policy


@pytest.mark.parametrize(
    ("completion", "answers"),
    [
        ("\\boxed{5}", ("5",)),
        ("first \\boxed{5}, again \\boxed{ 5 }", ("5",)),
        ("<think>\\boxed{5}</think> so \\boxed{6}", ("6",)),
        ("<think>\\boxed{5}</think> so it is", ()),
        ("<think>\\boxed{5}", ()),
        ("\\boxed{204} or \\boxed{205}", ("204", "205")),
        ("\\boxed{\\boxed{7}}", ("7",)),
        ("\\boxed{\\frac{1}{2}}", ("\\frac{1}{2}",)),
        ("\\boxed{5", ()),
        ("\\boxed{} \\boxed{\\phantom{2}} \\boxed{4}", ("4",)),
        ("the final answer is $\\boxed{ANSWER}$", ()),
        ("<answer>9</answer>", ("9",)),
        ("<answer> </answer>", ()),
        ("5", ()),
    ],
)
def test_the_answer_is_the_box_of_the_final_answer(completion, answers):
    assert extract(completion).texts == answers


def test_boxes_have_to_agree(grader):
    assert grader.grade([Item("204", "\\boxed{204} or \\boxed{205}")])[0].outcome == "incorrect"
    assert grader.grade([Item("205", "\\boxed{204}, no: \\boxed{205}")])[0].outcome == "incorrect"
    assert grader.grade([Item("1/2", "\\boxed{0.5}, which is \\boxed{\\frac12}")])[0].outcome == "correct"
    assert grader.grade([Item("2, 3", "\\boxed{3} and \\boxed{2}")])[0].outcome == "correct"


def test_an_echo_of_the_prompt_is_no_answer(grader):
    prompt = "What is 2 + 3? For example, for 1 + 4 one writes \\boxed{5}."
    assert grader.grade([Item("5", prompt, prompt=prompt)])[0].outcome == "no_answer"
    assert grader.grade([Item("5", prompt + " \\boxed{5}", prompt=prompt)])[0].outcome == "correct"


def test_other_harnesses_rules_are_there_by_name(grader):
    from math_verify import parse, verify
    from trl.rewards import accuracy_reward

    pairs = [
        ("5", "<think>\\boxed{5}</think>\\boxed{6}"), ("5", "the answer is 5"),
        ("205", "\\boxed{204} \\boxed{205}"),
        ("1/2", "$\\frac{1}{2}$"), ("\\text{east}", "\\boxed{East}"), ("7", "nothing"),
        ("1011_2", "\\boxed{1011_3}"),
    ]  # fmt: skip
    for gold, text in pairs:
        same = verify(parse(f"${gold}$"), parse(text))
        assert grader.grade([Item(gold, text, policy="math-verify")])[0].correct is same
        reward = accuracy_reward([[{"content": text}]], [gold])[0]
        assert grader.grade([Item(gold, text, policy="trl")])[0].correct == (
            None if reward is None else reward == 1
        )
    assert grader.grade([Item("205", "\\boxed{204} \\boxed{205}", policy="last-box")])[0].outcome == "correct"
    assert grader.grade([Item("5", "5", policy="bare")])[0].outcome == "correct"
    with pytest.raises(TinaError, match="did you mean 'last-box'"):
        grader.grade([Item("5", "5", policy="lastbox")])


def test_a_benchmark_can_choose_its_policy():
    from tina_harness import Benchmark

    fields = {"name": "b", "summary": "s", "source": "u"}
    assert Benchmark(**fields).answer_policy == "tina"
    assert Benchmark(**fields, answer_policy="math-verify").answer_policy in POLICIES


# ---------------------------------------------------------------------------------------------------------
# Whatever the input


def test_hostile_completions_get_a_verdict_and_no_reward(tmp_path):
    with Grader(workers=2, deadline_s=1, memory_mb=512) as grader:
        items = [Item(h.gold, h.completion) for h in HOSTILE]
        verdicts = grader.grade(items)
        paid = [h.name for h, v in zip(HOSTILE, verdicts, strict=True) if (v.correct is True) != h.right]
        assert paid == []
        assert [v for v in verdicts if v.outcome == "error"] == []
        assert grader.grade([Item("x^2", "\\boxed{x \\cdot x}")])[0].outcome == "correct"
    assert list(tmp_path.iterdir()) == []  # no code of theirs ran


def test_memory_is_limited_and_the_next_item_unaffected():
    with Grader(workers=1, deadline_s=20, memory_mb=100) as grader:
        greedy = grader.grade([Item("1", "\\boxed{(x+y+z+w+v+1)^{400}}")])[0]
        assert greedy.outcome in ("timeout", "incorrect")
        for process in grader.processes():
            assert psutil.Process(process).memory_info().rss < 400 * 2**20
        assert grader.grade([Item("2x", "\\boxed{x+x}")])[0].outcome == "correct"


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.text(
        alphabet=st.one_of(st.characters(), st.sampled_from(list("\\{}[]()^_$%0123456789xy,.=<>|&!+-*/")))
    ),
    st.text(alphabet=st.one_of(st.characters(), st.sampled_from(list("\\{}$%0123456789x,.=")))),
    st.sampled_from(rules.KINDS),
)
def test_our_own_rules_are_total_and_know_equal_texts(gold, answer, kind):
    assert rules.compare(gold, answer, kind).same in (True, False, None)
    assert isinstance(rules.kind_of(gold), str)
    assert isinstance(boxed(gold), list)
    assert extract(gold).rule
    if rules.read(gold) is not None and kind == "math":
        assert rules.compare(gold, gold, kind).same is True


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(alphabet="\\{}^_$%0123456789xyfrac,.=<>|&!+-*/ ", max_size=40))
def test_random_answers_do_not_break_the_grader(text):
    with_shared = _shared()
    assert with_shared.grade([Item("2x", f"\\boxed{{{text}}}")])[0].outcome != "error"


def _shared(found=[]):  # noqa: B006  (one grader for all of hypothesis' examples)
    if not found:
        found.append(Grader(workers=1, deadline_s=5))
    return found[0]


# ---------------------------------------------------------------------------------------------------------
# Wherever it runs

MIXED = [
    Item("2x", "\\boxed{x+x}"),
    Item("2x", "\\boxed{3x}"),
    Item("5", "\\boxed{5}"),
    Item("", "\\boxed{5}"),
]
EXPECTED = ["correct", "incorrect", "correct", "bad_gold"]


def outcomes(items=MIXED, **settings_):
    with Grader(**settings_) as grader:
        return [v.outcome for v in grader.grade(items)]


def test_verdicts_do_not_depend_on_workers_order_or_batch():
    pairs = [
        ("x+1", "1+x"),
        ("x+1", "x"),
        ("5", "5"),
        ("\\sqrt4 x", "2x"),
        ("y", ""),
        ("\\div", "1"),
        ("x+1", "1+x"),
    ]
    items = [Item(g, f"\\boxed{{{a}}}") for g, a in pairs]
    one = outcomes(items, workers=1)
    assert one == ["correct", "incorrect", "correct", "correct", "no_answer", "bad_gold", "correct"]
    assert outcomes(items, workers=3) == one
    assert outcomes(items[::-1], workers=2) == one[::-1]
    assert [outcomes([item], workers=1)[0] for item in items[:2]] == one[:2]


def test_it_works_from_threads_and_from_asyncio(grader):
    results = []
    threads = [
        threading.Thread(target=lambda: results.append([v.outcome for v in grader.grade(MIXED)]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [EXPECTED] * 4

    async def both():
        inside = grader.grade(MIXED)
        return inside, await asyncio.to_thread(grader.grade, MIXED)

    assert [[v.outcome for v in batch] for batch in asyncio.run(both())] == [EXPECTED] * 2


def _in_child(queue):
    queue.put(outcomes())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_it_works_in_processes_of_either_start_method_daemonic_or_not(method):
    context = multiprocessing.get_context(method)
    for daemon in (False, True):
        queue = context.Queue()
        process = context.Process(target=_in_child, args=(queue,), daemon=daemon)
        process.start()
        assert queue.get(timeout=120) == EXPECTED
        process.join(60)
        assert process.exitcode == 0


SCRIPTS = {
    "a script without a main guard": "",
    "torch loaded": "import torch; torch.ones(2) @ torch.ones(2)\n",
    "the start method fork": "import multiprocessing; multiprocessing.set_start_method('fork')\n",
}
SCRIPT = """
from tina_harness.grading import Grader, Item
with Grader() as grader:
    print([v.outcome for v in grader.grade([Item("2x", "\\\\boxed{x+x}"), Item("2x", "\\\\boxed{3x}")])])
"""


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_works_in(name, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPTS[name] + SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip() == "['correct', 'incorrect']", done.stderr
    assert done.returncode == 0


def test_a_grader_that_was_started_before_a_fork_works_in_the_child():
    code = """
import os
from tina_harness.grading import Grader, Item
grader = Grader()
grader.grade([Item("2x", "\\\\boxed{x+x}")])
if (child := os.fork()) == 0:
    print([v.outcome for v in grader.grade([Item("3x", "\\\\boxed{x+2x}")])], flush=True)
    grader.close()
    os._exit(0)
print(os.waitpid(child, 0)[1], [v.outcome for v in grader.grade([Item("4x", "\\\\boxed{x+2x}")])])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.split("\n")[:2] == ["['correct']", "0 ['incorrect']"], done.stderr


class _Graded:
    """A dataset that grades in `__getitem__`, as a reward computed by a DataLoader's workers does."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return outcomes(workers=1)


def test_it_works_in_the_workers_of_a_dataloader():
    from torch.utils.data import DataLoader

    loader = DataLoader(_Graded(), batch_size=None, num_workers=2)
    assert list(loader) == [EXPECTED, EXPECTED]


def test_it_works_in_a_ray_worker():
    ray = pytest.importorskip("ray", reason="Ray is not installed")

    def graded(pairs):  # sent by value: the worker cannot import this module
        with Grader() as grader:
            return [v.outcome for v in grader.grade([Item(g, c) for g, c in pairs])]

    ray.init(num_cpus=2, include_dashboard=False)
    try:
        pairs = [(item.gold, item.completion) for item in MIXED]
        assert ray.get(ray.remote(graded).remote(pairs)) == EXPECTED
    finally:
        ray.shutdown()


def test_workers_end_when_their_caller_is_killed():
    code = """
import time
from tina_harness.grading import Grader, Item
grader = Grader(1)
grader.grade([Item("2x", "\\\\boxed{x+x}")])
print(*grader.processes(), flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    worker = int(process.stdout.readline())
    process.kill()
    process.wait()
    psutil.wait_procs([psutil.Process(worker)] if psutil.pid_exists(worker) else [], timeout=60)
    assert not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE


# ---------------------------------------------------------------------------------------------------------
# Whatever happens to the workers


def test_every_item_gets_its_verdict_while_workers_are_killed():
    items = [Item(f"{n}x + {n}", f"\\boxed{{{n}(x + {1 + n % 2})}}") for n in range(1, 600)]
    expected = ["incorrect" if n % 2 else "correct" for n in range(1, 600)]
    done = threading.Event()
    killed = 0
    with Grader(workers=2, deadline_s=30) as grader:

        def kill():
            nonlocal killed
            times = 0  # an item that loses its worker a third time is given up
            while times < 2 and not done.wait(1):
                processes = grader.processes()
                times += bool(processes)
                for process in processes:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                        killed += 1

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            verdicts = grader.grade(items)
        finally:
            done.set()
            killer.join()
        assert [v.outcome for v in verdicts] == expected
        assert killed >= 2
        assert grader.counts == {
            "correct": expected.count("correct"),
            "incorrect": expected.count("incorrect"),
        }


@contextlib.contextmanager
def frozen(grader, when, times):
    """Stop (SIGSTOP) the newest worker process, so often, as soon as `when(process id)` says so."""
    done, stopped = threading.Event(), []

    def freeze():
        while len(stopped) < times and not done.wait(0.01):
            for process in grader.processes():
                if process not in stopped and when(process):
                    os.kill(process, signal.SIGSTOP)
                    stopped.append(process)

    freezer = threading.Thread(target=freeze)
    freezer.start()
    try:
        yield stopped
    finally:
        done.set()
        freezer.join()


def test_a_worker_that_is_frozen_before_it_takes_an_item_costs_a_retry_and_no_wrong_verdict():
    with Grader(workers=1, deadline_s=3) as grader:
        assert grader.grade([Item("2x", "\\boxed{x+x}")])[0].outcome == "correct"
        (process,) = grader.processes()
        os.kill(process, signal.SIGSTOP)
        assert [v.outcome for v in grader.grade([Item("3x", "\\boxed{x+2x}")])] == ["correct"]
        assert process not in grader.processes()
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_worker_that_is_frozen_in_the_middle_of_an_item_costs_a_retry_and_no_wrong_verdict():
    items = [Item(f"{n}x + {n}", f"\\boxed{{{n}(x + 1)}}") for n in range(1, 200)]
    with Grader(workers=2, deadline_s=4) as grader, frozen(grader, lambda _: bool(grader.counts), 2):
        grader.grade(items[:2])
        verdicts = grader.grade(items)
    assert {v.outcome for v in verdicts} == {"correct"}


@pytest.mark.slow
def test_a_worker_that_is_frozen_while_it_starts_is_replaced(monkeypatch):
    monkeypatch.setattr("tina_harness.grading.workers._STARTING_S", 10)
    with Grader(workers=1) as grader, frozen(grader, lambda _: True, 1) as stopped:
        assert grader.grade([Item("2x", "\\boxed{x+x}")])[0].outcome == "correct"
        assert len(stopped) == 1


@pytest.mark.slow
def test_workers_that_never_start_are_an_error_that_says_how_they_ended(tmp_path, monkeypatch):
    (tmp_path / "math_verify.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.syspath_prepend(str(tmp_path))
    with (
        Grader(workers=1) as grader,
        pytest.raises(TinaError, match="could not be started, 3 times in a row"),
    ):
        grader.grade([Item("2x", "\\boxed{x+x}")])


def test_workers_that_cannot_work_are_an_error_that_is_counted_and_stops_a_run(tmp_path, monkeypatch):
    (tmp_path / "math_verify.py").write_text("raise ImportError('broken on purpose')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with Grader(workers=1) as grader:
        items = [Item("2x", "\\boxed{x+x}"), Item("2x", "\\boxed{2x+y}"), Item("5", "\\boxed{5}")]
        verdicts = grader.grade(items)
        assert [v.outcome for v in verdicts] == ["error", "error", "correct"]
        assert [v.correct for v in verdicts] == [None, None, True]
        assert "broken on purpose" in verdicts[0].rule
        assert grader.counts["error"] == 2
        with pytest.raises(GraderFailing, match="failed on 2 of 3 items"):
            grader.check()


def test_one_failure_in_many_does_not_stop_a_run(grader):
    with Grader() as fresh:
        fresh.counts.update({"correct": 500, "error": 5})
        fresh.check()
        fresh.counts.update({"error": 3})
        with pytest.raises(GraderFailing):
            fresh.check()


@pytest.mark.parametrize("bad", [{"workers": 0}, {"deadline_s": 0}, {"memory_mb": -1}])
def test_impossible_limits_are_refused(bad):
    with pytest.raises(TinaError, match="above 0"):
        Grader(**bad)


# ---------------------------------------------------------------------------------------------------------
# Real rows


@pytest.fixture
def corpora():
    """A folder with grading/ and golds/: real completions and golds."""
    folder = os.environ.get("TINA_GRADING_DATA")
    if not folder:
        pytest.skip(
            "needs real completions and golds: set TINA_GRADING_DATA to a folder with grading/ and golds/"
        )
    return Path(folder)


def test_800_real_completions_agree_with_their_recorded_verdicts(corpora, grader):
    import pyarrow.parquet as pq

    rows = pq.read_table(corpora / "grading" / "qwen_math_cot_100x8.parquet").to_pylist()
    verdicts = grader.grade([Item(r["gold"], r["prediction"]) for r in rows])
    off = [
        r["gold"]
        for r, v in zip(rows, verdicts, strict=True)
        if v.correct is not (str(r["expected"]) == "True")
    ]
    assert len(rows) == 800
    assert off == ["10{,}000"]  # against 10000: the recorded verdict is wrong


def test_every_real_gold_grades_itself_or_says_why_not(corpora, grader):
    import pyarrow.parquet as pq

    rows = pq.read_table(corpora / "golds" / "deepscaler-odd-golds" / "train.parquet").to_pylist()
    golds = [r["answer"] for r in rows]
    verdicts = grader.grade([Item(g, g, policy="bare") for g in golds])
    bad = [(g, v.outcome) for g, v in zip(golds, verdicts, strict=True) if v.outcome != "correct"]
    assert len(golds) == 1377
    assert {o for _, o in bad} <= {"bad_gold"}
    assert len([g for g, _ in bad if g.strip()]) <= 2
    floats = pq.read_table(corpora / "golds" / "AMC-23-floatstr" / "train.parquet").to_pylist()
    assert all(outcome(grader, r["answer"], str(int(float(r["answer"])))) == "correct" for r in floats)


# ---------------------------------------------------------------------------------------------------------
# The command


def test_grade_says_what_and_explains_why(tina):
    done = tina("grade", "\\frac{1}{2}", "0.5")
    assert (done.returncode, done.stdout.strip()) == (0, "correct")
    done = tina("grade", "204", "\\boxed{204} or \\boxed{205}", "--explain")
    assert done.returncode == 1
    assert "verdict         incorrect" in done.stdout
    assert "decided by      2 different answers" in done.stdout
    shown = json.loads(tina("grade", "x^2", "x \\cdot x", "--json").stdout)
    assert (shown["verdict"], shown["gold_form"]) == ("correct", "x**2")


def test_grade_writes_a_file_of_verdicts(tina, tmp_path):
    rows = [
        {"gold": "1/2", "prediction": "so \\boxed{0.5}", "id": 7},
        {"gold": "B", "prediction": "Answer: C", "kind": "choice"},
        {"gold": "x+1", "prediction": "\\boxed{1+x}"},
        {"gold": None, "prediction": "5"},
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    done = tina("grade", "--file", "pairs.jsonl", "--out", "verdicts.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    assert {r["verdict"]: r["rows"] for r in json.loads(done.stdout)} == {
        "correct": 2,
        "incorrect": 1,
        "bad_gold": 1,
    }
    written = [json.loads(line) for line in Path("verdicts.jsonl").read_text().splitlines()]
    assert [w["verdict"] for w in written] == ["correct", "incorrect", "correct", "bad_gold"]
    assert written[0]["id"] == 7
    assert written[0]["answer"] == "0.5"
    assert written[0]["seconds"] >= 0


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_grade_reads_tables(tina, suffix):
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    table = pa.table({"gold": ["5", "7"], "prediction": ["\\boxed{5}", "\\boxed{8}"]})
    write = pa.csv.write_csv if suffix == "csv" else pa.parquet.write_table
    write(table, f"pairs.{suffix}")
    assert tina("grade", "--file", f"pairs.{suffix}", "--out", "out.jsonl").returncode == 0
    assert [json.loads(x)["verdict"] for x in Path("out.jsonl").read_text().splitlines()] == [
        "correct",
        "incorrect",
    ]


FILE = ["--file", "a.jsonl", "--out", "b.jsonl"]


@pytest.mark.parametrize(
    ("words", "content", "message"),
    [
        (["5", "5", "--kind", "numbr"], "", "did you mean 'number'?"),
        (["5", "5", "--policy", "bear"], "", "did you mean 'bare'?"),
        (["5"], "", "GOLD and ANSWER are missing"),
        (FILE, '{"gold": "5", "pred": "5"}', "row 1: there is no column 'prediction'"),
        (FILE, "gold", "a.jsonl, line 1: not JSON"),
        (FILE, '{"gold":"5","prediction":"5","kind":"txt"}', "did you mean 'text'?"),
        (["--file", "a.jsonl"], "{}", "--file goes with --out"),
        (["--file", "b.jsonl", "--out", "c.jsonl"], "{}", "there is no file b.jsonl"),
        (["--file", "a.xlsx", "--out", "c.jsonl"], "{}", "not a .parquet, .jsonl, .csv file"),
        (["--file", "a.jsonl", "--out", "no/b"], '{"gold":5,"prediction":5}', "cannot write no/b"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_error(tina, words, content, message):
    Path("a.jsonl").write_text(content)
    done = tina("grade", *words)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_time_is_spent_once_on_equal_pairs():
    with Grader(workers=1) as grader:
        grader.grade([Item("2x", "\\boxed{x+x}")])
        before = psutil.Process(grader.processes()[0]).cpu_times().user
        grader.grade([Item("2x", f"{n} times \\boxed{{x+x}}") for n in range(5000)])
        assert psutil.Process(grader.processes()[0]).cpu_times().user < before + 0.5  # seconds
