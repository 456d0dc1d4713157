"""Repeat the embedded run over seeds and algorithms, and print what docs/embedded.md shows.

python tools/seeds.py --seeds 5 --algo grpo --algo drgrpo [-- options of `tina run`]
"""

import argparse
import json
import subprocess
import sys
import tempfile

from tabulate import tabulate


def main() -> None:
    """One row a run: format reward and Pass@1 on held-out problems, base and trained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--algo", action="append")
    parser.add_argument("options", nargs="*")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for algo in given.algo or ["grpo", "drgrpo"]:
            for seed in range(1, given.seeds + 1):
                command = [sys.executable, "-m", "tina_harness", "run", "--algo", algo, "--seed", str(seed)]
                command += ["--runs-dir", place, "--json", *given.options]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    sys.exit(done.stderr)
                result = json.loads(done.stdout)
                base, trained = result["results"][0], result["results"][-1]
                reached = (
                    base["metrics"]["rewards/format"]["value"] <= 0.6
                    and trained["metrics"]["rewards/format"]["value"] >= 0.9
                    and trained["metrics"]["pass@1"]["value"] - base["metrics"]["pass@1"]["value"] >= 0.1
                    and trained["metrics"]["pass@1"]["low"] > base["metrics"]["pass@1"]["high"]
                )
                rows.append([algo, seed, *_scores(base), *_scores(trained), _sum(result), reached])
                print(rows[-1], file=sys.stderr, flush=True)
    heads = ["algo", "seed", "format", "Pass@1", "ci95", "format after", "Pass@1 after", "ci95 after"]
    print(tabulate(rows, headers=[*heads, "seconds", "reached"], tablefmt="github"))


def _scores(result: dict) -> list[str]:
    form, right = result["metrics"]["rewards/format"], result["metrics"]["pass@1"]
    ends = f"{right['low']:.3f}..{right['high']:.3f}"
    return [f"{form['value']:.3f}", f"{right['value']:.3f}", ends]


def _sum(result: dict) -> float:
    return round(sum(result["seconds"].values()), 1)


if __name__ == "__main__":
    main()
