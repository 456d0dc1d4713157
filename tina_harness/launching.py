"""A training over several processes: `accelerate launch` of `worker.py`, one process a device.

The parent holds the run and waits; the workers build the same plan from the manifest. Rank 0 writes, the
others keep step with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import IO

from tina_harness import stopping
from tina_harness.errors import RunError
from tina_harness.planning import Plan
from tina_harness.runs import Run
from tina_harness.stopping import Stop

ENDED = ".ended.json"  # how rank 0 ended: {} well, else code, message and hint


def command(plan: Plan, run: Run) -> list[str]:
    """What starts the workers; on CPUs torchrun itself, as accelerate's launcher starts only one there."""
    python, module = sys.executable, ["tina_harness.worker", str(run.path.resolve())]
    file, count = plan.config.accelerate_config, plan.config.processes
    if file is not None:
        return [python, "-m", "accelerate.commands.launch", "--config_file", file, "-m", *module]
    if not plan.hardware.gpu:
        return [
            python,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc_per_node={count}",
            "-m",
            *module,
        ]
    words = ["--multi_gpu", f"--num_processes={count}", "--num_machines=1", "--mixed_precision=no"]
    words += ["--dynamo_backend=no", f"--main_process_port={_free_port()}"]
    return [python, "-m", "accelerate.commands.launch", *words, "-m", *module]


def launch(run: Run, plan: Plan, stop: Stop, out: IO[str]) -> None:
    """Train in several processes, to the end or until `stop` is asked for; what rank 0 says goes to `out`.

    Raises RunError with what rank 0 said where they fail.
    """
    ended = run.path / ENDED
    ended.unlink(missing_ok=True)
    run.give_up.unlink(missing_ok=True)
    surroundings = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", _threads(plan))}
    surroundings.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "3600")  # s that a step may take to end; 30
    if not plan.hardware.gpu:
        surroundings["ACCELERATE_USE_CPU"] = "true"
    with open(run.log, "ab") as log:
        process = subprocess.Popen(
            command(plan, run),
            stdout=out,
            stderr=log,
            env=surroundings,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        told: float | None = None  # when the workers were told to stop after their step, with a checkpoint
        giving_up = False
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
                if stop() and told is None:
                    told = time.monotonic()
                    process.send_signal(signal.SIGTERM)
                if told is None or stop.code != 143 or time.monotonic() - told < stopping.GRACE_S:
                    continue
                if not giving_up:
                    run.give_up.touch()
                    giving_up = True
                elif not run.give_up.exists():  # rank 0 has saved; the others may wait for ever
                    break
        finally:
            run.give_up.unlink(missing_ok=True)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    try:
        said = json.loads(ended.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        said = {"message": f"the training processes ended with code {process.returncode}"}
    ended.unlink(missing_ok=True)
    if stop() or (not process.returncode and "message" not in said):
        return
    lost = f"a training process was lost (exit code {process.returncode})"  # while rank 0 ended in order
    onward = f"all they said is at the end of {run.log}; go on with: tina resume {run.id}"
    raise RunError(said.get("message", lost), said.get("hint", onward))


_libc = ctypes.CDLL(None)


def end_with_parent() -> None:
    """Have the system kill this process when its parent is gone, so that a run is never written twice."""
    with contextlib.suppress(AttributeError):  # Linux only
        _libc.prctl(1, signal.SIGKILL)


def _threads(plan: Plan) -> str:
    return str(max(1, (os.cpu_count() or 1) // plan.config.processes))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
