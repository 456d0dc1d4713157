"""What the processes of a training, that have this folder in PYTHONPATH, do otherwise: TINA_TEST_WORKERS."""

import importlib
import os

if "RANK" in os.environ:
    for name in os.environ["TINA_TEST_WORKERS"].split():
        importlib.import_module(name)
