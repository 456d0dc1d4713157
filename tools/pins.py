"""What strangers rely on, as text: public names, hooks, options of every command, keys of every record.

    python tools/pins.py             # print what differs from tests/pins/
    python tools/pins.py --write     # take it over: the diff of tests/pins/ is then a decision to review

tests/test_pins.py fails while they differ. `grading.txt` changes with the grader's sources: raise VERSION in
grading/rules.py where a verdict may change. `training.json` holds the losses, rewards and samples of a short
run under the versions that it names, and is compared only under those.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

PINS = Path(__file__).resolve().parent.parent / "tests" / "pins"
# Tables whose keys are names or versions, which differ from run to run.
OPEN = ("origins", "packages", "seconds", "counts", "left_out", "reward_weights", "rewards", "libraries")
VERSIONS = ("torch", "transformers", "trl", "peft", "tokenizers", "numpy")
# The same arithmetic on any x86-64: no dispatch by what the processor can do, one thread.
SAME_ARITHMETIC = {
    "OMP_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
}


def public_names() -> list[str]:
    """`tina_harness.__all__` with signatures, the fields of specs, and the hooks."""
    import tina_harness
    from tina_harness import hookspecs
    from tina_harness.specs import Frozen

    lines = []
    for name in tina_harness.__all__:
        value = getattr(tina_harness, name)
        if isinstance(value, type) and issubclass(value, Frozen):
            lines.append(f"{name}(*, {', '.join(_fields(value))})")
        elif isinstance(value, type):
            lines.append(
                f"{name}{inspect.signature(value)}" if "Protocol" not in str(value.__mro__) else name
            )
            lines += [f"{name}.{method}" for method in _methods(value)]
        else:
            lines.append(name)
    for name, function in sorted(vars(hookspecs).items()):
        if name.startswith("tina_"):
            lines.append(f"hook {name}{inspect.signature(function)}")
    return lines


def _fields(spec: type) -> Iterator[str]:
    for field in spec.fields:  # type: ignore[attr-defined]
        default = getattr(spec, field, ...)
        yield field if default is ... else f"{field}={default!r}"


def _methods(value: type) -> list[str]:
    found = [(n, f) for n, f in vars(value).items() if inspect.isfunction(f) and not n.startswith("_")]
    return [f"{n}{inspect.signature(f)}" for n, f in found]


def commands() -> list[str]:
    """A line for each argument and option of every command."""
    import click

    from tina_harness.cli import COMMANDS, cli

    context = click.Context(cli, info_name="tina")

    def walk(command: Any, path: str) -> Iterator[str]:
        for parameter in command.params:
            names = "/".join([*parameter.opts, *parameter.secondary_opts])
            if parameter.param_type_name == "argument":
                names = parameter.metavar or parameter.name.upper()
            yield f"{path} {names}"
        for name, sub in sorted(getattr(command, "commands", {}).items()) if path != "tina" else ():
            yield from walk(sub, f"{path} {name}")

    lines = list(walk(cli, "tina"))
    for name in COMMANDS:
        lines += walk(cli.get_command(context, name), f"tina {name}")
    return lines


def keys(value: Any, prefix: str = "") -> set[str]:
    """Dotted keys of a JSON value; the items of a list are merged, as `[]`."""
    if isinstance(value, Mapping):
        name = prefix.rpartition(".")[2]
        if name in OPEN:
            return {f"{prefix}.*"}
        found = {prefix} if not value and prefix else set()
        for key, inner in value.items():
            found |= keys(inner, f"{prefix}.{key}" if prefix else str(key))
        return found
    if isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
        return set().union(*(keys(v, f"{prefix}[]") for v in value))
    return {prefix}


def tina(*words: str, place: str | Path, env: Mapping[str, str] | None = None) -> str:
    """What a command prints on stdout. Raises RuntimeError where it fails."""
    command = [sys.executable, "-m", "tina_harness", *words]
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", "TINA_RUNS": "runs", **(env or {})}
    done = subprocess.run(command, capture_output=True, text=True, cwd=place, env=surroundings)
    if done.returncode:
        raise RuntimeError(f"tina {' '.join(words)}: {done.stderr}")
    return done.stdout


def records(place: Path) -> list[str]:
    """The keys of every file of a short run, and of every `--json`."""
    import pyarrow.parquet as pq

    small = ("--limit", "3", "--samples", "2")
    shown = {"run": json.loads(tina("run", "--max-steps", "2", *small, "--json", place=place))}
    run = place / "runs" / shown["run"]["run"]
    bench = ("--bench", "arithmetic-heldout")
    evaluation = json.loads(tina("eval", "tina-nano", *bench, *small, "--json", place=place))
    other = place / "runs" / evaluation[0]["run"]
    files: dict[str, Any] = {
        "manifest.json (training)": json.loads((run / "manifest.json").read_text(encoding="utf-8")),
        "manifest.json (evaluation)": json.loads((other / "manifest.json").read_text(encoding="utf-8")),
        "results.json": json.loads(next(run.glob("evals/*/results.json")).read_text(encoding="utf-8")),
        "metrics.jsonl": [json.loads(t) for t in (run / "metrics.jsonl").read_text("utf-8").splitlines()],
    }
    for pattern in ("completions/*.parquet", "evals/*/samples.parquet"):
        schema = pq.read_schema(next(run.glob(pattern)))
        files[pattern.rpartition("*/")[2]] = {f"{f.name}: {f.type}": 0 for f in schema}
    (place / "mine.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n' * 2, encoding="utf-8")
    others: dict[str, tuple[str, ...]] = {
        "resume": (),  # what it prints is what `run` prints
        "eval": ("tina-nano", *bench, *small),
        "compare": (f"{run.name}@base", run.name),
        "samples": (run.name,),
        "list": (),
        "show": ("limr",),
        "runs": (),
        "cost": (run.name,),
        "leaderboard": (),
        "doctor": (),
        "run --dry-run": (),
        "sweep --dry-run": ("--grid", "lr=1e-4,1e-5"),
        "data audit": ("arithmetic",),
        "data overlap": ("jsonl:mine.jsonl", "--against", "arithmetic-heldout"),
        "grade": ("2", "\\boxed{2}"),
    }
    for name, words in others.items():
        if name != "resume":
            shown[name] = json.loads(tina(*name.split(), *words, "--json", place=place))
    lines = []
    for name, value in {**files, **{f"tina {n} --json": v for n, v in shown.items()}}.items():
        found = {"value" if k in ("", "[]") else k for k in keys(value)}
        lines += [f"{name}  {key}" for key in sorted(found)]
    return lines


def training(place: Path) -> dict[str, Any]:
    """Losses, rewards and samples of `tina run` with seed 42 over 10 steps, and what they were made with."""
    import pyarrow.parquet as pq

    words = ("run", "--max-steps", "10", "--limit", "4", "--samples", "2", "--json")
    shown = json.loads(tina(*words, place=place, env=SAME_ARITHMETIC))
    run = place / "runs" / shown["run"]
    lines = [json.loads(t) for t in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    first, last = (
        pq.read_table(run / "completions" / f"step-{n:06d}.parquet").column("completion").to_pylist()
        for n in (1, 10)
    )
    samples = {
        path.parent.name.rpartition("-")[0]: pq.read_table(path).column("completion").to_pylist()
        for path in sorted(run.glob("evals/*/samples.parquet"))
    }
    return {
        "versions": versions(),
        **{name: [m[name] for m in lines] for name in ("loss", "reward", "kl", "completion_length")},
        "first_rollouts": first[:4],
        "last_rollouts": last[:4],
        "samples": {name: texts[:4] for name, texts in samples.items()},
        "scores": {r["checkpoint"]: r["metrics"]["pass@1"]["value"] for r in shown["results"]},
    }


def versions() -> dict[str, str]:
    """What the numbers of `training` depend on besides this code."""
    return {"machine": platform.machine(), **{name: metadata.version(name) for name in VERSIONS}}


def grading() -> str:
    """The version of the grader's rules, and a digest of the sources that a verdict depends on."""
    import hashlib

    from tina_harness import grading
    from tina_harness.grading import rules

    folder = Path(grading.__file__).parent
    sources = [folder / f"{name}.py" for name in ("extract", "grader", "rules", "symbolic")]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return f"version {rules.VERSION}  {digest[:16]}"


def main() -> None:
    """Compare or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write tests/pins/")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        found = {
            "public.txt": "\n".join(public_names()) + "\n",
            "commands.txt": "\n".join(commands()) + "\n",
            "grading.txt": grading() + "\n",
            "records.txt": "\n".join(records(Path(one))) + "\n",
            "training.json": json.dumps(training(Path(two)), indent=1) + "\n",
        }
    for name, text in found.items():
        path = PINS / name
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        sys.stdout.writelines(
            difflib.unified_diff(before.splitlines(True), text.splitlines(True), name, name)
        )
        if write:
            PINS.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
