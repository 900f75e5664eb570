"""Compression of layers: bytes that depend on the input and the codec's version, never on threads or the CPU.

gzip: libdeflate at one level, members of 1 MiB each, joined (RFC 1952 section 2.2); readers go on at the next member.
zstd: one frame, one level, one worker setting.
The choice of codecs and levels is measured in docs/adr/0003-codecs.md.
"""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeAlias

from ocibuild.oci import media_types

from .workers import Task, Workers

__all__ = ["GZIP_LEVEL", "MEMBER_SIZE", "ZSTD_LEVEL", "Compression", "compress"]

GZIP_LEVEL = 4
ZSTD_LEVEL = 3
MEMBER_SIZE = 1024 * 1024
"""The uncompressed bytes in one gzip member."""

# Frames with no worker and with one or more differ; with one and with more they do not.
_ZSTD_WORKERS = 2
_ZSTD_PIECE = 256 * 1024


class Compression(enum.Enum):
    """How a layer's archive is compressed."""

    GZIP = "gzip"
    ZSTD = "zstd"
    NONE = "none"

    @property
    def media_type(self) -> str:
        """The media type of such a layer."""
        return {
            Compression.GZIP: media_types.LAYER_GZIP,
            Compression.ZSTD: media_types.LAYER_ZSTD,
            Compression.NONE: media_types.LAYER,
        }[self]


Block: TypeAlias = bytes | memoryview
Data: TypeAlias = bytes | bytearray | memoryview


def compress(
    blocks: Iterable[Block],
    compression: Compression,
    *,
    workers: Workers | None = None,
    seen: Callable[[Any], object] | None = None,
    used: Callable[[Any], object] | None = None,
) -> Iterator[Data]:
    """The compressed bytes of an archive that comes in blocks of `MEMBER_SIZE` bytes, the last one shorter.

    Args:
        blocks: The archive. Every block but the last has exactly `MEMBER_SIZE` bytes.
        compression: The codec.
        workers: Threads for gzip, by default the caller's alone; the bytes are the same for any number.
        seen: Called with each block, in order, by whichever thread: a hash is kept here while the next block is read.
        used: Called with each block when its bytes are not needed any more.
    """
    if compression is Compression.GZIP and workers is not None and workers.count > 1:
        pairs: Iterator[tuple[Block | None, Data]] = _side_by_side(blocks, workers, seen)
    else:
        pairs = _in_turn(blocks, compression, seen)
    for block, data in pairs:
        if data:
            yield data
        if used is not None and block is not None:
            used(block)


def _side_by_side(
    blocks: Iterable[Block], workers: Workers, seen: Callable[[Any], object] | None
) -> Iterator[tuple[Block | None, Data]]:
    window: deque[tuple[Block, Task[Data]]] = deque()
    before = threading.Lock()

    def member(block: Block, before: threading.Lock, after: threading.Lock) -> Data:
        # Tasks are begun in order, so whoever is waited for is at work.
        before.acquire()
        try:
            if seen is not None:
                seen(block)
        finally:
            after.release()
        return _member(block)

    for block in blocks:
        after = threading.Lock()
        after.acquire()
        window.append((block, workers.submit(partial(member, block, before, after))))
        before = after
        if len(window) > workers.count + 1:
            first, task = window.popleft()
            yield first, task.result()
    for block, task in window:
        yield block, task.result()


def _in_turn(
    blocks: Iterable[Block], compression: Compression, seen: Callable[[Any], object] | None
) -> Iterator[tuple[Block | None, Data]]:
    if seen is not None:
        blocks = _told(blocks, seen)
    if compression is Compression.ZSTD:
        import zstandard

        codec = zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=_ZSTD_WORKERS, write_checksum=True)
        # Its workers hand over what they made of 8 MiB at once: taken in pieces it needs 15 MB less.
        pieces = codec.chunker(chunk_size=_ZSTD_PIECE)
        for block in blocks:
            yield from ((None, data) for data in pieces.compress(block))
            yield block, b""
        yield from ((None, data) for data in pieces.finish())  # type: ignore[no-untyped-call]
        return
    for block in blocks:
        yield block, _member(block) if compression is Compression.GZIP else block


def _told(blocks: Iterable[Block], seen: Callable[[Any], object]) -> Iterator[Block]:
    for block in blocks:
        seen(block)
        yield block


def _member(block: Block) -> Data:
    from deflate import gzip_compress

    return gzip_compress(block, GZIP_LEVEL)
