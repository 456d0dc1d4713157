"""What a training set shares with benchmarks, on planted and on real rows."""

import json
import random
import re

import pytest

from tina_harness.data.overlap import find_overlap, normal_words

SUBJECTS = [
    "baker",
    "farmer",
    "cyclist",
    "student",
    "gardener",
    "pilot",
    "painter",
    "sailor",
    "tailor",
    "miner",
]
THINGS = ["loaves", "apples", "kilometres", "pages", "roses", "flights", "walls", "knots", "coats", "stones"]
TEMPLATES = [
    "A {s} counts {a} {t} on Monday and {b} on Tuesday. If every box holds \\frac{{{c}}}{{{d}}} of the {t}, "
    "how many boxes does the {s} need before Friday, when x^{{2}} + {a}x \\leq {b} has {c} solutions?",
    "Let $f(x) = {a}x^2 - {b}x + {c}$ be given together with a {s} who owns {d} {t}. Find the sum of all "
    "values of $x$ for which $f(f(x)) = {a}$, and state it in terms of the {t} that are left over.",
    "In triangle $ABC$ with $AB = {a}$ and $BC = {b}$, a {s} places {c} {t} along the side $CA$ so that "
    "neighbours are $\\sqrt{{{d}}}$ apart. What is the largest possible perimeter of the triangle, rounded?",
    "How many ways are there to hand {a} {t} to {b} different people such that the {s} gets at least {c} and "
    "nobody gets more than {d} of the {t}? Give the remainder of it when it is divided by {a}.",
]


def problems(count, seed):
    """Made-up problems, no two alike."""
    chosen = random.Random(seed)
    found = {}
    while len(found) < count:
        numbers = {key: chosen.randint(2, 9999) for key in "abcd"}
        text = chosen.choice(TEMPLATES).format(s=chosen.choice(SUBJECTS), t=chosen.choice(THINGS), **numbers)
        found[f"{text} ({chosen.choice(SUBJECTS)}, {chosen.randint(1, 99999)})"] = None
    return list(found)


def respelt(text):
    """The same problem with other white space and LaTeX spelling."""
    text = text.replace("\\frac", "\\dfrac").replace("\\leq", "\\le").replace(" ", "  ").replace("$", " $ ")
    return re.sub(r"\^\{(\d)\}", r"^\1", text).replace("(", "\\left(").replace(")", "\\right)") + "\n"


def test_copies_are_found_exactly_whatever_their_spelling_and_nothing_else_is():
    benchmark = problems(200, 1)
    rows = [*prose(2000), *benchmark, *map(respelt, benchmark)]
    report = find_overlap(rows, {"bench": benchmark})
    exact = {m.row: m.problem for m in report.matches if m.kind == "exact"}
    assert {2000 + i: i for i in range(200)}.items() <= exact.items()
    assert {2200 + i: i for i in range(200)}.items() <= exact.items()
    assert sum(m.row < 2000 for m in report.matches) <= 2


def prose(count):
    """Unrelated rows: words of another vocabulary, with the stock phrases that problems share."""
    chosen = random.Random(9)
    words = [
        f"{a}{b}"
        for a in ("bri", "clo", "dra", "fen", "gul", "hap", "jor", "kel")
        for b in ("mon", "tis", "vue", "lod")
    ]
    stock = [
        "Find the number of",
        "Let $x$ be a real number such that",
        "How many positive integers",
        "What is the value of",
    ]
    return [
        f"{chosen.choice(stock)} {' '.join(chosen.choice(words) for _ in range(25))} {chosen.random()}?"
        for _ in range(count)
    ]


def test_signs_count_and_hyphens_do_not():
    words = [
        " ".join(w)
        for w in normal_words(["12 + 34", "12 - 34", "12-34", "two-digit", "two digit"]).to_pylist()
    ]
    assert words[0] != words[1] == words[2]
    assert words[3] == words[4]
    assert not find_overlap(["What is 12 + 34?"], {"b": ["What is 12 - 34?"]}).matches


def test_a_problem_with_changed_numbers_is_near_and_one_inside_another_is_an_ngram_match():
    text = problems(1, 3)[0]
    changed = re.sub(r"\d+", "7", text, count=1)
    wrapped = "Solve the following. Explain each of your steps with care and check them twice. " * 3 + text
    report = find_overlap([changed, wrapped], {"bench": [text]})
    assert report.matches[0].kind in ("near", "exact")
    assert report.matches[1].kind in ("near", "ngram")


@pytest.mark.parametrize(
    "texts", [[], [""], ["\ud800"], ["a"], ["x" * 100_000], [" ".join(map(str, range(20_000)))]]
)
def test_any_text_can_be_looked_at(texts):
    assert find_overlap(
        texts, {"bench": ["", "b", "one two three four five six seven eight nine"]}
    ).rows == len(texts)
    assert find_overlap(texts, {}).matches == ()


@pytest.fixture
def copied(tmp_path):
    """A dataset of one's own, whose last rows are problems of the embedded benchmark."""
    from tina_plugins.arithmetic import problems as made

    heldout = [{"problem": q, "answer": a} for q, a in list(made("heldout", 5, 0))[:5]]
    rows = [{"problem": f"Add {n} to {n + 1}.", "answer": 2 * n + 1} for n in range(100)] + heldout
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return "jsonl:mine.jsonl"


def test_a_run_leaves_out_the_rows_of_its_own_benchmarks_and_says_so(tina, copied):
    words = [
        "run",
        "--dataset",
        copied,
        "--bench",
        "arithmetic-heldout",
        "--model",
        "tina-nano",
        "--dry-run",
        "--json",
    ]
    amounts = json.loads(tina(*words).stdout)["plan"]
    assert amounts["rows"] == 100
    assert amounts["left out: also in arithmetic-heldout (exact)"] == 5
    kept = json.loads(tina(*words, "--keep-overlap").stdout)["plan"]
    assert kept["rows"] == 105


def test_overlap_is_shown_with_the_pairs_and_comes_from_the_cache_until_the_file_changes(
    tina, copied, tmp_path
):
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    words = ["data", "overlap", copied, "--against", "arithmetic-heldout"]
    first = tina(*words, env=cache)
    assert first.returncode == 0, first.stderr
    assert "105 rows, 5 overlap" in first.stdout
    assert len(list((tmp_path / "cache" / "tina-harness").glob("pairs-*.json"))) == 1
    assert tina(*words, env=cache).stdout == first.stdout
    lines = (tmp_path / "mine.jsonl").read_text().splitlines()
    (tmp_path / "mine.jsonl").write_text("\n".join(lines[:-1]))
    found = json.loads(tina(*words, "--json", env=cache).stdout)
    assert (found["rows"], len(found["pairs"])) == (104, 4)
    assert {"row", "benchmark", "problem", "kind", "score", "text", "problem_text"} == set(found["pairs"][0])


def test_bad_input_is_named(tina, copied):
    assert "did you mean 'aime25' or 'aime24'" in tina("data", "overlap", copied, "--against", "aime2").stderr
    assert "names no benchmark" in tina("data", "overlap", copied, "--against", ",").stderr


def test_real_rows_share_what_they_are_known_to_share(tina, mirror):
    done = tina(
        "data", "overlap", "limr", "--against", "aime24,math500", "--json", env={"TINA_MIRROR": mirror}
    )
    found = json.loads(done.stdout)
    assert found["rows"] == 1389
    assert 5 <= len(found["pairs"]) <= 30
    assert {p["benchmark"] for p in found["pairs"]} == {"math500"}
