"""Two ranges of bytes of one length: where they differ, in chunks, without a loop over the bytes."""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass

__all__ = ["Bytes", "Change", "Work", "compare_spans", "describe_count"]

Bytes = bytes | mmap.mmap | memoryview

_CHUNK = 256 * 1024
_EXACT_LIMIT = 64 * 1024 * 1024
_RUNS_LIMIT = 1_000
_RUN = re.compile(rb"[^\0]+")


@dataclass(slots=True)
class Work:
    """How many bytes may still be compared: ranges that overlap are compared each time."""

    left: int

    def spend(self, size: int) -> bool:
        """Take so much away, if it is there."""
        if size > self.left:
            return False
        self.left -= size
        return True


@dataclass(frozen=True, slots=True)
class Change:
    """How two ranges differ.

    Attributes:
        first: Where the first byte that differs is in them.
        values: That byte on both sides.
        count: How many differ; where `more`, at least so many.
        more: Not all were counted.
        runs: Where bytes that differ begin and end, the first of them.
    """

    first: int
    values: tuple[int, int]
    count: int
    more: bool
    runs: tuple[tuple[int, int], ...]


def compare_spans(a: Bytes, a_at: int, b: Bytes, b_at: int, size: int, *, first_only: bool = False) -> Change | None:
    """How two ranges differ; None where they do not.

    Args:
        a: The first side's bytes.
        a_at: Where its range begins.
        b: The second side's.
        b_at: Where its range begins.
        size: How long both are.
        first_only: Stop at the first chunk that differs.
    """
    limit = 1 if first_only else _RUNS_LIMIT
    count = exact = 0
    first = -1
    values = (0, 0)
    runs: list[tuple[int, int]] = []
    for start in range(0, size, _CHUNK):
        length = min(_CHUNK, size - start)
        one, other = _taken(a, a_at + start, length), _taken(b, b_at + start, length)
        if one == other:
            continue
        if exact >= _EXACT_LIMIT:
            return Change(first, values, count, True, tuple(runs))
        exact += length
        mixed = (int.from_bytes(one, "little") ^ int.from_bytes(other, "little")).to_bytes(length, "little")
        count += length - mixed.count(0)
        if len(runs) < limit:
            for found in _RUN.finditer(mixed):
                runs.append((start + found.start(), start + found.end()))
                if len(runs) == limit:
                    break
        if first < 0:
            first = runs[0][0]
            values = one[first - start], other[first - start]
            if first_only:
                break
    return Change(first, values, count, first_only, tuple(runs)) if count else None


def _taken(data: Bytes, start: int, size: int) -> bytes:
    """A chunk; the pages of a map are given back, or a large file would count as memory in use."""
    chunk = bytes(data[start : start + size])
    if isinstance(data, mmap.mmap) and hasattr(data, "madvise"):
        data.madvise(mmap.MADV_DONTNEED)
    return chunk


def describe_count(change: Change, size: int) -> str:
    """How many bytes differ, in words."""
    verb = "differs" if change.count == 1 else "differ"
    return f"{'more than ' * change.more}{change.count:,} of {size:,} bytes {verb}"
