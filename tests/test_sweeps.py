"""Sweeps: points of a grid, one run each, found again and continued."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tina_harness import Dataset, TinaError, registry
from tina_harness.planning import layers
from tina_harness.sweeps import check, grid_from, points

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


def test_a_comma_within_a_list_or_quotation_marks_is_part_of_a_value(tmp_path):
    given = ['lora.targets=["q_proj", "k_proj"],[]', 'dataset="jsonl:a,b.jsonl",limr,o\'brien']
    grid = grid_from(given, {}, {})
    assert grid["lora.targets"] == ['["q_proj", "k_proj"]', "[]"]
    assert grid["dataset"] == ['"jsonl:a,b.jsonl"', "limr", "o'brien"]
    for wrong in ('lora.targets=["q_proj",["v_proj"]', 'dataset="a,b'):
        with pytest.raises(TinaError, match="is not closed"):
            grid_from([wrong], {}, {})
    with pytest.raises(TinaError) as caught:
        grid_from(["lr=1", "train.learning_rate=2,3"], {"lr": "train.learning_rate"}, {})
    assert caught.value.hint == "--grid train.learning_rate=1,2,3"


def test_points_whose_folders_would_have_one_name_or_too_long_a_one_have_folders_of_their_own(tmp_path):
    found = points({"dataset": ["jsonl:a/b", "jsonl:a-b", "limr", "x" * 300]}, tmp_path)
    assert len({p.folder for p in found}) == 4
    assert found[2].folder.name == "dataset-limr"  # as before, so that sweeps of before are found again
    assert all(len(p.folder.name) < 200 for p in found)
    assert [p.folder for p in points({"dataset": ["jsonl:a-b", "jsonl:a/b"]}, tmp_path)] == [
        found[1].folder,
        found[0].folder,
    ]


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        (["lr=1e-4,x"], "point 2/2, train.learning_rate=x: train.learning_rate = 'x'"),
        (["train.save_every=5,5x"], "train.save_every=5x: train.save_every = '5x'"),
        (["dataset=arithmetic,limrr"], "dataset=limrr: there is no dataset 'limrr'"),
        (["rewards.cosine.max_len=1,y"], "rewards.cosine.max_len=y: rewards.cosine.max_len = 'y'"),
        (["rewards.cosine.min_right=0.1,3"], "expected at most max_right"),
        (["train.group=4,5"], "must be a multiple of group"),
        (["model=tina-nano,./nowhere"], "model=./nowhere: there is no model"),
        (["engine=transformers,openai"], "evaluates only"),
        (["algo=grpo,dapo", "train.beta=0,0.1"], "point 4/4, algo=dapo train.beta=0.1: train.beta = 0.1"),
        (["train.max_prompt_tokens=512,3"], "0 of 2000 problems"),
        (["lr=1e-4,0.0001"], "train.learning_rate=0.0001: it is the same run as train.learning_rate=1e-4"),
        (["seed=1,1"], "seed=1: it is the same run as seed=1"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_a_wrong_point_is_found_before_the_first_one_starts(tina, grid, said, dry):
    words = [word for text in grid for word in ("--grid", text)]
    done = tina("sweep", *words, "--max-steps", "2", *(["--dry-run"] if dry else []))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("runs").exists()


def test_what_points_have_in_common_is_loaded_once(tmp_path):
    names = registry.load()
    loaded = []

    def rows(seed):
        loaded.append(seed)
        return [{"problem": f"{n} + {n}", "answer": str(2 * n)} for n in range(100)]

    mine = Dataset(name="mine", summary="s", source="x", rows=rows)
    names.entries["dataset"]["mine"] = [registry.Entry(mine, None)]

    def resolve(options):
        given = ["dataset=mine", "train.max_steps=5", *options[1::2]]
        return layers(names, preset="embedded", file=None, flags={}, assignments=given)

    many = points({"seed": ["1", "2"], "lora.r": ["4", "8"], "train.group": ["2", "4", "8"]}, tmp_path)
    engines = check(many, resolve, names)
    assert loaded == [1, 2]
    assert list(engines) == [p.folder for p in many]
    assert all(line.startswith("engine transformers ") for line in engines.values())


@pytest.mark.usefixtures("mirror")
def test_an_ablation_lists_its_points_and_runs_one_that_is_chosen(tina):
    done = tina("run", "--preset", "ablation-rank", "--dry-run")
    assert done.returncode == 2
    assert "lora.r: 4, 8, 16, 32, 64, 128" in done.stderr
    assert "tina sweep --preset ablation-rank" in done.stderr
    words = ("--preset", "ablation-lr", "--set", 'bench=["aime24"]', "--model", "tina-nano")
    listed = json.loads(tina("sweep", *words, "--dry-run", "--json").stdout)
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
    words = ("sweep", "--grid", "lora_rank=2,4", "--grid", "lr=1e-4,1e30", *SHORT, "--json")
    done = tina(*words)
    rows = json.loads(done.stdout)
    assert done.returncode == 1
    assert [r["status"] == "finished" for r in rows] == [True, False, True, False]
    assert rows[1]["status"].startswith("failed (1): error: ")
    assert "point 1/4, lora.r=2 train.learning_rate=1e-4: starts, engine transformers" in done.stderr
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
