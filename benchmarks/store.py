r"""What opening a store of samples costs, and reading the scores of two evaluations.

    python benchmarks/store.py [--entries 100000] [--rounds 3] [--other CHECKOUT]

Each measurement is a process of its own, in turns; with --other, the same of another checkout of this
repository is measured beside it. "get" asks for every sample once. Memory is what the process grew by, numpy
being there (as in an evaluation). Prints Markdown.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
MEASURE = """
import json, random, resource, sys, time
from pathlib import Path
import numpy
from tina_harness.evaluation.samples import SampleStore

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before, chosen, count = peak(), random.Random(0), int(sys.argv[2])
wall, cpu = time.perf_counter(), time.process_time()
store = SampleStore(Path(sys.argv[1]), {"what": "made up"}, print)
opened = time.perf_counter() - wall, time.process_time() - cpu
cpu = time.process_time()
assert all(store.get(f"p{i // 4}", chosen.getrandbits(63)) for i in range(count))
print(json.dumps([*opened, peak() - before, time.process_time() - cpu]))
"""
SCORES = """
import json, resource, sys, time
from pathlib import Path
import pyarrow.parquet
from tina_harness.runs.samples import scores_by_problem

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before, cpu = peak(), time.process_time()
for path in sys.argv[1:]:
    scores_by_problem(Path(path))
print(json.dumps([time.process_time() - cpu, peak() - before]))
"""


def make_store(folder: Path, entries: int) -> None:
    """A file of entries of some 700 bytes, four seeds a prompt."""
    chosen = random.Random(0)
    key = hashlib.sha256(json.dumps({"what": "made up"}).encode()).hexdigest()[:24]
    with open(folder / f"{key}.jsonl", "w") as file:
        for i in range(entries):
            prompt = hashlib.sha256(f"p{i // 4}".encode()).hexdigest()[:24]
            text = ("so x = 1 \n" * 60)[:530] + str(i)
            entry = {"prompt": prompt, "seed": chosen.getrandbits(63), "text": text}
            file.write(json.dumps({**entry, "tokens": 200, "stop_reason": "stop"}) + "\n")


def make_samples(path: Path, entries: int) -> None:
    """A samples.parquet with its texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chosen = random.Random(path.name)
    columns = {
        "problem_id": [f"problem-{i // 4}" for i in range(entries)],
        "completion": [f"so x = {i} \n" * 50 for i in range(entries)],
        "verdict": [chosen.choice(["correct", "incorrect", "no_answer"]) for _ in range(entries)],
    }
    columns["score"] = [float(v == "correct") for v in columns["verdict"]]
    pq.write_table(pa.table(columns), path)


def measured(program: str, checkout: Path, *words: object) -> list[float]:
    """What a program prints, in a process of its own, with the package of a checkout."""
    environment = {**os.environ, "PYTHONPATH": f"{checkout}{os.pathsep}{checkout / 'plugins'}"}
    command = [sys.executable, "-c", program, *map(str, words)]
    with tempfile.TemporaryDirectory() as elsewhere:
        told = subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment, cwd=elsewhere
        )
    return [float(value) for value in json.loads(told.stdout)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--other", type=Path, help="another checkout, measured beside this one")
    given = parser.parse_args()
    checkouts = {"this one": HERE} | ({"the other": given.other.resolve()} if given.other else {})
    found: dict[str, list[list[float]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_store(folder, given.entries)
        for _ in range(given.rounds):
            for name, checkout in checkouts.items():
                found[name].append(measured(MEASURE, checkout, folder, given.entries))
        print(f"{given.entries:,} entries; medians of {given.rounds}\n")
        print("| checkout | open s | open CPU s | MiB | get all, CPU s |\n|---|---|---|---|---|")
        for name, rounds in found.items():
            wall, cpu, memory, get = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(f"| {name} | {wall:.3f} | {cpu:.3f} | {memory:.1f} | {get:.2f} |")
        both = [folder / "a.parquet", folder / "b.parquet"]
        for path in both:
            make_samples(path, given.entries)
        rounds = [measured(SCORES, HERE, *both) for _ in range(given.rounds)]
        cpu, memory = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"\nscores of 2 x {given.entries:,} samples: {cpu:.3f} CPU s, {memory:.0f} MiB")


if __name__ == "__main__":
    main()
