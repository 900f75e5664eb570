"""Tar archives of format 1: ustar headers, a pax record only where a field does not fit.

Rules kept here: the archive depends on the entries and the mtime alone. Owner and group are 0 without names; no atime,
ctime, device number or extended attribute is written; the archive ends after exactly two blocks of zeros.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from ocibuild.errors import EntryError, UsageError

from .entry import Directory, Entry, File

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BLOCK", "CHUNK", "MTIME_LIMIT", "BlockPool", "tar_blocks", "tar_chunks"]

BLOCK = 512
CHUNK = 1024 * 1024
MTIME_LIMIT = 0o77777777777
"""The last second that eleven octal digits hold (the year 2242)."""

_SIZE_LIMIT = 0o77777777777
_NAME = 100
_PREFIX = 155
_PAX_NAME = b"././@PaxHeader"
_ZEROS = bytes(BLOCK)
_OPEN = os.O_RDONLY | getattr(os, "O_BINARY", 0)


class BlockPool:
    """Buffers of one block each. What is given back is used again: fresh memory costs more than what is done with it."""

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        """A buffer of `CHUNK` bytes with anything in it."""
        return self._free.pop() if self._free else memoryview(bytearray(CHUNK))

    def give(self, block: memoryview) -> None:
        """Give back what `tar_blocks` gave, when its bytes have been used."""
        if len(block) == CHUNK:
            self._free.append(block)


def tar_chunks(entries: Iterable[Entry], *, mtime: int = 0) -> Iterator[bytes]:
    """The bytes of the archive, in order, in chunks of exactly 1 MiB, the last one shorter.

    Args:
        entries: Planned entries (`plan`): they are written as they come.
        mtime: The modification time of every entry, in whole seconds since 1970.

    Raises:
        EntryError: A file cannot be read, or its size changed after it was planned.
        UsageError: The time does not fit.
    """
    pool = BlockPool()
    for block in tar_blocks(entries, pool=pool, mtime=mtime):
        yield bytes(block)
        pool.give(block)


def tar_blocks(entries: Iterable[Entry], *, pool: BlockPool, mtime: int = 0) -> Iterator[memoryview]:
    """As `tar_chunks`, in buffers of a pool, which the caller gives back. Files are read to where they are used."""
    if not 0 <= mtime <= MTIME_LIMIT:
        raise UsageError(f"the time {mtime}", wanted=f"whole seconds from 0 to {MTIME_LIMIT}")
    out = _Blocks(pool)
    for entry in entries:
        if isinstance(entry, File):
            content, size = entry.content, entry.size
            header = _header(entry.path, b"0", mode=entry.mode, size=size, mtime=mtime)
            if not isinstance(content, bytes) and out.at + len(header) + size < CHUNK:
                out.add_small(header, content, size)
                if out.at == CHUNK:
                    yield out.full()
                continue
            yield from out.add(header)
            yield from out.add(content) if isinstance(content, bytes) else out.add_file(content, size)
            yield from out.add(_ZEROS[: -size % BLOCK])
        elif isinstance(entry, Directory):
            yield from out.add(_header(entry.path + "/", b"5", mode=entry.mode, mtime=mtime))
        else:
            yield from out.add(_header(entry.path, b"2", mode=0o777, link=entry.target, mtime=mtime))
    yield from out.add(_ZEROS * 2)
    if out.at:
        yield out.block[: out.at]


class _Blocks:
    """The block that is being filled, to where; those that are full are given."""

    __slots__ = ("_pool", "at", "block")

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self.block, self.at = pool.take(), 0

    def full(self) -> memoryview:
        """The block, and a new one in its place."""
        block = self.block
        self.block, self.at = self._pool.take(), 0
        return block

    def add(self, data: bytes) -> Iterator[memoryview]:
        rest = memoryview(data)
        while rest:
            size = min(CHUNK - self.at, len(rest))
            self.block[self.at : self.at + size] = rest[:size]
            rest, self.at = rest[size:], self.at + size
            if self.at == CHUNK:
                yield self.full()

    def add_small(self, header: bytes, path: Path | str, size: int) -> None:
        """A file that fits, padded. One byte more is asked for: a file that has it has grown."""
        start = self.at + len(header)
        end = start + size
        self.block[self.at : start] = header
        _read_small(path, size, self.block[start : end + 1])
        self.at = end + -size % BLOCK
        self.block[end : self.at] = _ZEROS[: self.at - end]

    def add_file(self, path: Path | str, size: int) -> Iterator[memoryview]:
        left = size
        try:
            with open(path, "rb", buffering=0) as stream:
                while left and (count := stream.readinto(self.block[self.at : min(CHUNK, self.at + left)])):
                    left, self.at = left - count, self.at + count
                    if self.at == CHUNK:
                        yield self.full()
                grown = not left and stream.read(1)
        except OSError as error:
            raise _unreadable(path, error) from error
        if left or grown:
            raise _changed(path)


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


def _read_small(path: Path | str, size: int, room: memoryview) -> None:
    """Read the whole of a small file to a buffer that is one byte larger."""
    try:
        descriptor = os.open(path, _OPEN)
        try:
            count = _read_into(descriptor, room)
            # What a file system gives in parts.
            while count < size and (more := _read_into(descriptor, room[count:])):
                count += more
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unreadable(path, error) from error
    if count != size:
        raise _changed(path)


if hasattr(os, "readv"):

    def _read_into(descriptor: int, room: memoryview) -> int:
        return os.readv(descriptor, [room])

else:  # Windows

    def _read_into(descriptor: int, room: memoryview) -> int:
        data = os.read(descriptor, len(room))
        room[: len(data)] = data
        return len(data)


def _unreadable(path: Path | str, error: OSError) -> EntryError:
    return EntryError(f"cannot be read: {error.strerror}", where=path)


def _changed(path: Path | str) -> EntryError:
    return EntryError("a file whose size changed while it was read", where=path, hint="Wait for the build to end.")
