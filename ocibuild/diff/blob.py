"""The parts of a compressed blob, read one by one: gzip members (RFC 1952), zstd frames (RFC 8878).

The blob is hostile: it is read through once, in bounded memory, and whatever is wrong is one `LayerError`.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO

from ocibuild.errors import LayerError
from ocibuild.layer.compress import MEMBER_SIZE

__all__ = ["BLOCKS_LIMIT", "KEPT", "Source", "frame_body", "frame_header", "gzip_header", "read_member", "skip"]

BLOCKS_LIMIT = 4_000_000
KEPT = 5 * MEMBER_SIZE // 4
"""The compressed bytes kept of the first member: those of `MEMBER_SIZE` bytes, however badly they compress."""

_CHUNK = 256 * 1024
_BLOCK_LIMIT = 128 * 1024
_SHOWN = 100
_SYSTEMS = {0: "FAT", 3: "Unix", 7: "Macintosh", 10: "TOPS-20", 11: "NTFS", 255: "unknown"}
_SPEEDS = {2: "slowest", 4: "fastest"}


class Source:
    """The blob, from which a few bytes can be taken, or what happens to be there; the rest of a read is not copied."""

    def __init__(self, blob: BinaryIO) -> None:
        self._blob = blob
        self._buffer = b""
        self._at = 0

    def peek(self, size: int) -> bytes:
        while len(self._buffer) - self._at < size and (data := self._blob.read(_CHUNK)):
            self._buffer, self._at = self._buffer[self._at :] + data, 0
        return self._buffer[self._at : self._at + size]

    def some(self, limit: int) -> bytes:
        """What comes next, at most so many bytes; none at the end."""
        if self._at == len(self._buffer):
            self._buffer, self._at = self._blob.read(_CHUNK), 0
        data = self._buffer[self._at : self._at + limit]
        self._at += len(data)
        return data

    def back(self, size: int) -> None:
        """Have the last bytes of what `some` gave come again."""
        self._at -= size

    def take(self, size: int) -> bytes:
        data = self.some(size)
        while len(data) < size:
            more = self.some(size - len(data))
            if not more:
                raise LayerError("a zstd frame that ends too early")
            data += more
        return data


def read_member(source: Source) -> tuple[bytes, bytes, int]:
    """A gzip member: its first bytes, the first it holds, and how many it holds."""
    codec = zlib.decompressobj(wbits=31)
    kept, content, size = bytearray(), bytearray(), 0
    # Small at first: what comes after a short member is not read again and again.
    limit = 512
    while not codec.eof:
        limit = min(2 * limit, _CHUNK)
        data = source.some(limit)
        if not data:
            raise LayerError("a gzip member that ends too early")
        try:
            out = codec.decompress(data, MEMBER_SIZE)
        except zlib.error as error:
            raise LayerError(f"compressed data that is damaged: {error}") from error
        rest = len(codec.unconsumed_tail) or len(codec.unused_data)
        source.back(rest)
        used = data[: len(data) - rest]
        kept += used[: KEPT - len(kept)]
        content += out[: MEMBER_SIZE - len(content)]
        size += len(out)
    return bytes(kept), bytes(content), size


def gzip_header(data: bytes) -> tuple[int, tuple[tuple[str, str], ...]]:
    """Where a member's compressed data begins, and the fields before it (RFC 1952, section 2.3)."""
    flags, speed, system, at = data[3], data[8], data[9], 10
    fields = {
        "mtime": f"{int.from_bytes(data[4:8], 'little')}",
        "XFL": f"{speed}" + (f" ({_SPEEDS[speed]})" if speed in _SPEEDS else ""),
        "OS": f"{system}" + (f" ({_SYSTEMS[system]})" if system in _SYSTEMS else ""),
        "flags": f"{flags}",
    }
    if flags & 4:
        size = int.from_bytes(data[at : at + 2], "little")
        fields["extra"] = data[at + 2 : at + 2 + min(size, _SHOWN)].hex() + "…" * (size > _SHOWN)
        at += 2 + size
    for flag, name in ((8, "name"), (16, "comment")):
        if flags & flag:
            end = data.find(0, at)
            # Longer than what was kept: nothing after it is known.
            end = end if end >= 0 else len(data)
            text = data[at : min(end, at + _SHOWN)]
            fields[name] = text.decode(errors="backslashreplace") + "…" * (end - at > _SHOWN)
            at = end + 1
    return at + (2 if flags & 2 else 0), tuple(fields.items())


def skip(source: Source) -> None:
    """Read past a skippable frame, whose magic has been taken."""
    left = int.from_bytes(source.take(4), "little")
    while left:
        data = source.some(left)
        if not data:
            raise LayerError("a zstd frame that ends too early")
        left -= len(data)


def frame_body(source: Source, blocks: int) -> tuple[bytes, int]:
    """The first blocks of a frame, read to its end, and how many more there may be in the blob."""
    body = bytearray()
    last = False
    while not last:
        blocks -= 1
        if not blocks:
            raise LayerError(f"more than {BLOCKS_LIMIT} zstd blocks")
        mark = source.take(3)
        last, data = _zstd_block(mark, source)
        if len(body) < KEPT:
            body += mark + data
    return bytes(body), blocks


def frame_header(source: Source) -> tuple[bytes, dict[str, str], int | None, bool]:
    """A frame's header after the magic, its fields, the content's size, if it tells it, and whether a checksum comes."""
    [flags] = descriptor = source.take(1)
    single, checksum = bool(flags & 0x20), bool(flags & 4)
    window = source.take(0 if single else 1)
    dictionary = source.take((0, 1, 2, 4)[flags & 3])
    size = source.take((int(single), 2, 4, 8)[flags >> 6])
    length = f"{(1 << 10 + (window[0] >> 3)) // 8 * (8 + (window[0] & 7)):,} bytes" if window else "as the content"
    fields = {
        "window": length,
        "checksum": "yes" if checksum else "no",
        "content size": "yes" if size else "no",
        "dictionary": f"{int.from_bytes(dictionary, 'little')}" if any(dictionary) else "none",
    }
    # Two bytes begin where one ends.
    content_size = int.from_bytes(size, "little") + (256 if len(size) == 2 else 0) if size else None  # noqa: PLR2004
    return descriptor + window + dictionary + size, fields, content_size, checksum


def _zstd_block(mark: bytes, source: Source) -> tuple[bool, bytes]:
    """Whether a block is the last of its frame, and what it holds."""
    value = int.from_bytes(mark, "little")
    kind, size = value >> 1 & 3, value >> 3
    if kind == 3 or size > _BLOCK_LIMIT:  # noqa: PLR2004
        raise LayerError("compressed data that is damaged: a zstd block that is none")
    return bool(value & 1), source.take(1 if kind == 1 else size)
