"""Compression of layers: bytes that depend on the input and the codec's version, never on threads or the CPU.

gzip: libdeflate at one level, members of 1 MiB each, joined (RFC 1952 section 2.2); readers go on at the next member.
zstd: one frame, one level, one worker setting.
The choice of codecs and levels is measured in docs/adr/0003-codecs.md.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial

from ocibuild.oci import media_types

from .workers import Task, Workers

__all__ = ["GZIP_LEVEL", "MEMBER_SIZE", "ZSTD_LEVEL", "Compression", "compress"]

GZIP_LEVEL = 4
ZSTD_LEVEL = 3
MEMBER_SIZE = 1024 * 1024
"""The uncompressed bytes in one gzip member."""

# Frames with no worker and with one or more differ; with one and with more they do not.
_ZSTD_WORKERS = 2


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


def compress(blocks: Iterable[bytes], compression: Compression, *, workers: Workers | None = None) -> Iterator[bytes]:
    """The compressed bytes of an archive that comes in blocks of `MEMBER_SIZE` bytes, the last one shorter.

    Args:
        blocks: The archive. Every block but the last has exactly `MEMBER_SIZE` bytes.
        compression: The codec.
        workers: Threads for gzip, by default the caller's alone; the bytes are the same for any number.
    """
    if compression is Compression.NONE:
        return iter(blocks)
    if compression is Compression.ZSTD:
        return _zstd(blocks)
    return _gzip(blocks, workers)


def _gzip(blocks: Iterable[bytes], workers: Workers | None) -> Iterator[bytes]:
    from deflate import gzip_compress

    def member(block: bytes) -> bytes:
        return bytes(gzip_compress(block, GZIP_LEVEL))

    if workers is None or workers.count <= 1:
        yield from map(member, blocks)
        return
    window: deque[Task[bytes]] = deque()
    for block in blocks:
        window.append(workers.submit(partial(member, block)))
        if len(window) > 2 * workers.count:
            yield window.popleft().result()
    while window:
        yield window.popleft().result()


def _zstd(blocks: Iterable[bytes]) -> Iterator[bytes]:
    import zstandard

    codec = zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=_ZSTD_WORKERS, write_checksum=True).compressobj()
    for block in blocks:
        if data := codec.compress(block):
            yield data
    yield codec.flush()
