"""How fast the command line starts, side by side with a bare click program, `trl` and `lighteval`.

    python benchmarks/startup.py [--runs 15]
    python benchmarks/startup.py --listings [--runs 5]

Each command is timed as a whole process, in turn, so that a slow moment of the machine hits all of
them; the ratio is that of the medians. A command that is not installed is left out, and said so.

--listings: `tina runs` and `tina leaderboard` over 10, 1,000 and 5,000 runs (copies of the one in
tests/fixtures/v1, without its checkpoints), in turns; the ratio is to 10 runs.
"""

import argparse
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

BARE = """
import click

@click.group()
def cli(): ...

@cli.command()
def one(): ...

cli()
"""


# The first, uncounted call of each compiles its modules, as an installer does.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def seconds(command: list[str]) -> float:
    """Wall-clock seconds of one process."""
    start = time.perf_counter()
    subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT, check=False
    )
    return time.perf_counter() - start


def make_runs(parent: Path, count: int) -> None:
    """So many runs: records and metrics of the run in tests/fixtures/v1, under ids of their own."""
    (source,) = (Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "v1").iterdir()
    records = [source / "manifest.json", source / "metrics.jsonl", *source.glob("evals/*/results.json")]
    texts = {path.relative_to(source): path.read_text(encoding="utf-8") for path in records}
    for i in range(count):
        name = f"20261124-{i:06d}-arithmetic-grpo-{i:06x}"
        for path, text in texts.items():
            (parent / name / path).parent.mkdir(parents=True, exist_ok=True)
            (parent / name / path).write_text(text.replace(source.name, name), encoding="utf-8")


def listings(runs: int) -> None:
    """Time the commands that read every run, and print the table."""
    counts, rows = (10, 1000, 5000), []
    with tempfile.TemporaryDirectory() as place:
        for count in counts:
            make_runs(Path(place) / str(count), count)
        for name in ("runs", "leaderboard"):
            times: dict[int, list[float]] = {count: [] for count in counts}
            for turn in range(runs + 1):
                for count in counts:
                    folder = str(Path(place) / str(count))
                    spent = seconds([sys.executable, "-m", "tina_harness", name, "--runs-dir", folder])
                    times[count] += [spent] if turn else []  # the first fills the disk cache
            base = statistics.median(times[10])
            for count, spent_in in times.items():
                median = statistics.median(spent_in)
                spread = f"{min(spent_in):.3f}..{max(spent_in):.3f}"
                rows.append([f"tina {name}", count, f"{median:.3f}", spread, f"{median / base:.2f}"])
    print(tabulate(rows, headers=["command", "runs", "median s", "range s", "ratio"], tablefmt="github"))


def main() -> None:
    """Time, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--listings", action="store_true", help="commands that read every run")
    given = parser.parse_args()
    if given.listings:
        listings(given.runs)
        return
    runs = given.runs
    bin_folder = str(Path(sys.executable).parent)
    tina = shutil.which("tina", path=bin_folder) or "tina"
    with tempfile.TemporaryDirectory() as place:
        bare = Path(place) / "bare.py"
        bare.write_text(BARE)
        fast = {
            "bare click --help": [sys.executable, str(bare), "--help"],
            "tina --help": [tina, "--help"],
            "tina list": [tina, "list"],
        }
        slow = {}
        for package in ("trl", "lighteval"):
            program = shutil.which(package, path=bin_folder)
            if program and importlib.util.find_spec(package):
                slow[f"{package} --help"] = [program, "--help"]
            else:
                print(f"{package} is not installed here: left out", file=sys.stderr)
        times: dict[str, list[float]] = {name: [] for name in {**fast, **slow}}
        for command in {**fast, **slow}.values():
            seconds(command)  # warm the disk cache
        for _ in range(runs):
            for name, command in fast.items():
                times[name].append(seconds(command))
        for _ in range(3):
            for name, command in slow.items():
                times[name].append(seconds(command))
    base = statistics.median(times["bare click --help"])
    rows = [
        [
            name,
            f"{statistics.median(t):.3f}",
            f"{min(t):.3f}..{max(t):.3f}",
            f"{statistics.median(t) / base:.2f}",
        ]
        for name, t in times.items()
    ]
    print(
        tabulate(rows, headers=["command", "median s", "range s", "ratio to bare click"], tablefmt="github")
    )


if __name__ == "__main__":
    main()
