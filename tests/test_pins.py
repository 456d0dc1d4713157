"""What strangers rely on changes on purpose only: `python tools/pins.py --write`, and a commit says why."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PINNED = ROOT / "tests" / "pins"
spec = importlib.util.spec_from_file_location("pins", ROOT / "tools" / "pins.py")
pins = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pins)


def pinned(name):
    return (PINNED / name).read_text(encoding="utf-8").splitlines()


def test_public_names_their_signatures_and_the_hooks_are_those_that_were_agreed():
    assert pins.public_names() == pinned("public.txt")


def test_the_options_of_every_command_are_those_that_were_agreed():
    assert pins.commands() == pinned("commands.txt")


def test_the_grader_changes_with_a_decision_whether_its_version_does():
    """A verdict that may change needs a higher VERSION in grading/rules.py: samples are graded again then."""
    assert [pins.grading()] == pinned("grading.txt")


@pytest.mark.slow
def test_the_keys_of_every_record_and_of_every_json_are_those_that_were_agreed(tmp_path):
    assert pins.records(tmp_path) == pinned("records.txt")


@pytest.mark.slow
def test_ten_steps_of_the_default_run_give_the_same_losses_rewards_and_samples(tmp_path):
    wanted = json.loads((PINNED / "training.json").read_text(encoding="utf-8"))
    if (here := pins.versions()) != wanted["versions"]:
        pytest.skip(f"recorded under other versions: {wanted['versions']}, here {here}")
    found = pins.training(tmp_path)
    for name, value in wanted.items():
        numbers = name in ("loss", "reward", "kl", "completion_length")
        assert found[name] == (pytest.approx(value, rel=1e-4, abs=1e-7) if numbers else value), name


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, ["list"]),
        (0, ["runs"]),
        (0, ["leaderboard"]),
        (0, ["run", "--dry-run"]),
        (0, ["grade", "2", "\\boxed{2}"]),
        (1, ["grade", "2", "\\boxed{3}"]),
        (2, ["run", "--no-such-option"]),
        (2, ["run", "--dataset", "limrr"]),
        (2, ["no-such-command"]),
        (2, ["show", "no-such-name"]),
        (2, ["resume", "latest"]),
        (2, ["samples", "latest"]),
        (2, ["publish", "latest", "--repo", "me/mine"]),
        (2, ["eval", "tina-nano", "--bench", "no-such-benchmark"]),
        (2, ["sweep"]),
        (2, ["data", "audit", "jsonl:nowhere.jsonl"]),
    ],
)
def test_exit_codes(tina, code, words):
    """0: done; 1: it could not be finished, or the answer is no; 2: it was asked for in the wrong way."""
    assert tina(*words).returncode == code


LIGHT = {
    "import tina_harness": "import tina_harness",
    "the public names": "import tina_harness\nfor name in tina_harness.__all__: getattr(tina_harness, name)",
    "runs": "from tina_harness import runs",
    "the registry with all plugins": "from tina_harness import registry; registry.load()",
    **{
        f"tina {words}": "import sys\nfrom tina_harness.cli import main\n"
        f"try: main({words.split()!r})\nexcept SystemExit: pass"
        for words in (
            "--help",
            "list",
            "runs",
            "leaderboard",
            "show limr",
            "cost latest",
            "samples latest",
            "compare latest@base latest",
            "run --dry-run",
            "data audit arithmetic",
            "sweep --grid seed=1,2 --dry-run",
        )
    },
}


@pytest.mark.parametrize("what", LIGHT)
def test_what_imports_neither_torch_nor_transformers(what):
    said = "import sys\nprint({'torch', 'transformers', 'trl'} & set(sys.modules), file=sys.stderr)"
    code = f"{LIGHT[what]}\n{said}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "set()"
