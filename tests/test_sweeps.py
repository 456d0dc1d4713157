"""Sweeps: points of a grid, one run each, found again and continued."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tina_harness import TinaError, registry
from tina_harness.planning import layers
from tina_harness.sweeps import grid_from, points

SHORT = ("--max-steps", "2", "--limit", "4", "--samples", "1", "--set", "train.batch=8")


def test_a_grid_is_every_combination_of_its_values_by_short_or_full_name(tmp_path):
    names = {"lr": "train.learning_rate", "lora_rank": "lora.r"}
    grid = grid_from(["lr=1e-6,5e-6", "lora-rank=4", "train.group=2,4"], names, {})
    assert grid == {"train.learning_rate": ["1e-6", "5e-6"], "lora.r": ["4"], "train.group": ["2", "4"]}
    found = points(grid, tmp_path)
    assert len({p.folder for p in found}) == len(found) == 4
    assert found[0].name == "train.learning_rate=1e-6 lora.r=4 train.group=2"
    for wrong, said in [("lr", "KEY=VALUE"), ("lr=1,,2", "KEY=VALUE"), ("lrr=1", "did you mean 'lr'")]:
        with pytest.raises(TinaError) as caught:
            grid_from([wrong], names, {})
        assert said in f"{caught.value} {caught.value.hint}"


def test_an_ablation_lists_its_points_and_runs_one_that_is_chosen(tina):
    done = tina("run", "--preset", "ablation-rank", "--dry-run")
    assert done.returncode == 2
    assert "lora.r: 4, 8, 16, 32, 64, 128" in done.stderr
    assert "tina sweep --preset ablation-rank" in done.stderr
    listed = json.loads(tina("sweep", "--preset", "ablation-lr", "--dry-run", "--json").stdout)
    assert [p["train.learning_rate"] for p in listed] == ["5e-07", "1e-06", "5e-06"]
    assert "grid lora.r" in tina("show", "ablation-rank").stdout


@pytest.mark.parametrize("preset", ["ablation-lr", "ablation-rank", "ablation-algo"])
def test_every_point_of_an_ablation_is_a_valid_configuration(preset, tmp_path):
    names = registry.load()
    grid = grid_from([], {}, names.catalogue["presets"][preset]["grid"])
    for point in points(grid, tmp_path):
        settings = [f"{k}={v}" for k, v in point.values.items()]
        config = layers(names, preset=preset, file=None, flags={}, assignments=settings).config
        assert config.lora.scale == 4 * config.lora.r


@pytest.mark.slow
def test_a_point_that_fails_does_not_stop_the_others_and_finished_ones_are_kept(tina):
    words = ("sweep", "--grid", "lora_rank=2,4", "--grid", "dataset=arithmetic,nope", *SHORT, "--json")
    done = tina(*words)
    rows = json.loads(done.stdout)
    assert done.returncode == 1
    assert [r["status"] == "finished" for r in rows] == [True, False, True, False]
    assert "there is no dataset 'nope'" in rows[1]["status"]
    assert all(r["score"] is not None and r["ci95"] and r["run"] for r in rows if r["status"] == "finished")
    (folder,) = Path("runs").glob("sweep-*")
    assert (folder / "sweep.png").stat().st_size > 5000
    runs = set(folder.glob("*/*/manifest.json"))
    again = tina(*words)
    assert [r["run"] for r in json.loads(again.stdout)] == [r["run"] for r in rows]
    assert again.stderr.count("was finished before") == 2
    assert set(folder.glob("*/*/manifest.json")) == runs


@pytest.mark.slow
def test_an_interrupted_sweep_continues_where_it_was(tina):
    words = ["sweep", "--grid", "seed=1,2", "--max-steps", "12", "--limit", "4", "--samples", "1"]
    for lines, stop, number in [(2, os.killpg, signal.SIGINT), (5, os.kill, signal.SIGTERM)]:  # all, it alone
        process = subprocess.Popen([sys.executable, "-m", "tina_harness", *words], start_new_session=True)
        for _ in range(1200):
            files = Path("runs").glob("sweep-*/*/*/metrics.jsonl")
            if any(p.read_text().count("\n") >= lines for p in files):
                break
            time.sleep(0.1)
        stop(process.pid, number)
        assert process.wait(120) == 128 + number
        (folder,) = {p.parent for p in Path("runs").glob("sweep-*/*/*/metrics.jsonl")}
        assert json.loads((folder / "manifest.json").read_text())["status"] == "interrupted"
    done = tina(*words, "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [r["status"] for r in rows] == ["finished", "finished"]
    assert "continues" in done.stderr
    assert len(list(Path("runs").glob("sweep-*/*/*/manifest.json"))) == 2


def test_without_a_grid_or_with_a_misspelt_option_nothing_starts(tina):
    assert "needs --grid" in tina("sweep", "--max-steps", "1").stderr
    done = tina("sweep", "--grid", "lr=1e-4", "--max-stepz", "1")
    assert done.returncode == 2
    assert "--max-steps" in done.stderr
    assert not Path("runs").exists()
