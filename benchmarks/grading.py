r"""How fast grading is, side by side with plain math-verify and with TRL's accuracy reward.

    python benchmarks/grading.py --data DIR [--parts abcdm]

DIR holds real rows: grading/qwen_math_cot_100x8.parquet (gold, prediction) and
golds/deepscaler-all-answers/train.parquet (answer). Parts: a: 800 completions. b: every gold against
itself. c: both again, with 1% hostile items among them (plain math-verify and TRL see a sample of these
rows: each hostile item can cost them ten seconds). d: how long each hostile item takes. m: memory over
100,000 items. Each contender runs in a process of its own, one after the other, and grades one item
first, so that imports, and the start of our workers, which import the same, are outside the clock ("start"
has the seconds of that). Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

HEADERS = ["items", "contender", "start s", "seconds", "items/s", "ratio", "verdicts that differ"]


def rows(data: Path, part: str) -> list[tuple[str, str]]:
    """(gold, completion) pairs."""
    import pyarrow.parquet as pq

    if part.startswith("a"):
        table = pq.read_table(data / "grading" / "qwen_math_cot_100x8.parquet").to_pylist()
        pairs = [(r["gold"], r["prediction"]) for r in table]
    else:
        table = pq.read_table(data / "golds" / "deepscaler-all-answers" / "train.parquet").to_pylist()
        pairs = [(r["answer"], f"\\boxed{{{r['answer']}}}") for r in table]
    if part.endswith("c"):
        from tina_harness.testing import HOSTILE

        chosen = random.Random(0)
        if part == "bc":
            pairs = chosen.sample(pairs, 3000)
        hostile = [h for h in HOSTILE if len(h.gold) < 100]
        step = 100
        for at in range(step // 2, len(pairs), step):
            one = hostile[(at // step * 7) % len(hostile)]
            pairs[at] = (one.gold, one.completion)
    return pairs


def contender(name: str, data: Path, part: str) -> tuple[float, float, list[bool | None]]:
    """Seconds to start, seconds, and a verdict for each pair: None where the gold cannot be read."""
    pairs = rows(data, part)
    begin = time.perf_counter()
    if name == "tina":
        from tina_harness.grading import Grader, Item

        with Grader(workers=2) as grader:
            grader.grade([Item("2x", "\\boxed{x+x}"), Item("3x", "\\boxed{x+x}")])
            start = time.perf_counter()
            verdicts = grader.grade([Item(g, c) for g, c in pairs])
            return start - begin, time.perf_counter() - start, [v.correct for v in verdicts]
    if name == "math-verify":
        from math_verify import parse, verify

        verify(parse("$2x$"), parse("$x+x$"))
        start = time.perf_counter()
        found: list[bool | None] = []
        for gold, completion in pairs:
            left = parse(f"${gold}$")
            found.append(verify(left, parse(completion)) if left else None)
        return start - begin, time.perf_counter() - start, found
    from trl.rewards import accuracy_reward

    accuracy_reward([[{"content": "\\boxed{x+x}"}]], ["$2x$"])
    start = time.perf_counter()
    judged: list[bool | None] = []
    for gold, completion in pairs:
        try:
            reward = accuracy_reward([[{"content": completion}]], [f"${gold}$"])[0]
            judged.append(None if reward is None else reward == 1)
        except Exception as error:  # it would end a training
            print(f"trl: {type(error).__name__} on gold {gold[:60]!r}", file=sys.stderr)
            judged.append(None)
    return start - begin, time.perf_counter() - start, judged


def compare(data: Path, part: str, title: str) -> list[str]:
    """Run the contenders, each in its own process; returns Markdown lines."""
    pairs = rows(data, part)
    results = {}
    notes: list[str] = []
    for name in ("math-verify", "trl", "tina"):
        command = [sys.executable, "-W", "ignore", __file__, "--data", str(data), "--one", f"{name}:{part}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results[name] = json.loads(done.stdout.splitlines()[-1])
        crashes = Counter(line for line in done.stderr.splitlines() if line.startswith("trl: "))
        notes += [f"- raised: {line} ({count} times)" for line, count in crashes.items()]
    from tabulate import tabulate

    plain, ours = results["math-verify"]["verdicts"], results["tina"]["verdicts"]
    table = []
    for name, result in results.items():
        differ = sum(bool(a) != bool(b) for a, b in zip(result["verdicts"], plain, strict=True))
        speed = len(pairs) / result["seconds"]
        ratio = results["math-verify"]["seconds"] / result["seconds"]
        row = [len(pairs), name, f"{result['start']:.1f}", f"{result['seconds']:.2f}"]
        table.append([*row, f"{speed:.0f}", f"{ratio:.1f}", differ])
    shown = tabulate(table, HEADERS, tablefmt="github", disable_numparse=True)
    lines = [f"### {title}", "", shown, "", *notes]
    odd = Counter(
        (g[:60], c[-60:], str(p), str(o))
        for (g, c), p, o in zip(pairs, plain, ours, strict=True)
        if bool(p) != bool(o)
    )
    for (gold, completion, before, after), count in odd.most_common(40):
        lines.append(
            f"- {count}x gold `{gold!r}`, completion `..{completion!r}`: math-verify {before}, tina {after}"
        )
    return lines


def hostile(deadline_s: float = 2.0) -> list[str]:
    """How long each hostile item takes over its deadline, one at a time, and what memory the workers have."""
    import psutil

    from tina_harness.grading import Grader, Item
    from tina_harness.testing import HOSTILE

    took, peak = [], 0
    counts: Counter[str] = Counter()
    with Grader(workers=1, deadline_s=deadline_s) as grader:
        grader.grade([Item("2x", "\\boxed{x+x}")])
        for item in HOSTILE:
            start = time.perf_counter()
            verdict = grader.grade([Item(item.gold, item.completion)])[0]
            took.append((time.perf_counter() - start, item.name))
            counts[verdict.outcome] += 1
            peak = max([peak, *(psutil.Process(p).memory_info().rss for p in grader.processes())])
    slowest = ", ".join(f"{name} {s:.2f} s" for s, name in sorted(took, reverse=True)[:5])
    return [
        f"### {len(HOSTILE)} hostile items, one at a time, deadline {deadline_s:g} s",
        "",
        f"{dict(counts)}; largest worker {peak / 2**20:.0f} MiB; slowest: {slowest}; "
        f"over deadline + 0.5 s: {sum(s > deadline_s + 0.5 for s, _ in took)}",
    ]


def memory(total: int = 100_000) -> list[str]:
    """Memory of caller and workers after each tenth of many different items."""
    import os

    import psutil

    from tina_harness.grading import Grader, Item

    sizes = []
    with Grader(workers=2) as grader:
        for tenth in range(10):
            start = tenth * total // 10
            items = (
                Item(f"{n}x+1", f"so {n} \\boxed{{1+{n + n % 2}x}}")
                for n in range(start, start + total // 10)
            )
            grader.grade(items)
            own = psutil.Process(os.getpid()).memory_info().rss
            workers = sum(psutil.Process(p).memory_info().rss for p in grader.processes())
            sizes.append(f"{own >> 20}+{workers >> 20}")
            print(tenth, sizes[-1], file=sys.stderr, flush=True)
    return [
        f"### Memory over {total:,} different items",
        "",
        f"MiB, caller+workers, by tenths: {', '.join(sizes)}",
    ]


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--parts", default="abcdm")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, part = arguments.one.split(":")
        start, seconds, verdicts = contender(name, arguments.data, part)
        print(json.dumps({"start": start, "seconds": seconds, "verdicts": verdicts}))
        return
    lines: list[str] = []
    if "a" in arguments.parts:
        lines += compare(arguments.data, "a", "(a) 800 completions")
    if "b" in arguments.parts:
        lines += ["", *compare(arguments.data, "b", "(b) every gold against itself")]
    if "c" in arguments.parts:
        lines += ["", *compare(arguments.data, "ac", "(c) 800 completions, 1% hostile")]
        lines += ["", *compare(arguments.data, "bc", "(c) 3,000 of the golds, 1% hostile")]
    if "d" in arguments.parts:
        lines += ["", *hostile()]
    if "m" in arguments.parts:
        lines += ["", *memory()]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
