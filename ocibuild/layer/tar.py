"""Tar archives of format 1: ustar headers, a pax record only where a field does not fit.

Rules kept here: the archive depends on the entries and the mtime alone. Owner and group are 0 without names; no atime,
ctime, device number or extended attribute is written; the archive ends after exactly two blocks of zeros.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from ocibuild.errors import EntryError, UsageError

from .entry import Directory, Entry, File

__all__ = ["BLOCK", "CHUNK", "MTIME_LIMIT", "tar_chunks"]

BLOCK = 512
CHUNK = 1024 * 1024
MTIME_LIMIT = 0o77777777777
"""The last second that eleven octal digits hold (the year 2242)."""

_SIZE_LIMIT = 0o77777777777
_SMALL = 64 * 1024
_NAME = 100
_PREFIX = 155
_PAX_NAME = b"././@PaxHeader"
_ZEROS = bytes(BLOCK)
_OPEN = os.O_RDONLY | getattr(os, "O_BINARY", 0)


def tar_chunks(entries: Iterable[Entry], *, mtime: int = 0) -> Iterator[bytes]:
    """The bytes of the archive, in order, in chunks of exactly 1 MiB, the last one shorter.

    Args:
        entries: Planned entries (`plan`): they are written as they come.
        mtime: The modification time of every entry, in whole seconds since 1970.

    Raises:
        EntryError: A file cannot be read, or its size changed after it was planned.
        UsageError: The time does not fit.
    """
    if not 0 <= mtime <= MTIME_LIMIT:
        raise UsageError(f"the time {mtime}", wanted=f"whole seconds from 0 to {MTIME_LIMIT}")
    pieces: list[bytes] = []
    held = 0

    def room() -> int:
        return CHUNK - held

    for piece in _pieces(entries, mtime, room):
        pieces.append(piece)
        held += len(piece)
        if held >= CHUNK:
            whole = b"".join(pieces)
            start = 0
            while held - start >= CHUNK:
                yield whole[start : start + CHUNK]
                start += CHUNK
            pieces = [whole[start:]] if start < held else []
            held -= start
    if pieces:
        yield b"".join(pieces)


def _pieces(entries: Iterable[Entry], mtime: int, room: Callable[[], int]) -> Iterator[bytes]:
    """The archive as it comes; a large file in pieces that fill a chunk, so that they need not be cut."""
    for entry in entries:
        if isinstance(entry, File):
            size = entry.size
            header = _header(entry.path, b"0", mode=entry.mode, size=size, mtime=mtime)
            padding = _ZEROS[: -size % BLOCK]
            if isinstance(entry.content, bytes):
                yield header + entry.content + padding
            elif size <= _SMALL:
                yield header + _read_small(entry.content, size) + padding
            else:
                yield header
                yield from _read(entry.content, size, room)
                yield padding
        elif isinstance(entry, Directory):
            yield _header(entry.path + "/", b"5", mode=entry.mode, mtime=mtime)
        else:
            yield _header(entry.path, b"2", mode=0o777, link=entry.target, mtime=mtime)
    yield _ZEROS * 2


def _header(path: str, kind: bytes, *, mode: int, mtime: int, size: int = 0, link: str = "") -> bytes:
    """The header blocks of one entry: a pax header and its records when a field needs them, then the ustar header."""
    if not link and len(path) <= _NAME and size <= _SIZE_LIMIT and path.isascii():
        head, tail, checksum = _template(kind, mode, mtime)
        name, digits = path.encode(), b"%011o" % size
        return (
            name.ljust(_NAME, b"\0")
            + head
            + digits
            + tail[0]
            + b"%06o" % (checksum + sum(name) + sum(digits))
            + tail[1]
        )
    records: dict[str, str] = {}
    split = _split(path)
    if split is None:
        records["path"] = path
        split = b"", _placeholder(path)
    link_field = link.encode()
    if len(link_field) > _NAME or not link.isascii():
        records["linkpath"] = link
        link_field = _placeholder(link)
    size_field = size
    if size > _SIZE_LIMIT:
        records["size"] = str(size)
        size_field = 0
    prefix, name = split
    header = _ustar(name, prefix, kind, mode=mode, size=size_field, mtime=mtime, link=link_field)
    if not records:
        return header
    body = b"".join(_record(key, records[key]) for key in sorted(records))
    pax = _ustar(_PAX_NAME, b"", b"x", mode=0o644, size=len(body), mtime=mtime, link=b"")
    return pax + body + bytes(-len(body) % BLOCK) + header


def _ustar(name: bytes, prefix: bytes, kind: bytes, *, mode: int, size: int, mtime: int, link: bytes) -> bytes:
    head = b"%b%07o\0000000000\0000000000\0%011o\0%011o\0" % (name.ljust(_NAME, b"\0"), mode, size, mtime)
    tail = b"%b%bustar\00000%b0000000\0000000000\0%b" % (
        kind,
        link.ljust(_NAME, b"\0"),
        bytes(64),
        prefix.ljust(_PREFIX + 12, b"\0"),
    )
    # The checksum is taken with the field itself as eight spaces.
    checksum = sum(head) + sum(tail) + 8 * 0x20
    return b"%b%06o\0 %b" % (head, checksum, tail)


def _split(path: str) -> tuple[bytes, bytes] | None:
    """The prefix and name fields for a path, the prefix as short as it can be; None when it does not fit."""
    if not path.isascii():
        return None
    raw = path.encode()
    if len(raw) <= _NAME:
        return b"", raw
    # The name keeps its trailing slash (a folder), so the search ends before it.
    slash = raw.find(b"/", len(raw) - _NAME - 1, len(raw) - 1)
    if slash <= 0 or slash > _PREFIX:
        return None
    return raw[:slash], raw[slash + 1 :]


def _placeholder(text: str) -> bytes:
    """What stands in a field whose value is in a pax record: ASCII, cut to fit."""
    return bytes(byte if byte < 0x80 else 0x5F for byte in text.encode()[:_NAME])  # noqa: PLR2004


def _record(key: str, value: str) -> bytes:
    """A pax record: its own length in decimal, a space, `key=value`, a newline."""
    rest = b" %b=%b\n" % (key.encode(), value.encode())
    length = len(rest) + 1
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return b"%d%b" % (length, rest)


@lru_cache(maxsize=64)
def _template(kind: bytes, mode: int, mtime: int) -> tuple[bytes, tuple[bytes, bytes], int]:
    """What is the same in all headers of a kind, mode and time: before the size, after it, and its part of the checksum."""
    plain = _ustar(b"", b"", kind, mode=mode, size=0, mtime=mtime, link=b"")
    digits, checksum = slice(124, 135), slice(148, 154)
    total = int(plain[checksum], 8) - sum(plain[digits])
    return plain[_NAME : digits.start], (plain[digits.stop : checksum.start], plain[checksum.stop :]), total


def _read_small(path: Path | str, size: int) -> bytes:
    """The whole of a small file."""
    try:
        descriptor = os.open(path, _OPEN)
        try:
            data = os.read(descriptor, size + 1)
            # What a file system gives in parts.
            while len(data) < size and (more := os.read(descriptor, size + 1 - len(data))):
                data += more
        finally:
            os.close(descriptor)
    except OSError as error:
        raise EntryError(f"cannot be read: {error.strerror}", where=path) from error
    if len(data) != size:
        raise _changed(path)
    return data


def _read(path: Path | str, size: int, room: Callable[[], int]) -> Iterator[bytes]:
    """A file in pieces of at most what there is room for."""
    left = size
    try:
        with open(path, "rb", buffering=0) as stream:
            while left and (data := stream.read(min(room(), left))):
                left -= len(data)
                yield data
            grown = not left and stream.read(1)
    except OSError as error:
        raise EntryError(f"cannot be read: {error.strerror}", where=path) from error
    if left or grown:
        raise _changed(path)


def _changed(path: Path | str) -> EntryError:
    return EntryError("a file whose size changed while it was read", where=path, hint="Wait for the build to end.")
