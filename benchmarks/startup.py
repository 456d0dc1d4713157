"""How fast the command line starts, side by side with a bare click program, `trl` and `lighteval`.

    python benchmarks/startup.py [--runs 15]

Each command is timed as a whole process, in turn, so that a slow moment of the machine hits all of
them; the ratio is that of the medians. A command that is not installed is left out, and said so.
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


def main() -> None:
    """Time, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
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
