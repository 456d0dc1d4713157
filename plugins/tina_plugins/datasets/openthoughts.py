"""OpenThoughts: the mathematics of OpenThoughts-114k, as filtered by CuratedThoughts."""

import re

from tina_harness import Dataset, hookimpl
from tina_harness.grading.extract import boxed
from tina_harness.specs import Row


def parse(row: Row) -> tuple[str, str | None]:
    """The set has no answer column: the gold is the last box of the reference solution.

    Where the solution has none, the one of the (checked) assistant message counts.
    """
    assistant = [m["content"] for m in row["messages"] or [] if m["role"] == "assistant"]
    for text in [row["solution"] or "", *reversed(assistant)]:
        if found := boxed(re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)):
            return row["problem"] or "", found[-1]
    return row["problem"] or "", None


@hookimpl
def tina_datasets():
    yield Dataset(
        name="openthoughts",
        summary="66k checked problems with R1 traces, mathematics only",
        source="OpenThoughts, https://arxiv.org/abs/2506.04178; CuratedThoughts by bethgelab",
        repo="bethgelab/CuratedThoughts",
        config="OpenThoughts-114k-math-default",
        parse=parse,
        columns=("problem", "solution", "messages"),
        system="think-answer",
        preset="tina-openthoughts",
        license="see its page on the hub",
        expected_rows=66_120,
    )
