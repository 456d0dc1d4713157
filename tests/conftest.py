"""What tests share: a mirror of real rows (TINA_MIRROR), a clean place to run, and the command line."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

collect_ignore = ["scripts"]  # programs that tests start; importing them changes TRL or vLLM

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def clean_place(tmp_path, monkeypatch):
    """Each test runs in an empty folder, with runs there and no settings of the caller's."""
    monkeypatch.chdir(tmp_path)
    for name in ("TINA_RUNS", "TINA_REGISTRY", "TINA_DISABLE_PLUGINS"):
        monkeypatch.delenv(name, raising=False)


def tina_command(*words, env=None, cwd=None, timeout=600):
    """Run `tina` as a user would, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tina_harness", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **(env or {})},
        cwd=cwd,
    )


@pytest.fixture
def tina():
    """`tina("list", "--json")` -> finished process."""
    return tina_command


@pytest.fixture
def mirror():
    """The folders of real rows that TINA_MIRROR names."""
    folders = os.environ.get("TINA_MIRROR")
    if not folders:
        pytest.skip("needs real rows: set TINA_MIRROR to a folder that holds <repo id>/...")
    return folders


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Write a plugin module and make `tina` find it, as if its distribution were installed."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    places = [str(folder), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))

    def make(name, body, distribution=None):
        module = f"outside_{name.replace('-', '_')}"
        (folder / f"{module}.py").write_text(textwrap.dedent(body))
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution or module}\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(f"[tina_harness]\n{name} = {module}\n")
        sys.modules.pop(module, None)

    return make


def score(result, metric=None):
    """The value of a result's metric, of the one that tables show by default."""
    return result["metrics"][metric or result["primary"]]["value"]


def interval(result):
    """The ends of the interval of the metric that tables show."""
    found = result["metrics"][result["primary"]]
    return found["low"], found["high"]
