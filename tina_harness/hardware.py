"""What this machine is and what it costs, found without importing torch."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tina_harness.errors import TinaError, did_you_mean


@dataclass(frozen=True)
class Hardware:
    """name: an entry of [hardware]. device: as the driver names it. count: devices that a run uses.

    usd_per_hour: for one device; None where no price is known.
    effective_tflops: sustained in this kind of training, an order of magnitude.
    elsewhere: devices of the same kind that are paid for and not used by this process.
    """

    name: str
    device: str
    count: int
    gpu: bool
    usd_per_hour: float | None
    effective_tflops: float | None
    price_source: str
    elsewhere: int = 0

    def dollars(self, seconds: float) -> float | None:
        """The price of that many seconds on all devices."""
        return dollars(self.usd_per_hour, self.count + self.elsewhere, seconds)


def dollars(usd_per_hour: float | None, devices: int, seconds: float) -> float | None:
    """The price of so many seconds on so many devices; None where no price is known."""
    return None if usd_per_hour is None else usd_per_hour * devices * seconds / 3600


def detect(catalogue: Mapping[str, Any], name: str = "auto") -> Hardware:
    """This machine, priced by `registry.toml`."""
    prices = catalogue.get("hardware", {})
    devices = gpus()
    if name == "auto":
        device = devices[0] if devices else _cpu()
        matches = [n for n, p in prices.items() if p.get("match", "\0").lower() in device.lower()]
        name = (matches[0] if matches else "gpu") if devices else "cpu"
    elif name not in prices:
        hint = did_you_mean(name, prices, f"there are: {', '.join(sorted(prices))}")
        raise TinaError(f"there is no hardware '{name}' in registry.toml", hint)
    price = prices.get(name, {})
    return Hardware(
        name=name,
        device=devices[0] if devices else _cpu(),
        count=1,  # a run is one process on one device
        gpu=bool(devices),
        usd_per_hour=price.get("usd_per_hour"),
        effective_tflops=price.get("effective_tflops"),
        price_source=f"{price['source']}, {price['date']}" if price else "no price in registry.toml",
    )


@functools.cache
def gpus() -> tuple[str, ...]:
    """The names of the NVIDIA GPUs that a process here may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return ()
    smi = shutil.which("nvidia-smi")
    if not smi:
        return ()
    try:
        asked = [smi, "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    names = [line.strip() for line in done.stdout.splitlines() if line.strip()] if not done.returncode else []
    return tuple(names[: len(visible.split(","))] if visible else names)


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return f"{line.partition(':')[2].strip()} ({os.cpu_count()} cores)"
    except OSError:
        pass
    return f"{platform.processor() or platform.machine()} ({os.cpu_count()} cores)"
