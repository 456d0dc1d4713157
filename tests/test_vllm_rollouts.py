"""Rollouts by a vLLM in the training process, or by a server, on a CPU, with the real 135M model."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

from tina_harness import Model, planning, registry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("vllm") is None, reason="needs vLLM: docs/evaluation.md says how to install it for a CPU"
    ),
]
SCRIPTS = Path(__file__).parent / "scripts"
WORDS = ("run", "--model", "smollm2-135m", "--dataset", "arithmetic", "--max-steps", "2", "--lr", "1e-4")
WORDS += ("--max-new-tokens", "16", "--limit", "2", "--samples", "1", "--set", "train.batch=8")
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}


def tina_on_vllm(*words):
    return subprocess.run(
        [sys.executable, SCRIPTS / "vllm_rollouts.py", *words],
        capture_output=True,
        text=True,
        timeout=600,
        env=ENVIRONMENT,
    )


def check_run():
    (path,) = Path("runs").glob("*/manifest.json")
    built = json.loads(path.read_text())["built"]
    assert built["rollouts"] == "vllm"
    assert built["rollout_check"]["engine"] < 0.15  # the engine is in bf16, the trained model in fp32
    assert built["rollout_check"]["base"] > 0.3
    lines = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in lines] == [1, 2]
    assert all(m["seconds_rollout"] > 0 and m["completion_length"] > 0 for m in lines)


@pytest.fixture
def server(tmp_path):
    """The address of a vLLM that takes weights."""
    names = registry.load()
    folder, _ = planning.locate(names.get(Model, "smollm2-135m"), names)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    words = ["--port", address.rpartition(":")[2], "--max-model-len", "512", "--enforce-eager"]
    words += ["--weight-transfer-config", '{"backend": "nccl"}', "--enable-scale-out"]
    words += ["--logprobs-mode", "processed_logprobs", "--max-logprobs", "-1", "--dtype", "bfloat16"]
    with open(tmp_path / "server.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, SCRIPTS / "vllm_server.py", "--model", folder, *words],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**ENVIRONMENT, "VLLM_SERVER_DEV_MODE": "1"},
        )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://{address}/health", timeout=5)
                break
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            time.sleep(0.5)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(60)


def test_vllm_samples_the_rollouts_of_the_model_that_is_trained(mirror):
    done = tina_on_vllm(*WORDS, "--engine", "vllm")
    assert done.returncode == 0, done.stdout + done.stderr
    check_run()


def test_a_server_samples_the_rollouts_of_the_model_that_is_trained(mirror, server):
    done = tina_on_vllm(*WORDS, "--engine", "transformers", "--rollout-server", server)
    assert done.returncode == 0, done.stdout + done.stderr
    check_run()


def test_an_engine_that_takes_no_new_weights_stops_the_run(mirror):
    done = tina_on_vllm("deaf", *WORDS, "--engine", "vllm")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "the rollout engine does not sample from the model that is trained" in done.stderr
    assert "Traceback" not in done.stderr


def test_vllm_rollouts_without_a_gpu_are_refused_in_a_sentence(tina):
    done = tina("run", "--engine", "vllm")
    assert done.returncode == 2
    assert "samples rollouts only on a GPU" in done.stderr
