"""A file of samples, an entry a line, of which opening finds the places and reads no text.

An entry is JSON that starts with `{"prompt": "<24 hex digits>", "seed": N, `. An index holds a hash of the
digits and N with the place of the entry in the file: 20 bytes for each. What a hash finds is read and
compared, so that two entries of one hash are not mistaken for each other.
"""

from __future__ import annotations

import json
import os
import struct
import weakref
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from operator import mul
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tina_harness.specs import Completion

if TYPE_CHECKING:
    import numpy as np

ENTRY = b'{"prompt": "'  # how an entry starts; quotes inside a text are escaped, so it starts nowhere else
DIGEST = 24
SEED = b'", "seed": '
SEED_AT = len(ENTRY) + DIGEST + len(SEED)
SEED_LONGEST = 24  # bytes that a seed fits into; eight at a time are hashed
HEAD = SEED_AT + SEED_LONGEST
BLOCK = 2**18
# Odd numbers without a pattern: the hash is the sum of products (multilinear; Lemire and Kaser 2014).
FACTORS = (
    0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB,
    0xD6E8FEB86659FD93, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9,
)  # fmt: skip

Place = tuple[str, int]  # (digest of the prompt, seed)


class Found(NamedTuple):
    """Places of entries: hash, offset and length in bytes, each of shape (entries,)."""

    hashes: np.ndarray[Any, Any]
    offsets: np.ndarray[Any, Any]
    lengths: np.ndarray[Any, Any]


class Places(NamedTuple):
    """`Found` of a whole file in order of hashes, to be looked up."""

    hashes: Sequence[int]
    offsets: Sequence[int]
    lengths: Sequence[int]


class Entries:
    """The entries of a file as it was when this was made; a file that is not there has none.

    damaged: lines that hold no entry. A kill, or a full disk, can leave an entry that is cut; the next one
    then follows in the same line, and is found there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        try:
            self._file = os.open(path, os.O_RDONLY)  # stays open: another process may replace the file
        except FileNotFoundError:
            self._file, self._places = -1, Places((), (), ())
            return
        weakref.finalize(self, os.close, self._file)
        self._places = _sorted(self._blocks())

    def get(self, place: Place) -> tuple[Completion | None, int]:
        """(the newest whole entry of a place, how many of its entries are damaged)."""
        wanted, damaged = _hash(place), 0
        hashes, offsets, lengths = self._places
        first = at = bisect_left(hashes, wanted)
        while at < len(hashes) and hashes[at] == wanted:
            at += 1
        for offset, length in sorted(zip(offsets[first:at], lengths[first:at], strict=True), reverse=True):
            entry = as_entry(os.pread(self._file, length, offset))
            if entry is not None and entry[0] == place:
                return entry[1], damaged
            damaged += entry is None
        return None, damaged

    def whole(self) -> Iterator[bytes | None]:
        """Each entry as it is in the file, in order; None for one that is damaged."""
        for offset, length in sorted(zip(*self._places[1:], strict=True)):
            text = os.pread(self._file, length, offset)
            yield text if as_entry(text) else None

    def _blocks(self) -> Iterator[Found]:
        """The places in a block of lines after another; what follows the last line break comes last."""
        block, start, filled = bytearray(BLOCK), 0, 0
        while read := os.readv(self._file, [memoryview(block)[filled:]]):
            filled += read
            length = block.rfind(b"\n", 0, filled) + 1
            if length:
                yield _well_formed(block, length, start) or self._searched(bytes(block[:length]), start)
                start, filled = start + length, filled - length
                block[:filled] = block[length : length + filled]
            elif filled == len(block):
                block = block + bytes(BLOCK)  # a line that is longer
        if filled:
            damaged = self.damaged
            yield self._searched(bytes(block[:filled]), start)
            self.damaged = damaged  # a last line that is cut, as by a kill, is no damage

    def _searched(self, block: bytes, start: int) -> Found:
        """The places of the entries of a block, read one by one; lines without one are counted as damaged."""
        import numpy as np

        found = []
        for line in block.split(b"\n"):
            pieces = line.split(ENTRY)
            at, whole = start + len(pieces[0]), None
            for piece in pieces[1:]:
                if (whole := as_entry(ENTRY + piece)) is not None:
                    found.append((_hash(whole[0]), at, len(ENTRY + piece)))
                at += len(ENTRY + piece)
            self.damaged += whole is None and bool(line)
            start += len(line) + 1
        hashes, offsets, lengths = zip(*found, strict=True) if found else ((), (), ())
        return Found(np.array(hashes, np.uint64), np.array(offsets, np.int64), np.array(lengths, np.int32))


def as_line(place: Place, completion: Completion) -> bytes:
    """An entry, with the line break."""
    prompt, seed = place
    return json.dumps({"prompt": prompt, "seed": seed, **completion._asdict()}).encode() + b"\n"


def as_entry(text: bytes) -> tuple[Place, Completion] | None:
    """What `as_line` wrote, None where it is not whole."""
    try:
        entry = json.loads(text.decode())
        place = str(entry["prompt"]), int(entry["seed"])
        return place, Completion(str(entry["text"]), int(entry["tokens"]), str(entry["stop_reason"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _well_formed(block: bytearray, length: int, start: int) -> Found | None:
    """The places of a block, of so many bytes, whose lines all start and end as an entry does; or None.

    Their JSON is not read: that is what opening a large file would spend its time on.
    """
    import numpy as np

    text = np.frombuffer(block, np.uint8, length)
    ends = np.flatnonzero(text == ord("\n"))
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).min() < HEAD or _starts(block, length) != len(ends):
        return None
    heads = np.lib.stride_tricks.sliding_window_view(text, HEAD)[starts]
    digests, seeds = heads[:, len(ENTRY) : len(ENTRY) + DIGEST], heads[:, SEED_AT:]
    digits = (seeds == ord(",")).argmax(axis=1)
    of_seed = np.arange(SEED_LONGEST) < digits[:, None]
    as_entries = (
        (heads[:, : len(ENTRY)] == np.frombuffer(ENTRY, np.uint8)).all()
        and (heads[:, len(ENTRY) + DIGEST : SEED_AT] == np.frombuffer(SEED, np.uint8)).all()
        and digits.min() > 0
        and ((seeds - ord("0") < 10) | ~of_seed).all()  # unsigned: what is below "0" is far above 10
        and (text[ends - 2] == ord('"')).all()
        and (text[ends - 1] == ord("}")).all()
    )
    if not as_entries:
        return None
    words = np.concatenate([digests, seeds * of_seed], axis=1).view("<u8")
    hashes = (words * np.array(FACTORS, np.uint64)).sum(axis=1, dtype=np.uint64)
    return Found(hashes, starts + start, (ends - starts).astype(np.int32))


def _starts(block: bytearray, length: int) -> int:
    """How often an entry starts, told by its first two bytes: pairs of bytes at even and odd places."""
    import numpy as np

    pair = int.from_bytes(ENTRY[:2], "little")
    pairs = (np.frombuffer(block, "<u2", (length - odd) // 2, odd) for odd in (0, 1))
    return sum(int(np.count_nonzero(p == pair)) for p in pairs)


def _hash(place: Place) -> int:
    """The hash of a place, the same as of the head of its entry."""
    prompt, seed = place
    words = struct.unpack(
        "<6Q", struct.pack(f"{DIGEST}s{SEED_LONGEST}s", prompt.encode(), str(seed).encode())
    )
    return sum(map(mul, words, FACTORS)) & 0xFFFFFFFFFFFFFFFF


def _sorted(found: Iterable[Found]) -> Places:
    """The places of all blocks."""
    import numpy as np

    blocks = list(found)
    if not blocks:
        return Places((), (), ())
    columns: list[Any] = [np.concatenate(column) for column in zip(*blocks, strict=True)]
    order = columns[0].argsort()
    # A look into a memoryview gives an int, at a third of the time that a look into an array takes.
    return Places(*(memoryview(column[order]) for column in columns))
