"""Seconds and dollars of a run, and whether a process works on it: all from what its files say.

Times are inside the files. The times that a file system keeps change when a folder is copied or unpacked.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tina_harness.hardware import dollars
from tina_harness.runs.records import HardwareRecord, Manifest, ProcessRecord

ALIVE_S = 3600.0  # a run on another machine counts as running for so long after its last sign of life


def now() -> str:
    """UTC, to the millisecond."""
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"


def moment(text: Any) -> float | None:
    """Seconds since 1970 of a time that `now` wrote; None for anything else."""
    with contextlib.suppress(ValueError, TypeError):
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()
    return None


def usd(hardware: HardwareRecord, seconds: float) -> float | None:
    """The price of that many seconds on the hardware of a manifest; None where no price is known."""
    devices = hardware.get("count", 1) + hardware.get("elsewhere", 0)
    return dollars(hardware.get("usd_per_hour"), devices, seconds)


def seconds_by_phase(manifest: Manifest, newest: Mapping[str, Any] | None) -> dict[str, float]:
    """Seconds by phase, over all resumes. newest: the last line of metrics, see `Run.newest`.

    A phase that is under way, or that a kill ended, counts until the run's last sign of life.
    """
    ledger = dict(manifest.get("seconds", {}))
    if phase := manifest.get("phase"):
        spent = max(0.0, last_sign(manifest, newest) - phase["since"])
        ledger[phase["name"]] = round(ledger.get(phase["name"], 0.0) + spent, 3)
    return ledger


def last_sign(manifest: Manifest, newest: Mapping[str, Any] | None) -> float:
    """When the run last wrote something (seconds since 1970): its manifest, or a line of metrics.

    Lines of version 0.1.0 hold no time; they hold the dollars spent so far, from which it follows.
    """
    phase = manifest.get("phase")
    signs = [moment(manifest.get("updated")), moment(manifest["created"]), phase["since"] if phase else None]
    if newest:
        signs.append(moment(newest.get("when")))
        price = usd(manifest.get("hardware", {}), 1.0)
        if phase and price and "when" not in newest and isinstance(newest.get("usd"), int | float):
            before = sum(manifest.get("seconds", {}).values())
            signs.append(phase["since"] + newest["usd"] / price - before)
    return max((s for s in signs if s is not None), default=0.0)


def this_process() -> ProcessRecord:
    """What a manifest says of the process that works on the run."""
    return {"pid": os.getpid(), "started": _started(os.getpid()), "host": socket.gethostname()}


def status(manifest: Manifest, newest: Mapping[str, Any] | None) -> str:
    """As in the manifest, but "killed" where it says running and the process has ended.

    The lock is not touched: whoever looks must not be in the way of whoever works.
    """
    if manifest["status"] != "running" or is_alive(manifest, newest):
        return manifest["status"]
    return "killed"


def is_alive(manifest: Manifest, newest: Mapping[str, Any] | None) -> bool:
    """Whether the process that a manifest names still runs; on another machine: whether it wrote lately."""
    process = manifest.get("process")
    if process is None:
        return False
    if process["host"] != socket.gethostname():
        return time.time() - last_sign(manifest, newest) < ALIVE_S
    return process["started"] == _started(process["pid"]) != ""


def _started(pid: int) -> str:
    """When a process was started, so that its id cannot be mistaken for a later process's; "" for none."""
    with contextlib.suppress(OSError, IndexError):
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = told.rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]  # "X" and "Z" have ended
    with contextlib.suppress(OSError, OverflowError):
        if not Path("/proc/self/stat").exists():  # a system without /proc: the id has to do
            os.kill(pid, 0)
            return "running"
    return ""
