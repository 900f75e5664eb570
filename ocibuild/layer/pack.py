"""A layer's bytes, as they come: archived, hashed and compressed in one pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from .compress import Compression, Data, compress
from .entry import Entry
from .plan import plan
from .tar import BlockPool, tar_blocks
from .workers import Workers

__all__ = ["Packed", "Packing"]


class Packed(Protocol):
    """The bytes of a layer; what they were is known once they have all come."""

    def __iter__(self) -> Iterator[Data]:
        """The compressed bytes, in order. What is given may be overwritten once the next is asked for."""

    @property
    def diff_id(self) -> str:
        """The SHA-256 of the uncompressed archive, in hexadecimal."""

    @property
    def size(self) -> int:
        """The bytes of that archive."""


class Packing:
    """The layer of the given entries, packed while it is read.

    Args:
        entries: In any order; `plan` checks, completes and sorts them.
        compression: The codec.
        mtime: The modification time of every entry, whole seconds since 1970.
        workers: Compression threads, by default the caller's alone.
        on_progress: Called with the number of archive bytes that were just read.

    Raises:
        EntryError: While it is read: an entry that has no place in a layer, or a file that cannot be read.
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        compression: Compression,
        *,
        mtime: int = 0,
        workers: Workers | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        self.size = 0
        self._hasher = hashlib.sha256()
        self._entries = plan(entries)
        self._mtime = mtime
        self._pool = BlockPool()
        self._compression, self._workers, self._on_progress = compression, workers, on_progress

    def __iter__(self) -> Iterator[Data]:
        look = self._hasher.update
        return compress(self._archive(), self._compression, workers=self._workers, seen=look, used=self._pool.give)

    def _archive(self) -> Iterator[memoryview]:
        for block in tar_blocks(self._entries, pool=self._pool, mtime=self._mtime):
            self.size += len(block)
            if self._on_progress is not None:
                self._on_progress(len(block))
            yield block

    @property
    def diff_id(self) -> str:
        return self._hasher.hexdigest()
