"""From rows to problems and prompts."""

import gzip
import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tina_harness import Benchmark, Dataset, TinaError, registry
from tina_harness.data import ChatTokenizer, load_problems, messages, write_quarantine
from tina_harness.data.load import problem_id, unwrap
from tina_harness.grading import Grader, Item
from tina_harness.provenance import resolved_of
from tina_plugins.arithmetic import is_heldout, problems
from tina_plugins.benchmarks import gpqa
from tina_plugins.models.nano import folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A mirror of our own: hub("owner/name", split, rows) writes rows of that repository."""
    monkeypatch.setenv("TINA_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "mirror").mkdir()

    def write(repo, file, rows):
        path = tmp_path / "mirror" / repo / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(r) + "\n" for r in rows))
        else:
            pq.write_table(pa.Table.from_pylist(rows), path)
        return path

    return write


def spec(**fields):
    return Dataset(**{"name": "mine", "summary": "s", "source": "x", "repo": "me/mine", **fields})


ROWS = [{"problem": f"What is {i}?", "answer": str(i), "noise": "n" * 10} for i in range(5)]


@pytest.mark.parametrize("file", ["train.parquet", "data/train-00000-of-00001.parquet", "train.jsonl"])
def test_a_mirror_holds_files_as_on_the_hub(hub, file):
    hub("me/mine", file, ROWS)
    loaded = load_problems(spec(), {})
    assert [p.gold for p in loaded.problems] == ["0", "1", "2", "3", "4"]
    assert loaded.origin.startswith("mirror ")


def test_a_config_and_a_split_choose_their_files(hub):
    hub("me/mine", "hard/test.parquet", ROWS[:2])
    hub("me/mine", "easy/test.parquet", ROWS[:1])
    assert len(load_problems(spec(config="hard", split="test"), {}).problems) == 2


def test_files_with_names_of_their_own_are_found_as_the_repositorys_card_says(hub):
    hub("me/mine", "limr.jsonl", ROWS)
    assert len(load_problems(spec(), {}).problems) == 5
    hub("me/cards", "one.jsonl", ROWS[:1])
    card = hub("me/cards", "two.jsonl", ROWS[:2]).with_name("README.md")
    card.write_text(
        "---\nconfigs:\n- config_name: one\n  data_files: one.jsonl\n"
        "- config_name: two\n  data_files: two.jsonl\n---\n"
    )
    assert len(load_problems(spec(repo="me/cards", config="two"), {}).problems) == 2


def test_the_fingerprint_does_not_depend_on_the_order_of_rows(hub):
    hub("me/mine", "train.parquet", ROWS)
    hub("me/other", "train.parquet", ROWS[::-1])
    same = load_problems(spec(), {}).fingerprint == load_problems(spec(repo="me/other"), {}).fingerprint
    assert same
    hub("me/less", "train.parquet", ROWS[:4])
    assert load_problems(spec(), {}).fingerprint != load_problems(spec(repo="me/less"), {}).fingerprint


def test_rows_without_a_gold_are_set_aside_and_counted(hub):
    hub("me/mine", "train.parquet", [*ROWS, {"problem": "p", "answer": "", "noise": ""}])
    loaded = load_problems(spec(), {})
    assert [(s.row, s.reason) for s in loaded.set_aside] == [(5, "no gold answer")]


def test_what_is_missing_is_named(hub, tmp_path, monkeypatch):
    hub("me/mine", "train.parquet", ROWS)
    with pytest.raises(TinaError, match=r"no column 'solution'.*\n.*it has: problem, answer, noise"):
        load_problems(spec(answer="solution"), {})
    with pytest.raises(TinaError, match=r"no rows of split 'test'.*\n.*train\.parquet"):
        load_problems(spec(split="test"), {})
    with pytest.raises(TinaError, match=r"could not be loaded from the hub(.|\n)*TINA_MIRROR=DIR"):
        load_problems(spec(repo="me/nothing"), {})
    hub("me/empty", "train.parquet", [{"problem": "p", "answer": ""}])
    with pytest.raises(TinaError, match=r"no usable row.*\n.*no gold answer"):
        load_problems(spec(repo="me/empty"), {})
    monkeypatch.setenv("TINA_MIRROR", str(tmp_path / "elsewhere"))
    with pytest.raises(TinaError, match="not a folder"):
        load_problems(spec(), {})


def test_a_damaged_file_is_named(hub):
    path = hub("me/mine", "train.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TinaError, match=r"train\.parquet cannot be read"):
        load_problems(spec(), {})


def test_answer_after_takes_what_follows_the_marker(hub):
    hub("me/mine", "train.parquet", [{"problem": "p", "answer": "2 + 2 #### 4"}])
    assert load_problems(spec(answer_after="####"), {}).problems[0].gold == "4"


@pytest.mark.parametrize(
    ("wrapped", "gold"),
    [
        ("$5$", "5"),
        ("$$\\boxed{5}$$", "5"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("27.0", "27"),
        ("$x$ and $y$", "$x$ and $y$"),
        ("\\boxed{1} or \\boxed{2}", "\\boxed{1} or \\boxed{2}"),
        (" 025 ", "025"),
        ("2.50", "2.50"),
    ],
)
def test_golds_are_unwrapped_once(wrapped, gold):
    assert unwrap(wrapped) == gold
    assert unwrap(gold) == gold


def test_the_id_of_a_problem_ignores_white_space_only():
    assert problem_id("a  b\n") == problem_id("a b") != problem_id("ab")


def test_the_splits_of_arithmetic_are_disjoint_and_the_same_everywhere():
    train, held = problems("train", 2000, 1), problems("heldout", 200)
    assert not {q for q, _ in train} & {q for q, _ in held}
    assert all(is_heldout(q.removeprefix("What is ").removesuffix("?")) for q, _ in held)
    assert len(dict(train)) == 2000
    assert problems("train", 5, 1) == train[:5]
    assert problems("train", 5, 2) != train[:5]
    digest = hashlib.sha256(repr(held).encode()).hexdigest()
    assert digest.startswith(HELDOUT_SHA256), "the held-out problems changed: published scores would too"
    with pytest.raises(ValueError, match="fewer than"):
        problems("heldout", 10**6)


HELDOUT_SHA256 = "168b06ef88f2f42a"


def test_gpqas_options_keep_their_order_and_the_right_one_its_letter(hub):
    rows = [
        {
            "Question": f"Q{i}?",
            "Correct Answer": f"right {i}",
            **{f"Incorrect Answer {k}": f"wrong {i} {k}" for k in (1, 2, 3)},
            "Record ID": f"rec{i}",
        }
        for i in range(198)
    ]
    hub("Idavidrein/gpqa", "gpqa_diamond.parquet", rows)
    hub("Idavidrein/gpqa", "gpqa_diamond/train.parquet", rows)
    benchmark = registry.load().get(Benchmark, "gpqa")
    loaded = load_problems(benchmark, {})
    again = load_problems(benchmark, {})
    assert loaded.problems == again.problems
    for i, problem in enumerate(loaded.problems):
        assert f"{problem.gold}) right {i}" in problem.problem
    counts = {letter: sum(p.gold == letter for p in loaded.problems) for letter in gpqa.LETTERS}
    assert min(counts.values()) > 30


def test_golds_that_cannot_be_read_are_set_aside_with_the_reason_and_kept_in_the_quarantine(hub, tmp_path):
    golds = ["5", "\\div", "", "\\frac{1}{2}", "\\sqrt{x", "$\\boxed{7.0}$"]
    hub("me/mine", "train.parquet", [{"problem": f"p{i}", "answer": g} for i, g in enumerate(golds)])
    loaded = load_problems(spec(), {})
    assert [p.gold for p in loaded.problems] == ["5", "\\frac{1}{2}", "7"]
    assert loaded.rows == (0, 3, 5)
    reasons = {s.row: s.reason for s in loaded.set_aside}
    assert reasons[2] == "no gold answer"
    assert reasons[1].startswith("the gold cannot be read: ")
    assert 4 in reasons
    write_quarantine(loaded.set_aside, tmp_path / "q.parquet")
    assert pq.read_table(tmp_path / "q.parquet").column("row").to_pylist() == [1, 2, 4]


def test_one_bad_row_of_a_file_of_ones_own_is_named(tmp_path):
    def load(name, data):
        path = tmp_path / name
        path.write_bytes(data)
        return load_problems(spec(repo="", files=str(path)), {})

    good = b'{"problem": "1+1?", "answer": 2}\n'
    assert load("a.jsonl", good + b'\n{"problem": "1+2?", "answer": "3"}\n').problems[1].gold == "3"
    assert [p.gold for p in load("m.jsonl", good + b'{"problem": "x", "answer": [4]}').problems] == ["2", "4"]
    for name, data, message in (
        ("b.jsonl", good + b'{"problem": "1+', r"b\.jsonl, line 2: not JSON"),
        ("c.jsonl", good + b'{"problem": "\xff"}', r"c\.jsonl, line 2: not UTF-8"),
        ("d.jsonl", good + b"[1]", r"d\.jsonl, line 2: not a JSON object"),
        ("e.jsonl", b'{"question": "q", "answer": 1}', r"no column 'problem'\n  it has: question, answer"),
        ("f.jsonl", b"", "has no usable row"),
        ("g.csv", b"problem,answer\n\xff,1\n", r"g\.csv, line 2: not UTF-8: .* at byte 1 of the line"),
        ("h.csv", b"question,answer\n1,1\n", "no column 'problem'"),
        ("i.parquet", b"PAR1 half a file", r"i\.parquet cannot be read"),
        ("j.txt", b"x", r"not a \.parquet, \.jsonl, .*\.csv file"),
    ):
        with pytest.raises(TinaError, match=message):
            load(name, data)
    assert load("k.csv", b'problem,answer\n"1,000 + 1?",025\n').problems[0].gold == "025"


HEADER = b"problem,answer\n"
BIG = "123456789012345678901234567890"
# file name, content -> golds, or what the error says
CONTENTS = [
    ("a.csv", HEADER + b"p,007\nq,0.10\nr,1e5\ns,27.0\n", ["007", "0.10", "1e5", "27"]),
    ("b.csv", HEADER + f"p,{BIG}\nq,NaN\nr,null\ns,true\n".encode(), [BIG, "NaN", "null", "true"]),
    ("c.csv", b"\xef\xbb\xbf" + HEADER + b'"two\nlines, ""q""",025\r\n\r\nq,""\n', ["025"]),
    ("D.CSV", HEADER + b"p,1\n" + b'"' + b"long " * 300_000 + b'",2\n', ["1", "2"]),
    ("e.csv", HEADER + b"p,1\nq,1,000\n", "line 3: 3 cells, where the header has 2"),
    ("f.csv", HEADER + b'"a\nb",1\nq\n', "line 4: 1 cells, where the header has 2"),
    ("g.csv", b"problem,answer,answer\np,1,2\n", "the column 'answer' 2 times"),
    ("h.csv", HEADER + b'p,1\n"open,2\n', "line 3: not CSV"),
    ("i.csv", HEADER + b"p,1\n\xe9,2\n", "line 3: not UTF-8"),
    ("j.csv", HEADER, "has no usable row"),
    ("k.csv", b"", "has no usable row"),
    ("l.jsonl", b'{"problem": "p", "answer": 7}\n\n{"problem": "q", "answer": "7"}\n'
     b'{"problem": "r", "answer": [7]}\n{"problem": "s", "answer": [7, 8]}\n'
     b'{"problem": "t", "answer": true}\n{"problem": 8}\n', ["7", "7", "7", "true"]),
    ("m.jsonl", f'{{"problem": "p", "answer": {BIG}}}\n{{"problem": "q", "answer": -1}}'.encode(),
     [BIG, "-1"]),
    ("n.jsonl", b'{"problem": "p", "answer": 27.0}\n{"problem": "q", "answer": 1e400}\n'
     b'{"problem": "r", "answer": NaN}\n{"problem": "s", "answer": 0.1000000000000000055}\n'
     b'{"problem": "t", "answer": 1e5}\n{"problem": "u", "answer": 1e23}',
     ["27", "1" + 400 * "0", "0.1000000000000000055", "100000", "1" + 23 * "0"]),
    ("O.JSONL", b'\xef\xbb\xbf{"problem": "\\ud800 p", "answer": "0.10", "other": {"x": [1, "2"]}}',
     ["0.10"]),
    ("p.jsonl", b'{"problem": "p", "answer": 1, "answer": 2}', "line 1: .*'answer' is there twice"),
    ("q.jsonl", b'{"problem": "p", "answer": 1}\n[1]', "line 2: not a JSON object"),
    ("r.jsonl", b'{"problem": "p", "answer": 1}\n{"problem": ', "line 2: not JSON"),
    ("s.jsonl", b'{"question": "p", "answer": 1}', "no column 'problem'\\n  it has: question, answer"),
    ("t.json", b'[{"problem": "p", "answer": 1},\n {"problem": "q", "answer": "07"}]\n', ["1", "07"]),
    ("u.json", b'{"problem": "p",\n "answer": 1.50}\n{"problem": "q", "answer": null}', ["1.50"]),
    ("v.json", b'[{"problem": "p", "answer": 1},\n 7]', "item 2: not a JSON object"),
    ("w.json", b'[{"problem": "p", "answer": 1},\n {"problem": }]', "line 2: not JSON"),
    ("x.json", b"[]", "has no usable row"),
    ("y.jsonl.gz", gzip.compress(b'{"problem": "p", "answer": 7}\n{"problem": "q", "answer": "07"}'),
     ["7", "07"]),
    ("z.parquet", None, ["0.1", "7", "0.25"]),
]  # fmt: skip


@pytest.mark.parametrize("route", ["file", "mirror", "card"])
@pytest.mark.parametrize(
    ("name", "content", "expected"), CONTENTS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_file_has_the_same_golds_and_the_same_faults_by_every_route(
    hub, tmp_path, route, name, content, expected
):
    suffix = name.partition(".")[2]
    if route == "file":
        path, where = tmp_path / name, spec(repo="", files=str(tmp_path / name))
    else:
        folder = tmp_path / "mirror" / "me" / "mine"
        folder.mkdir(parents=True)
        path, where = folder / (f"train.{suffix}" if route == "mirror" else f"rows of one.{suffix}"), spec()
    if route == "card":
        where = spec(config="one", split="test")
        card = f"configs:\n- config_name: one\n  data_files:\n  - split: test\n    path: {path.name}\n"
        path.with_name("README.md").write_text(f"---\n{card}---\n# Mine\n")
    if content is None:
        floats = pa.array([0.1, 7.0, 0.25], pa.float32())
        pq.write_table(pa.table({"problem": ["p", "q", "r"], "answer": floats}), path)
    else:
        path.write_bytes(content)
    if isinstance(expected, str):
        with pytest.raises(TinaError, match=expected) as caught:
            load_problems(where, {})
        assert "no usable row" in expected or str(path) in str(caught.value)
    else:
        assert [p.gold for p in load_problems(where, {}).problems] == expected


def test_a_mirrors_card_says_what_its_names_do_not(hub, tmp_path):
    hub("me/mine", "train.jsonl", ROWS[:1])
    card = hub("me/mine", "more.jsonl", ROWS).with_name("README.md")
    card.write_text("---\nconfigs:\n- config_name: default\n  data_files: more.jsonl\n---\n")
    assert len(load_problems(spec(), {}).problems) == 5
    path = tmp_path / "mirror/me/other/train.csv"
    path.parent.mkdir()
    path.write_text("problem;answer\np;007\nq;NA\n")
    files = 'configs:\n- config_name: default\n  data_files: train.csv\n  sep: ";"\n'
    path.with_name("README.md").write_text(f"---\n{files}---\n")
    assert [p.gold for p in load_problems(spec(repo="me/other"), {}).problems] == ["007", "NA"]


def test_a_plan_says_when_a_set_has_not_the_published_number_of_rows(hub, tina, tmp_path):
    hub("GAIR/LIMR", "train.parquet", [{"prompt": f"What is {i}?", "answer": str(i)} for i in range(40)])
    words = ("run", "--dataset", "limr", "--bench", "arithmetic-heldout", "--model", "tina-nano", "--dry-run")
    done = tina(*words, env={"TINA_MIRROR": str(tmp_path / "mirror")})
    assert "limr has 40 rows here; 1389 are published" in done.stdout


def test_an_audit_counts_and_shows_what_is_wrong(tina, tmp_path):
    rows = [("What is 1+1?", "2"), ("What is 1+1?", "3"), ("What is 1+2?", "3"), ("What is  1+2?", "3.0"),
            ("Draw [asy] draw(); [/asy]", "\\sqrt{2}"), ("Что?", "5\\%"), ("<script>", "\\div")]  # fmt: skip
    (tmp_path / "mine.jsonl").write_text(
        "".join(json.dumps({"problem": p, "answer": g}) + "\n" for p, g in rows)
    )
    done = tina(
        "data", "audit", "jsonl:mine.jsonl", "--json", "--page", "mine.html", "--quarantine", "q.parquet"
    )
    found = json.loads(done.stdout)
    assert (found["rows"], found["usable"], found["duplicates"], found["repeated"]) == (7, 4, 2, 1)
    assert found["reasons"] == {"contradictory golds": 2, "the gold cannot be read": 1}
    assert [c["golds"] for c in found["contradictions"]] == [["2", "3"]]
    assert found["drawings"] == 1
    assert found["scripts"] == {"Latin": 6, "Cyrillic": 1}
    assert found["kinds"] == {"number": 2, "expression": 1, "percent": 1}
    page = (tmp_path / "mine.html").read_text()
    assert "data:image/png;base64," in page
    assert "<script>" not in page
    assert pq.read_table(tmp_path / "q.parquet").num_rows == 3
    assert "duplicated problems" in tina("data", "audit", "jsonl:mine.jsonl").stdout


@pytest.mark.parametrize(
    ("golds", "contradict"),
    [
        (["312", "179"], True),
        (["1/2", "0.5", "\\frac{1}{2}", "50\\%"], False),
        (["1/3", "0.333333", "0.3333338"], True),  # both are a third, to six decimals, and not each other
        (["\\sqrt{8}", "2\\sqrt{2}"], False),
        (["\\sqrt{8}", "2\\sqrt{2}", "\\sqrt{7}"], True),
        (["x+1", "1+x", "x+2"], True),
        (["5", "5 \\text{ cm}"], False),
        (["(1,2)", "(2,1)"], True),
        (["\\text{even}", "odd"], True),
        (["7", "7.0", "$7$"], False),
    ],
)
def test_all_rows_of_a_problem_with_contradictory_golds_are_set_aside_whatever_their_order(
    hub, golds, contradict
):
    rows = [{"problem": f"What {' ' * i}is it?", "answer": g} for i, g in enumerate(golds)]
    other = {"problem": "And 1 + 1?", "answer": "2"}
    hub("me/mine", "train.parquet", [other, *rows])
    hub("me/back", "train.parquet", [*rows[::-1], other])
    for repo in ("me/mine", "me/back"):
        loaded = load_problems(spec(repo=repo), {})
        assert len(loaded.problems) == (1 if contradict else 1 + len(golds))
        assert {s.reason.partition(":")[0] for s in loaded.set_aside} <= {"contradictory golds"}
        assert len(loaded.set_aside) + len(loaded.problems) == 1 + len(golds)
    kept = load_problems(spec(), {}, keep_contradictions=True)
    assert (len(kept.problems), kept.set_aside) == (1 + len(golds), ())


def test_contradictions_are_looked_for_among_the_rows_asked_for_and_never_in_a_benchmark(hub):
    rows = [{"problem": p, "answer": a} for p, a in (("p", "1"), ("q", "2"), ("p", "3"))]
    hub("me/mine", "train.parquet", rows)
    assert [len(load_problems(spec(), {}, limit=n).problems) for n in (1, 2, 3)] == [1, 2, 1]
    generated = load_problems(spec(repo="", rows=lambda seed: rows), {})
    assert [s.reason for s in generated.set_aside] == ["contradictory golds: 1 | 3"] * 2
    bench = Benchmark(name="b", summary="s", source="x", repo="me/mine", split="train")
    assert len(load_problems(bench, {}).problems) == 3


def test_a_run_counts_contradictory_golds_and_can_be_told_to_keep_them(tina, tmp_path):
    rows = [{"problem": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(40)]
    rows += [{"problem": "What is 0 + 1?", "answer": "2"}]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    words = ("run", "--dataset", "jsonl:mine.jsonl", "--model", "tina-nano", "--dry-run")
    words += ("--bench", "arithmetic-heldout", "--keep-overlap")
    done = tina(*words)
    assert "39 problems" in done.stdout, done.stderr
    assert "left out: 2 (contradictory golds)" in done.stdout
    kept = tina(*words, "--set", "keep_contradictions=true", "--json")
    assert json.loads(kept.stdout)["plan"]["rows"] == 41


def test_a_run_from_before_contradictions_were_set_aside_goes_on_with_the_rows_it_was_started_with():
    config = {"dataset": "arithmetic", "algo": "grpo"}
    assert resolved_of({"config": config}).config.keep_contradictions
    assert not resolved_of({"config": {**config, "keep_contradictions": False}}).config.keep_contradictions


def test_openthoughts_and_openr1_and_open_s1_rows_of_their_shape_load(hub):
    chat = [
        {"role": "user", "content": "P?"},
        {"role": "assistant", "content": "<think>\\boxed{3}</think> so \\boxed{4}"},
    ]
    row = {"problem": "P?", "solution": "no box", "messages": chat, "source": "s"}
    hub("bethgelab/CuratedThoughts", "OpenThoughts-114k-math-default/train.parquet", [row])
    row = {"problem": "P?", "answer": "$4$", "generations": ["long"] * 2}
    hub("open-r1/OpenR1-Math-220k", "default/train-00000-of-00001.parquet", [row])
    hub("knoveleng/open-s1", "data/train-00000-of-00001.parquet", [{**row, "solution": "s"}])
    names = registry.load()
    for name in ("openthoughts", "openr1", "open-s1"):
        assert load_problems(names.get(Dataset, name), {}).problems[0].gold == "4"


def test_every_name_with_real_rows_loads_them(mirror):
    names = registry.load()
    expected = {"limr": 1389, "deepscaler": 2000, "still3": 2000, "open-rs": 500}
    for name, rows in expected.items():
        loaded = load_problems(names.get(Dataset, name), {})
        assert len(loaded.problems) + len(loaded.set_aside) == rows
        reasons = [s.reason.partition(":")[0] for s in loaded.set_aside]
        assert reasons.count("contradictory golds") == {"deepscaler": 8, "still3": 6}.get(name, 0)
        assert len(set(reasons)) <= 1
    for name in ("aime24", "aime25", "amc23", "math500", "minerva"):
        benchmark = names.get(Benchmark, name)
        problems = load_problems(benchmark, {}).problems
        assert len(problems) == benchmark.expected_rows
        with Grader() as grader:
            verdicts = grader.grade([Item(p.gold, f"\\boxed{{{p.gold}}}", p.kind) for p in problems])
        assert [(p.gold, v) for p, v in zip(problems, verdicts, strict=True) if not v.correct] == []


def test_the_chat_template_and_the_counts_are_those_of_transformers():
    from transformers import AutoTokenizer

    ours, theirs = ChatTokenizer(folder()), AutoTokenizer.from_pretrained(folder())
    for problem in ("What is 1 + 2?", "{% x %} {problem} \n\n é", ""):
        conversation = messages(problem, "Be brief.", "Solve: {problem}")
        text = theirs.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        assert ours.render(conversation) == text
        assert ours.count([text]) == [len(theirs(text, add_special_tokens=False)["input_ids"])]
