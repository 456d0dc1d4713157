"""Is this answer right? Extraction by a policy, our own rules, math-verify in processes with deadlines."""

from typing import TYPE_CHECKING, Any

from tina_harness.grading.extract import POLICIES, Extracted, Policy, extract

if TYPE_CHECKING:
    from tina_harness.grading.grader import Grader, GraderFailing, Item, Verdict

__all__ = ["POLICIES", "Extracted", "Grader", "GraderFailing", "Item", "Policy", "Verdict", "extract"]


def __getattr__(name: str) -> Any:
    """The grader proper is imported when it is used: plugins need the extraction only."""
    if name in ("Grader", "GraderFailing", "Item", "Verdict"):
        from tina_harness.grading import grader

        return getattr(grader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
