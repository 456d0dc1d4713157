"""Is this answer right? Extraction by a fixed policy, comparison in worker processes with deadlines."""

from typing import TYPE_CHECKING, Any

from tina_harness.grading.extract import Extracted, extract

if TYPE_CHECKING:
    from tina_harness.grading.grader import Grader, Item, Verdict

__all__ = ["Extracted", "Grader", "Item", "Verdict", "extract"]


def __getattr__(name: str) -> Any:
    """The grader proper is imported when it is used: plugins need the extraction only."""
    if name in ("Grader", "Item", "Verdict"):
        from tina_harness.grading import grader

        return getattr(grader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
