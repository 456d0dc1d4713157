r"""Which rows of a training set are also in a benchmark.

Three kinds of match, on text in a normal form (lower case, one spelling for what LaTeX spells in many
ways, letters and digits only):

- exact: the same text in normal form, white space and LaTeX spelling aside;
- near: Jaccard similarity of the word 3-grams of at least `near` (Broder 1997; computed exactly, with an
  inverted index of the benchmarks' 3-grams, where MinHash would estimate it);
- ngram: at least `share` of the benchmark problem's word 8-grams are in the row (8-grams as in Open-R1's
  decontamination, which counts a single one: "find the number of ordered pairs of positive integers").

Columns are processed by Arrow and NumPy, a batch of rows at a time, so that time and memory per row do not
depend on how many rows there are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

VERSION = "1"  # of the method: cached reports of another are not used
NEAR_WORDS = 3
NGRAM_WORDS = 8
NEAR = 0.6
SHARE = 0.5

_BATCH = 20_000  # rows
_MULTIPLIER = 0x9E3779B97F4A7C15  # of the rolling hash: 2^64 / golden ratio, odd

# RE2 patterns, in order: commands that only shape the page go, synonyms become one word.
_SPELLINGS = (
    (r"\\(?:left|right|bigg?|Bigg?|displaystyle|textstyle|(?:no)?limits|q?quad)\b", " "),
    (r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|operatorname|mbox|emph|boldsymbol)\b", " "),
    (r"\\[dtc]frac\b", r" frac "),
    (r"\\(?:leq|leqslant|le)\b|≤", " leq "),
    (r"\\(?:geq|geqslant|ge)\b|≥", " geq "),
    (r"\\(?:cdot|times)\b|×|·", " times "),
    (r"\\(?:neq|ne)\b|≠", " neq "),
    (r"\\(?:ldots|dots|cdots|dotsc|dotsb)\b|…", " "),
    (r"\\pi\b|π", " pi "),
    (r"\\infty\b|∞", " infty "),
    (r"\\(?:circ|degree)\b|°", " circ "),
    (r"\\sqrt\b|√", " sqrt "),
    (r"\\[,;:! ]|~", " "),
    (r"([0-9]),([0-9]{3})", r"\1\2"),
    (r"\+", " plus "),
    (r"[\x{2212}\x{2013}]|(^|[^A-Za-z])-", r"\1 minus "),  # but not the hyphen of two-digit
    (r"<", " lt "),
    (r">", " gt "),
)


@dataclass(frozen=True)
class Match:
    """One row and the benchmark problem it overlaps with. score: 1 for exact, else Jaccard or share."""

    row: int
    benchmark: str
    problem: int
    kind: str
    score: float


@dataclass(frozen=True)
class Report:
    """matches: for each row that overlaps, its best match; rows: how many were looked at."""

    rows: int
    matches: tuple[Match, ...]

    @property
    def dropped(self) -> frozenset[int]:
        """The rows that overlap."""
        return frozenset(m.row for m in self.matches)

    def counts(self) -> dict[str, dict[str, int]]:
        """benchmark -> kind -> rows."""
        found: dict[str, dict[str, int]] = {}
        for match in self.matches:
            kinds = found.setdefault(match.benchmark, {})
            kinds[match.kind] = kinds.get(match.kind, 0) + 1
        return found

    def as_dict(self) -> dict[str, Any]:
        """For JSON and the cache."""
        return {"rows": self.rows, "matches": [asdict(m) for m in self.matches]}


def find_overlap(
    texts: Sequence[str], benchmarks: Mapping[str, Sequence[str]], near: float = NEAR, share: float = SHARE
) -> Report:
    """The rows of `texts` that overlap with a problem of a benchmark (name -> problem texts)."""
    index = _Index(benchmarks)
    matches: list[Match] = []
    for start in range(0, len(texts), _BATCH):
        matches += index.search(texts[start : start + _BATCH], start, near, share)
    return Report(len(texts), tuple(matches))


def normal_words(texts: Sequence[str]) -> Any:
    """The words of each text in normal form, as an Arrow list array of strings."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = pa.array([_ascii(t) for t in texts], pa.string())
    for pattern, meaning in _SPELLINGS:
        column = pc.replace_substring_regex(column, pattern, meaning)
    column = pc.utf8_lower(column)
    # `x2` and `x_2` and `x^{2}` are x 2; every other sign separates words.
    column = pc.replace_substring_regex(column, r"([0-9]+)", r" \1 ")
    column = pc.replace_substring_regex(column, r"[^0-9a-z\x80-\x{10ffff}]+", " ")
    return pc.utf8_split_whitespace(pc.utf8_trim_whitespace(column))


def _ascii(text: str) -> str:
    """Unicode compatibility form, and no lone surrogates, which Arrow does not take."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", text).encode("utf-8", "replace").decode()


_RANK = {"ngram": 0, "near": 1, "exact": 2}


class _Index:
    """The benchmarks' problems by their texts, 3-grams and 8-grams, as hashes."""

    def __init__(self, benchmarks: Mapping[str, Sequence[str]]) -> None:
        import numpy as np

        self.names = [(name, i) for name, texts in benchmarks.items() for i in range(len(texts))]
        words = _Words([t for texts in benchmarks.values() for t in texts])
        self.texts: dict[int, int] = {}
        for problem, key in enumerate(words.keys.tolist()):
            if words.lengths[problem]:
                self.texts.setdefault(key, problem)
        self.grams = {}
        for size in (NEAR_WORDS, NGRAM_WORDS):
            hashes, owners = words.grams(size)
            order = np.argsort(hashes, kind="stable")
            self.grams[size] = hashes[order], owners[order], words.gram_counts(hashes, owners)

    def search(self, texts: Sequence[str], start: int, near: float, share: float) -> Iterator[Match]:
        words = _Words(texts)
        best: dict[int, Match] = {}

        def offer(row: int, problem: int, kind: str, score: float) -> None:
            name, place = self.names[problem]
            before = best.get(row)
            if before is None or (_RANK[kind], score) > (_RANK[before.kind], before.score):
                best[row] = Match(start + row, name, place, kind, round(score, 4))

        for row, key in enumerate(words.keys.tolist()):
            if words.lengths[row] and key in self.texts:
                offer(row, self.texts[key], "exact", 1.0)
        for row, problem, common, ours, theirs in self._common(words, NEAR_WORDS):
            jaccard = common / (ours + theirs - common)
            if jaccard >= near:
                offer(row, problem, "near", jaccard)
        for row, problem, common, _, theirs in self._common(words, NGRAM_WORDS):
            if common / theirs >= share:
                offer(row, problem, "ngram", common / theirs)
        return iter(sorted(best.values(), key=lambda m: m.row))

    def _common(self, words: _Words, size: int) -> Iterator[tuple[int, int, int, int, int]]:
        """(row, problem, distinct n-grams in common, of the row, of the problem), where there are any."""
        import numpy as np

        known, owners, theirs = self.grams[size]
        if not len(known):
            return
        hashes, rows = words.grams(size)
        ours = words.gram_counts(hashes, rows)
        left = np.searchsorted(known, hashes, "left")
        right = np.searchsorted(known, hashes, "right")
        counts = right - left
        hit = counts > 0
        left, counts, rows = left[hit], counts[hit], rows[hit]
        if not len(rows):
            return
        # each occurrence of a row's n-gram against each problem that has it
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        problems = owners[np.repeat(left, counts) + offsets]
        pairs = np.repeat(rows, counts).astype(np.int64) * len(self.names) + problems
        unique, common = np.unique(pairs, return_counts=True)
        for pair, number in zip(unique.tolist(), common.tolist(), strict=True):
            row, problem = divmod(pair, len(self.names))
            yield row, problem, number, int(ours[row]), int(theirs[problem])


class _Words:
    """Words of many texts as one array of hashes. keys: a hash of each whole text."""

    def __init__(self, texts: Sequence[str]) -> None:
        import numpy as np
        import pyarrow.compute as pc

        lists = normal_words(texts)
        self.lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
        encoded = lists.flatten().dictionary_encode()
        table = np.array([_hash(w) for w in encoded.dictionary.to_pylist()] or [0], dtype=np.uint64)
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        self.hashes = table[codes] if len(codes) else np.zeros(0, dtype=np.uint64)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.rows = np.repeat(np.arange(len(self.lengths)), self.lengths)
        self.keys = np.array([_hash(t) for t in pc.binary_join(lists, "").to_pylist()], dtype=np.uint64)

    def grams(self, size: int) -> tuple[Any, Any]:
        """(hash, row) of the distinct n-grams of each row."""
        import numpy as np

        count = len(self.hashes) - size + 1
        if count < 1:
            return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
        value = np.zeros(count, dtype=np.uint64)
        for offset in range(size):
            value = value * np.uint64(_MULTIPLIER) + self.hashes[offset : offset + count]
        value ^= value >> np.uint64(31)
        whole = self.rows[:count] == self.rows[size - 1 :]  # not across two rows
        value, rows = value[whole], self.rows[:count][whole]
        order = np.lexsort((value, rows))
        value, rows = value[order], rows[order]
        first = np.ones(len(value), dtype=bool)
        first[1:] = (value[1:] != value[:-1]) | (rows[1:] != rows[:-1])
        return value[first], rows[first]

    def gram_counts(self, hashes: Any, rows: Any) -> Any:
        """Distinct n-grams of each row, at least 1."""
        import numpy as np

        return np.maximum(np.bincount(rows, minlength=len(self.lengths)), 1)


def _hash(text: str) -> int:
    """64 bits of a text, the same in every process."""
    import hashlib

    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
