"""GPQA diamond: 198 graduate-level questions with four options.

The set is gated; its authors ask that its questions not be republished.
"""

from tina_harness import Benchmark, hookimpl
from tina_harness.specs import Row

LETTERS = "ABCD"
SEED = "gpqa-diamond"


def position(record_id: str, seed: str = SEED) -> int:
    """Where the right option stands: a hash of the record and a seed, so that positions are balanced."""
    return _digest(f"{seed}:{record_id}")[0] % len(LETTERS)


def _digest(text: str) -> bytes:
    import hashlib

    return hashlib.sha256(text.encode()).digest()


def parse(row: Row) -> tuple[str, str | None]:
    """The question with its options in the fixed order, and the letter of the right one."""
    options = [str(row[f"Incorrect Answer {i}"]).strip() for i in (1, 2, 3)]
    options.sort(key=lambda o: _digest(f"{SEED}:{row['Record ID']}:{o}"))
    place = position(str(row["Record ID"]))
    options.insert(place, str(row["Correct Answer"]).strip())
    listed = "\n".join(f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=True))
    return f"{str(row['Question']).strip()}\n\n{listed}", LETTERS[place]


@hookimpl
def tina_benchmarks():
    yield Benchmark(
        name="gpqa",
        summary="198 graduate-level science questions, four options each (diamond)",
        source="GPQA: A Graduate-Level Google-Proof Q&A Benchmark, https://arxiv.org/abs/2311.12022",
        repo="Idavidrein/gpqa",
        config="gpqa_diamond",
        split="train",
        parse=parse,
        columns=(
            "Question",
            "Correct Answer",
            "Incorrect Answer 1",
            "Incorrect Answer 2",
            "Incorrect Answer 3",
            "Record ID",
        ),
        prompt="choice-letter",
        answer_kind="choice",
        samples=4,
        license="CC-BY-4.0",
        expected_rows=198,
    )
