"""Rollouts by a vLLM in the training process, on a CPU, with the real 135M model."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("vllm") is None, reason="needs vLLM: docs/evaluation.md says how to install it for a CPU"
    ),
]
SCRIPT = Path(__file__).parent / "scripts" / "vllm_rollouts.py"
WORDS = ("run", "--engine", "vllm", "--model", "smollm2-135m", "--dataset", "arithmetic", "--max-steps", "2")
WORDS += (
    "--max-new-tokens",
    "16",
    "--limit",
    "2",
    "--samples",
    "1",
    "--set",
    "train.batch=8",
    "--lr",
    "1e-4",
)


def tina_on_vllm(*words):
    return subprocess.run(
        [sys.executable, SCRIPT, *words],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"},
    )


def test_vllm_samples_the_rollouts_of_the_model_that_is_trained(mirror):
    done = tina_on_vllm(*WORDS)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = Path("runs").glob("*/manifest.json")
    built = json.loads(path.read_text())["built"]
    assert built["rollouts"] == "vllm"
    assert built["rollout_check"]["engine"] < 0.15  # the engine is in bf16, the trained model in fp32
    assert built["rollout_check"]["base"] > 0.3
    lines = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in lines] == [1, 2]
    assert all(m["seconds_rollout"] > 0 and m["completion_length"] > 0 for m in lines)


def test_an_engine_that_takes_no_new_weights_stops_the_run(mirror):
    done = tina_on_vllm("deaf", *WORDS)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "the rollout engine does not sample from the model that is trained" in done.stderr
    assert "Traceback" not in done.stderr


def test_vllm_rollouts_without_a_gpu_are_refused_in_a_sentence(tina):
    done = tina("run", "--engine", "vllm")
    assert done.returncode == 2
    assert "samples rollouts only on a GPU" in done.stderr
