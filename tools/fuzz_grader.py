"""Grade random strings and count what becomes of them: nothing may crash, hang or be paid for.

    python tools/fuzz_grader.py --count 100000 --seed 1

A third of the strings is any Unicode, a third the alphabet of LaTeX answers, a third hostile texts cut,
doubled and spliced. Each is graded as an answer, and every tenth also as a gold. Where our own rules read
a string as a gold, it has to equal itself. Exits with 1 where something is off.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter

from tina_harness.grading import Grader, Item, rules
from tina_harness.testing import HOSTILE

PIECES = [
    "\\frac", "\\sqrt", "\\boxed", "\\text", "\\pm", "\\le", "\\cup", "\\infty", "\\begin{pmatrix}",
    "\\end{pmatrix}", "\\sum", "\\left", "\\right", "\\pi", "\\circ", "\\%", "\\!", "\\,", "{,}", "^", "_",
    "{", "}", "(", ")", "[", "]", ",", ";", "=", "<", ">", "|", "&", "+", "-", "*", "/", "!", ".", "$", "%",
    " ", "\n", "and", "or", "cm", "x", "y", "f(x)", "0", "1", "7", "25", "1,000", "3.14", "10",
]  # fmt: skip


def strings(count: int, seed: int):
    """Random strings, the same for a seed."""
    chosen = random.Random(seed)
    short = [h.completion[:400] for h in HOSTILE]
    for n in range(count):
        if n % 3 == 0:
            size = chosen.choice([1, 3, 10, 40])
            points = [chosen.randrange(chosen.choice([0x80, 0x110000])) for _ in range(size)]
            yield "".join(map(chr, points))
        elif n % 3 == 1:
            yield "".join(chosen.choice(PIECES) for _ in range(chosen.randint(1, 12)))
        else:
            one, two = chosen.choice(short), chosen.choice(short)
            yield one[: chosen.randrange(len(one) + 1)] + two[chosen.randrange(len(two) + 1) :]


def main() -> None:
    """Read the command line, grade, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--deadline", type=float, default=1.0)
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    paid: Counter[str] = Counter()
    off: list[str] = []
    start = time.perf_counter()
    with Grader(workers=2, deadline_s=arguments.deadline) as grader:
        batch: list[Item] = []

        def settle() -> None:
            for item, verdict in zip(batch, grader.grade(batch), strict=True):
                counts[verdict.outcome] += 1
                if verdict.outcome == "correct":
                    paid[item.completion[:80]] += 1
                if verdict.outcome == "error":
                    off.append(f"{item!r}: {verdict.rule}")
            batch.clear()

        for number, text in enumerate(strings(arguments.count, arguments.seed)):
            batch.append(Item("17", f"\\boxed{{{text}}}"))
            if number % 10 == 0:
                batch.append(Item(text, "\\boxed{17}"))
            if text.strip() and rules.read(text) is not None and not rules.compare(text, text).same:
                off.append(f"{text!r} does not equal itself")
            if len(batch) >= 1000:
                settle()
                print(f"{number + 1}: {dict(counts)}", file=sys.stderr, flush=True)
        settle()
    print(f"{arguments.count} strings, seed {arguments.seed}: {dict(counts)}; {len(off)} off")
    print(f"{time.perf_counter() - start:.0f} s")
    print(f"paid: {paid.most_common(20)}")
    for line in off[:20]:
        print(line)
    raise SystemExit(bool(off))


if __name__ == "__main__":
    main()
