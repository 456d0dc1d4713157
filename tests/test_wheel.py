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


def wheel_of(module, destination):
    """A wheel of one plugin module, written by hand: name 1.0."""
    name = module.stem
    wheel = destination / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": module.read_text(encoding="utf-8"),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[tina_harness]\n{name} = {name}\n",
    }
    record = "".join(f"{f},,\n" for f in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(file, text)
    return wheel


def test_installing_a_plugin_of_every_kind_changes_nothing_that_was_not_asked_for(tina, tmp_path):
    wheel = wheel_of(ROOT / "tests" / "fixtures" / "tina_everything.py", tmp_path)
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run(pip, check=True, capture_output=True)
    small = ("--limit", "4", "--samples", "2", "--json")
    # On a path of the same length before, so that nothing else differs.
    paths = {"before": str(tmp_path / "none"), "after": str(site)}
    seen, shown = {}, {}
    for when, path in paths.items():
        (place := tmp_path / when).mkdir()
        where = os.pathsep.join(filter(None, [path, os.environ.get("PYTHONPATH")]))
        env = {"PYTHONPATH": where, "XDG_CACHE_HOME": str(place / "cache")}

        def json_of(*words, env=env, place=place):
            done = tina(*words, env=env, cwd=place)
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout), done.stderr

        shown[when] = {row["name"] for row in json_of("list", "--json")[0]}
        plan, _ = json_of("run", "--dry-run", "--json")
        trained, _ = json_of("run", "--max-steps", "3", *small)
        evaluated, said = json_of("eval", "tina-nano", "--bench", "arithmetic-heldout", "--seed", "7", *small)
        assert "engine transformers" in said
        lines = (place / trained["path"] / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        kept = ("loss", "reward", "rewards/format", "rewards/accuracy", "kl", "tokens")
        scores = ("checkpoint", "metrics", "counts", "identity", "engine", "label")
        seen[when] = {
            "plan": plan,
            "training": [{k: json.loads(line)[k] for k in kept} for line in lines],
            "scores": [{k: r[k] for k in scores} for r in (*trained["results"], *evaluated)],
        }
    assert shown["after"] - shown["before"] == {"aaa"}
    assert seen["after"] == seen["before"]
    done = tina("run", "--engine", "aaa", "--dry-run", env=env, cwd=tmp_path)
    assert "engine aaa 1.0, float32 on" in done.stdout


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
