r"""Which rows of a training set are also in a benchmark.

Three kinds of match, on text in a normal form (lower case, one spelling for what LaTeX spells in many
ways, letters and digits only):

- exact: the same text in normal form, white space and LaTeX spelling aside;
- near: Jaccard similarity of the word 3-grams of at least `near` (Broder 1997; computed exactly, with an
  inverted index of the benchmarks' 3-grams, where MinHash would estimate it);
- ngram: at least `share`, and LEAST, of the benchmark problem's word 8-grams are in the row (8-grams as in
  Open-R1's decontamination, which counts a single one: "find the number of ordered pairs of positive
  integers").

Columns are processed by Arrow and NumPy, a batch of rows at a time, so that time and memory per row do not
depend on how many rows there are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

VERSION = "2"  # of the method: cached reports of another are not used
NEAR_WORDS = 3
NGRAM_WORDS = 8
NEAR = 0.6
SHARE = 0.5

LEAST = 8  # 8-grams in common: a short problem's expression may stand in another problem

_BATCH = 20_000  # rows
_MASK = 2**22 - 1
_MULTIPLIER = 0x9E3779B97F4A7C15  # of the rolling hash: 2^64 / golden ratio, odd

# Words that shape the page, and words that LaTeX has several of; prose is treated alike on both sides.
_SHAPES = frozenset(
    [
        "left", "right", "big", "bigg", "displaystyle", "textstyle", "limits", "nolimits", "quad", "qquad",
        "text", "textbf", "textit", "textrm", "mathrm", "mathbf", "mathit", "mathsf", "operatorname", "mbox",
        "emph", "boldsymbol", "ldots", "dots", "cdots", "dotsc", "dotsb", "begin", "end",
    ]
)  # fmt: skip
_SYNONYMS = {
    **dict.fromkeys(["dfrac", "tfrac", "cfrac"], "frac"),
    **dict.fromkeys(["le", "leqslant"], "leq"),
    **dict.fromkeys(["ge", "geqslant"], "geq"),
    **{"cdot": "times", "ne": "neq", "degree": "circ", "degrees": "circ"},
}
_NAMES = ["minus", "minus", "leq", "geq", "neq", "times", "times", "pi", "infty", "circ", "sqrt"]
_SIGNS = str.maketrans({s: f" {n} " for s, n in zip("\u2212\u2013≤≥≠×·π∞°√", _NAMES, strict=True)})


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

    column = pc.utf8_lower(pa.array([t if t.isascii() else _compatible(t) for t in texts], pa.string()))
    for sign, word in (("+", " plus "), ("<", " lt "), (">", " gt ")):
        column = pc.replace_substring(column, sign, word)
    column = pc.replace_substring_regex(column, r"(^|[^a-z])-", r"\1 minus ")  # not the hyphen of two-digit
    column = pc.replace_substring_regex(column, r"([0-9]),([0-9]{3})", r"\1\2")
    column = pc.replace_substring_regex(column, r"([0-9]+)", r" \1 ")  # `x2`, `x_2` and `x^{2}` are x 2
    column = pc.replace_substring_regex(column, r"[^0-9a-z\x80-\x{10ffff}]+", " ")
    return pc.utf8_split_whitespace(pc.utf8_trim_whitespace(column))


def _compatible(text: str) -> str:
    """Unicode compatibility form, signs as words, and no lone surrogates, which Arrow does not take."""
    text = unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_SIGNS)
    return text.encode("utf-8", "replace").decode()


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
        self.grams, self.filters = {}, {}
        for size in (NEAR_WORDS, NGRAM_WORDS):
            hashes, owners = _distinct(*words.grams(size))
            order = np.argsort(hashes, kind="stable")
            counts = np.bincount(owners, minlength=len(self.names))
            self.grams[size] = hashes[order], owners[order], counts
            # most n-grams of a row are in no benchmark, which one look at a table of bits says
            self.filters[size] = np.zeros(_MASK + 1, dtype=bool)
            self.filters[size][hashes & np.uint64(_MASK)] = True

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
        for row, problem, common, ours, theirs in self._common(words, NEAR_WORDS, near):
            jaccard = common / (ours + theirs - common)
            if jaccard >= near:
                offer(row, problem, "near", jaccard)
        for row, problem, common, _, theirs in self._common(words, NGRAM_WORDS, 0.0):
            if common >= LEAST and common / theirs >= share:
                offer(row, problem, "ngram", common / theirs)
        return iter(sorted(best.values(), key=lambda m: m.row))

    def _common(self, words: _Words, size: int, covered: float) -> Iterator[tuple[int, int, int, int, int]]:
        """(row, problem, distinct n-grams in common, of the row, of the problem), where it may matter.

        covered: a row is looked at where at least half this share of its n-grams is in some benchmark.
        """
        import numpy as np

        known, owners, theirs = self.grams[size]
        hashes, rows = words.grams(size)
        if not len(known) or not len(hashes):
            return
        maybe = np.flatnonzero(self.filters[size][hashes & np.uint64(_MASK)])
        hit = maybe[known[np.minimum(np.searchsorted(known, hashes[maybe]), len(known) - 1)] == hashes[maybe]]
        hits = np.bincount(rows[hit], minlength=len(words.lengths))
        total = np.bincount(rows, minlength=len(words.lengths))
        least = 1 if size == NEAR_WORDS else LEAST
        wanted = (hits >= least) & (hits >= covered / 2 * total)
        inside = wanted[rows]
        ours_hashes, ours_rows = _distinct(hashes[inside], rows[inside])
        ours = np.bincount(ours_rows, minlength=len(words.lengths))
        left = np.searchsorted(known, ours_hashes, "left")
        counts = np.searchsorted(known, ours_hashes, "right") - left
        found = counts > 0
        left, counts, ours_rows = left[found], counts[found], ours_rows[found]
        # each n-gram of a row against each problem that has it
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        problems = owners[np.repeat(left, counts) + offsets]
        pairs = np.repeat(ours_rows, counts).astype(np.int64) * len(self.names) + problems
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
        encoded = lists.flatten().dictionary_encode()
        names = [_SYNONYMS.get(w, w) for w in encoded.dictionary.to_pylist()]
        table = np.array([0 if w in _SHAPES else _hash(w) for w in names], dtype=np.uint64)
        lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
        hashes = table[encoded.indices.to_numpy(zero_copy_only=False)] if len(table) else table
        rows = np.repeat(np.arange(len(lengths)), lengths)
        self.hashes, self.rows = hashes[hashes != 0], rows[hashes != 0]
        self.lengths = np.bincount(self.rows, minlength=len(texts))
        # of the whole text: the sum of its words' hashes, each times a power for its place
        places = np.arange(len(self.rows)) - np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)
        with np.errstate(over="ignore"):
            powers = np.cumprod(np.full(max(1, places.max(initial=0) + 1), _MULTIPLIER, dtype=np.uint64))
            self.keys = np.zeros(len(texts), dtype=np.uint64)
            np.add.at(self.keys, self.rows, self.hashes * powers[places])

    def grams(self, size: int) -> tuple[Any, Any]:
        """(hash, row) of the n-grams of each row, in order."""
        import numpy as np

        count = len(self.hashes) - size + 1
        if count < 1:
            return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
        value = np.zeros(count, dtype=np.uint64)
        for offset in range(size):
            value *= np.uint64(_MULTIPLIER)
            value += self.hashes[offset : offset + count]
        value ^= value >> np.uint64(31)
        whole = self.rows[:count] == self.rows[size - 1 :]  # not across two rows
        return value[whole], self.rows[:count][whole]


def _distinct(hashes: Any, rows: Any) -> tuple[Any, Any]:
    """Each (hash, row) once."""
    import numpy as np

    order = np.lexsort((hashes, rows))
    hashes, rows = hashes[order], rows[order]
    first = np.ones(len(hashes), dtype=bool)
    first[1:] = (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1])
    return hashes[first], rows[first]


def _hash(text: str) -> int:
    """64 bits of a text, the same in every process."""
    import hashlib

    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
