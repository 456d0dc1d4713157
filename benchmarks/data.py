r"""How data preparation scales, and what the overlap check finds.

    TINA_MIRROR=DIR python benchmarks/data.py [--rows 22000 110000 220000]

Scale: rows of OpenR1-Math-220k's shape (problem, answer, and two long `generations` that nobody needs) are
written as parquet into a mirror of their own, then loaded, normalised, fingerprinted and checked for overlap
with all six benchmarks (GPQA, which is gated, as made-up questions of its shape), each size in a
process of its own; beside it the method of Open-R1's decontamination, word 8-grams in pure Python, on the
same rows. Then the same `tina data overlap` twice, the second time from the cache.

Recall: 200 problems of MATH-500 copied into 2,000 made-up rows exactly, respelt, with changed numbers, and
reworded lightly. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

BENCHMARKS = ("aime24", "aime25", "amc23", "math500", "gpqa", "minerva")


def vocabulary(registry) -> list[str]:
    """Words as often as problems use them, without whole formulas, which would be shared problems."""
    from tina_harness import Benchmark
    from tina_harness.data import load_problems

    loaded = load_problems(registry.get(Benchmark, "math500"), registry.catalogue)
    return [w for p in loaded.problems for w in p.problem.split() if len(w) <= 10]


def write_mirror(folder: Path, rows: int, words: list[str]) -> None:
    """OpenR1's shape, and GPQA's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chosen = random.Random(rows)
    pool = [" ".join(chosen.choices(words, k=1500)) for _ in range(400)]  # about 8,000 characters each
    target = folder / "open-r1" / "OpenR1-Math-220k" / "data" / "train-00000-of-00001.parquet"
    target.parent.mkdir(parents=True)
    writer = None
    for start in range(0, rows, 10_000):
        count = min(10_000, rows - start)
        table = pa.table(
            {
                "problem": [" ".join(chosen.choices(words, k=chosen.randint(15, 90))) for _ in range(count)],
                "answer": [str(chosen.randint(0, 9999)) for _ in range(count)],
                "solution": [chosen.choice(pool) for _ in range(count)],
                "generations": [[chosen.choice(pool), chosen.choice(pool)] for _ in range(count)],
                "uuid": [f"{chosen.getrandbits(64):016x}" for _ in range(count)],
            }
        )
        writer = writer or pq.ParquetWriter(target, table.schema, compression="zstd")
        writer.write_table(table)
    writer.close()
    gpqa = folder / "Idavidrein" / "gpqa" / "gpqa_diamond" / "train.parquet"
    gpqa.parent.mkdir(parents=True)
    fields = ["Question", "Correct Answer", *(f"Incorrect Answer {i}" for i in (1, 2, 3))]
    made = [
        {f: " ".join(chosen.choices(words, k=60 if f == "Question" else 6)) for f in fields}
        | {"Record ID": f"rec{i}"}
        for i in range(198)
    ]
    pq.write_table(pa.Table.from_pylist(made), gpqa)


def ours() -> dict:
    """Load, fingerprint, check: seconds of each, peak memory in MiB."""
    from tina_harness import Benchmark, Dataset, registry
    from tina_harness.data import load_problems
    from tina_harness.data.overlap import find_overlap

    names = registry.load()
    texts = {
        b: [p.problem for p in load_problems(names.get(Benchmark, b), names.catalogue).problems]
        for b in BENCHMARKS
    }
    before = _peak()
    start = time.perf_counter()
    loaded = load_problems(names.get(Dataset, "openr1"), names.catalogue)
    read = time.perf_counter()
    loaded.fingerprint  # noqa: B018
    printed = time.perf_counter()
    report = find_overlap([p.problem for p in loaded.problems], texts)
    checked = time.perf_counter()
    peak = _peak()
    plain_start = time.perf_counter()
    plain = len(plain_ngrams([p.problem for p in loaded.problems], texts))
    return {
        "rows": len(loaded.problems),
        "load": read - start,
        "fingerprint": printed - read,
        "overlap": checked - printed,
        "peak": peak,
        "before": before,
        "found": len(report.matches),
        "plain": time.perf_counter() - plain_start,
        "plain_found": plain,
    }


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def plain_ngrams(rows: list[str], benchmarks: dict[str, list[str]], size: int = 8) -> set[int]:
    """Rows that share a word n-gram with a benchmark, by Open-R1's method: a pass over the rows a benchmark.

    Its script runs each pass with `datasets.map` over whole rows; only the work on the problem is done here.
    """

    def grams(text: str) -> set[str]:
        words = " ".join(text.lower().strip().split()).split()
        return {" ".join(words[i : i + size]) for i in range(len(words) - size + 1)}

    found: set[int] = set()
    for texts in benchmarks.values():
        known: dict[str, set[int]] = {}
        for number, text in enumerate(texts):
            for gram in grams(text):
                known.setdefault(gram, set()).add(number)
        found |= {i for i, text in enumerate(rows) if any(gram in known for gram in grams(text))}
    return found


def scale(sizes: list[int]) -> list[str]:
    """One table row a size, each in its own process."""
    from tabulate import tabulate

    from tina_harness import registry

    words = vocabulary(registry.load())
    table, cached = [], []
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_mirror(Path(folder), rows, words)
            size = sum(p.stat().st_size for p in Path(folder).rglob("*.parquet")) >> 20
            env = os.environ | {
                "TINA_MIRROR": f"{folder}{os.pathsep}{os.environ['TINA_MIRROR']}",
                "XDG_CACHE_HOME": f"{folder}/cache",
            }
            command = [sys.executable, __file__, "--one"]
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
            one = json.loads(done.stdout.splitlines()[-1])
            total = one["load"] + one["fingerprint"] + one["overlap"]
            table.append(
                [
                    one["rows"],
                    size,
                    *(f"{one[k]:.1f}" for k in ("load", "fingerprint", "overlap")),
                    f"{total / one['rows'] * 1e6:.0f}",
                    one["peak"],
                    f"{one['plain']:.1f}",
                    f"{one['plain'] / one['overlap']:.1f}",
                ]
            )
            if rows == sizes[-1]:
                against = ["data", "overlap", "openr1", "--against", ",".join(BENCHMARKS), "--pairs", "0"]
                for _ in range(2):
                    start = time.perf_counter()
                    subprocess.run([sys.executable, "-m", "tina_harness", *against], env=env, check=True,
                                   capture_output=True)  # fmt: skip
                    cached.append(f"{time.perf_counter() - start:.1f} s")
    headers = ["rows", "file MiB", "load s", "fingerprint s", "overlap s", "us a row", "peak MiB",
               "8-gram dict s", "ratio"]  # fmt: skip
    return [
        "### Scale",
        "",
        tabulate(table, headers, tablefmt="github", disable_numparse=True),
        "",
        f"`tina data overlap`, {sizes[-1]:,} rows, first and second call: {' and '.join(cached)}",
    ]


def reworded(text: str) -> str:
    """Light rewording: other openings, synonyms, one more sentence."""
    for old, new in (
        (r"\bFind\b", "Determine"),
        (r"\bWhat is\b", "Compute"),
        (r"\bHow many\b", "What is the number of"),
        (r"\bLet\b", "Suppose that"),
        (r"\bExpress\b", "Write"),
        (r"\bis\b", "equals"),
        (r"\ball\b", "every"),
    ):
        text = re.sub(old, new, text)
    return f"{text} Show your work."


def respelt(text: str) -> str:
    """Other white space and LaTeX spelling, same meaning."""
    for old, new in (("\\frac", "\\dfrac"), ("\\leq", "\\le"), ("\\cdot", "\\times"), ("(", "\\left("),
                     (")", "\\right)"), ("$", " $ "), (" ", "  "), (". ", ".\n")):  # fmt: skip
        text = text.replace(old, new)
    return re.sub(r"\^\{(\d)\}", r"^\1", text)


def renumbered(text: str, chosen: random.Random) -> str:
    """Every number of two or more digits, and half of the others, changed."""
    return re.sub(
        r"\d+", lambda m: str(int(m.group()) + chosen.randint(1, 9)) if len(m.group()) < 15 else "7", text
    )


def recall() -> list[str]:
    """What is found of 200 planted problems, and of 2,000 rows that share only words with the benchmark."""
    from tabulate import tabulate

    from tina_harness import Benchmark, registry
    from tina_harness.data import load_problems
    from tina_harness.data.overlap import find_overlap

    names = registry.load()
    chosen = random.Random(1)
    everything = [p.problem for p in load_problems(names.get(Benchmark, "math500"), names.catalogue).problems]
    planted = chosen.sample(everything, 200)
    words = vocabulary(names)
    unrelated = [" ".join(chosen.choices(words, k=chosen.randint(15, 90))) for _ in range(2000)]
    variants = {
        "exact": planted,
        "respelt": [respelt(t) for t in planted],
        "numbers changed": [renumbered(t, chosen) for t in planted],
        "reworded": [reworded(t) for t in planted],
        "unrelated (2,000)": unrelated,
    }
    table = []
    for name, rows in variants.items():
        report = find_overlap(rows, {"math500": everything})
        kinds = Counter(m.kind for m in report.matches)
        plain = len(plain_ngrams(rows, {"math500": everything}))
        table.append([name, len(report.matches), *(kinds[k] for k in ("exact", "near", "ngram")), plain])
    headers = ["planted", "found", "exact", "near", "ngram", "found by one shared 8-gram"]
    return ["### Recall", "", tabulate(table, headers, tablefmt="github", disable_numparse=True)]


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[22_000, 110_000, 220_000])
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(ours()))
        return
    print("\n".join([*recall(), "", *scale(arguments.rows)]))


if __name__ == "__main__":
    main()
