"""The wheel, and a plugin from outside, in a fresh environment."""

import json
import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent


def build(project, destination):
    """The wheel of a project folder."""
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(destination), str(project)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return max(destination.glob("*.whl"), key=lambda p: p.stat().st_mtime)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    place = tmp_path_factory.mktemp("wheels")
    return build(ROOT, place), build(ROOT / "examples" / "tina-gsm8k", place)


def test_the_wheel_holds_both_packages_the_catalogue_and_the_model(wheels):
    names = zipfile.ZipFile(wheels[0]).namelist()
    for wanted in (
        "tina_harness/registry.toml",
        "tina_harness/hookspecs.py",
        "tina_plugins/datasets/limr.py",
        "tina_plugins/models/tina_nano/model.safetensors",
    ):
        assert wanted in names
    assert not [n for n in names if n.startswith(("tests", "examples", "benchmarks", "plugins"))]
    size = wheels[0].stat().st_size
    assert size < 3_000_000


def test_a_plugin_from_outside_works_beside_the_wheel_in_a_fresh_environment(wheels, mirror, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    bin_folder = tmp_path / "venv" / "bin"
    torch = f"torch=={metadata.version('torch').partition('+')[0]}"  # the build that is here already
    for what in ([torch], wheels):
        subprocess.run([bin_folder / "pip", "install", "-q", *what], check=True, capture_output=True)
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    folders = [str(Path(f).resolve()) for f in mirror.split(os.pathsep)]
    env |= {"TINA_MIRROR": os.pathsep.join(folders), "HF_HUB_OFFLINE": "1"}

    def tina(*words):
        command = [bin_folder / "tina", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    rows = json.loads(tina("list", "--json"))
    assert {"tina-gsm8k 0.1.0"} == {r["from"] for r in rows if r["name"] in ("gsm8k", "gsm8k-test")}
    assert "gsm8k-test" in tina("run", "--dataset", "gsm8k", "--max-steps", "1", "--limit", "4")
    (base, _) = json.loads(tina("leaderboard", "--bench", "gsm8k-test", "--json"))
    assert base["problems"] == "4/1319"
    results = json.loads(tina("eval", "tina-nano", "--bench", "gsm8k-test", "--limit", "4", "--json"))
    assert results[0]["problems"] == 4
