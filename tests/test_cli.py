"""The command line, as a user meets it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tina_harness.cli import COMMANDS

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "words", [["--help"], ["list"], ["leaderboard"], ["show", "limr"], ["run", "--help"]]
)
def test_light_commands_import_neither_torch_nor_transformers(words):
    code = (
        "import sys\nfrom tina_harness.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'pydantic'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_a_dry_run_does_not_import_torch(tina):
    code = (
        "import sys\nfrom tina_harness.cli import main\n"
        "try:\n    main(['run', '--dry-run'])\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "False"
    assert "preset embedded" in done.stdout


def test_every_command_has_help_with_an_example(tina):
    assert all(name in tina("--help").stdout for name in COMMANDS)
    for name in COMMANDS:
        done = tina(name, "--help")
        assert done.returncode == 0
        assert "Example" in done.stdout
        assert f"tina {name}" in done.stdout


@pytest.mark.parametrize("words", [["list"], ["runs"], ["leaderboard"], ["show", "aime24"], ["doctor"]])
def test_every_listing_has_json(tina, words):
    assert isinstance(json.loads(tina(*words, "--json").stdout), list)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--dataset", "limrr"], "did you mean 'limr'"),
        (["run", "--algo", "gpro"], "did you mean 'grpo'"),
        (["run", "--model", "tina-nanno"], "did you mean 'tina-nano'"),
        (["run", "--bench", "aime244"], "did you mean 'aime24'"),
        (["run", "--engine", "vlm"], "did you mean 'vllm'"),
        (["run", "--preset", "embeded"], "did you mean 'embedded'"),
        (["run", "--set", "scale_reward=none"], "did you mean 'train.scale_rewards'"),
        (["run", "--config", "nowhere.toml"], "nowhere.toml: No such file"),
        (["run", "--set", "hardware=h1000"], "did you mean 'h100'"),
        (["run", "--set", "train.max_prompt_tokens=3"], "0 of 2000 problems"),
        (["run", "--reward", "accuracy=lots"], "is not a number"),
        (["run", "--reward", "accuracy="], "'' is not a number"),
        (["run", "--reward", "accuracy=nan"], "'nan' is not a number"),
        (["run", "--reward", "acuracy"], "did you mean 'accuracy'"),
        (["run", "--reward", "format", "--reward", "format=2"], "--reward names 'format' twice"),
        (["run", "--set", "rewards.accuracy=2"], "rewards.NAME.weight"),
        (["run", "--algo", "dapo", "--set", "train.beta=0.04"], "the algorithm dapo fixes it at 0.0"),
        (["run", "--reward", "cosine", "--set", "rewards.cosine.max_len=-1"], "expected 0 or more"),
        (["run", "--set", "eval.system=calculat"], "did you mean 'calculate'"),
        (["run", "--set", "train.loss_type=grppo"], "did you mean 'grpo'"),
        (["run", "--set", "train.epochs=2"], "train.max_steps is 80 (preset embedded)"),
        (["run", "--max-step", "3"], "--max-steps"),
        (["runn"], "did you mean 'run'"),
        (["list", "datasetts"], "did you mean 'datasets'"),
        (["show", "lmir"], "did you mean 'limr'"),
        (["resume", "latest"], "there are no runs"),
        (["eval", "nothing-here", "--bench", "aime24"], "there is no model 'nothing-here'"),
        (["eval", "tina-nano"], "Missing option '--bench'"),
        (["leaderboard", "--bench", "aime24"], "nothing was evaluated"),
        (["run", "--dataset", "limr"], "TINA_MIRROR=DIR"),
        (["run", "--model", "nobody/nothing"], "TINA_MIRROR=DIR"),
    ],
)
def test_bad_input_gets_one_clear_error_and_no_traceback(tina, words, said, tmp_path):
    done = tina(*words, env={"TINA_MIRROR": ""})
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not (tmp_path / "runs").exists()


def test_debug_shows_the_traceback(tina):
    assert "Traceback" in tina("--debug", "run", "--dataset", "limrr").stderr


def test_a_dry_run_shows_every_value_its_origin_and_the_estimate(tina):
    done = tina("run", "--seed", "7", "--set", "train.beta=0", "--dry-run", "--json")
    shown = json.loads(done.stdout)
    rows = {row["key"]: row for row in shown["config"]}
    assert rows["seed"] == {"key": "seed", "value": 7, "from": "--seed"}
    assert rows["train.beta"]["from"] == "--set train.beta=0"
    assert rows["rewards.accuracy.weight"]["from"] == "preset embedded"
    assert rows["lora.dropout"]["from"] == "default"
    assert shown["plan"]["rows"] == 2000
    assert shown["plan"]["tokens, at most"] > 0
    assert shown["plan"]["training, USD, at most"] > 0


def test_real_rows_are_counted_by_a_dry_run(tina, mirror):
    done = tina(
        "run",
        "--preset",
        "tina-limr",
        "--model",
        "tina-nano",
        "--set",
        "train.max_prompt_tokens=900",
        "--bench",
        "aime24",
        "--dry-run",
        "--json",
        env={"TINA_MIRROR": mirror},
    )
    plan = json.loads(done.stdout)["plan"]
    assert 0 < plan["rows"] < 1389
    assert plan["rows"] + sum(n for key, n in plan.items() if key.startswith("left out: ")) == 1389
    assert "left out: a prompt of more than 900 tokens" in plan
    assert (plan["steps"], plan["completions per step"]) == (180, 32)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("tina run --dataset li", "limr"), ("tina show gr", "grpo"), ("tina run --preset tina-l", "tina-limr")],
)
def test_the_shell_completes_registry_names(typed, offered):
    env = {
        **os.environ,
        "_TINA_COMPLETE": "bash_complete",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
    }
    code = "from tina_harness.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert offered in done.stdout


def test_doctor_names_a_missing_mirror_and_passes_otherwise(tina, tmp_path):
    done = tina("doctor", "--json")
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert rows["torch"]["state"] == "ok"
    assert "tested: " in rows["trl"]["detail"]
    assert rows["disk"]["detail"].endswith("free for runs")
    assert done.returncode == 0
    done = tina("doctor", env={"TINA_MIRROR": str(tmp_path / "nowhere")})
    assert done.returncode == 1
    assert "nowhere" in done.stdout


def test_no_plugin_leaves_one_out(tina):
    names = [row["name"] for row in json.loads(tina("--no-plugin", "limr", "list", "--json").stdout)]
    assert "limr" not in names
    assert "still3" in names


@pytest.mark.slow
def test_an_evaluation_says_and_records_what_sampled(tina):
    done = tina(
        "eval", "tina-nano", "--bench", "arithmetic-heldout", "--limit", "2", "--samples", "1", "--json"
    )
    (result,) = json.loads(done.stdout)
    engine = result["engine"]
    assert (
        f"engine {engine['name']} {engine['version']}, {engine['dtype']} on {engine['device']}" in done.stderr
    )
    manifest = json.loads((Path("runs") / result["run"] / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["config"]["engine"] == "auto"
    for key, value in {
        "engine": "transformers",
        "dtype": "float32",
        "engine_version": engine["version"],
    }.items():
        assert manifest[key] == value
    assert engine["device"] == manifest["hardware"]["device"]
