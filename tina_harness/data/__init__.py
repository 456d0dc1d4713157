"""Rows from hub, mirror or generator, normalised to problems with golds, and rendered to prompts."""

from tina_harness.data.load import Loaded, load_problems
from tina_harness.data.prompts import ChatTokenizer, messages

__all__ = ["ChatTokenizer", "Loaded", "load_problems", "messages"]
