"""Rows from hub, mirror or generator, normalised to problems with golds, and rendered to prompts."""

from tina_harness.data.load import Loaded, SetAside, load_benchmark, load_problems, write_quarantine
from tina_harness.data.prompts import ChatTokenizer, messages

__all__ = [
    "ChatTokenizer",
    "Loaded",
    "SetAside",
    "load_benchmark",
    "load_problems",
    "messages",
    "write_quarantine",
]
