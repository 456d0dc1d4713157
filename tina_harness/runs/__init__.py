"""Run directories: what lies in them, which one is meant, what it cost, and whether it is whole."""

from tina_harness.files import write_json
from tina_harness.runs.checkpoints import CHECKSUMS, damaged, seal
from tina_harness.runs.ledger import now
from tina_harness.runs.reference import all_runs, find, root
from tina_harness.runs.run import ROLLOUT_TEXTS, Run, create, disk_full, is_disk_full

__all__ = [
    "CHECKSUMS",
    "ROLLOUT_TEXTS",
    "Run",
    "all_runs",
    "create",
    "damaged",
    "disk_full",
    "find",
    "is_disk_full",
    "now",
    "root",
    "seal",
    "write_json",
]
