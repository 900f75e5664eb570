"""Tar archives of format 1: ustar headers, a pax record only where a field does not fit.

Rules kept here: the archive depends on the entries and the mtime alone. Owner and group are 0 without names; no atime,
ctime, device number or extended attribute is written; the archive ends after exactly two blocks of zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ocibuild.errors import EntryError, UsageError

from .entry import Directory, Entry, File

__all__ = ["BLOCK", "MTIME_LIMIT", "tar_chunks"]

BLOCK = 512
CHUNK = 1024 * 1024
MTIME_LIMIT = 0o77777777777
"""The last second that eleven octal digits hold (the year 2242)."""

_SIZE_LIMIT = 0o77777777777
_NAME = 100
_PREFIX = 155
_PAX_NAME = b"././@PaxHeader"
_ZEROS = bytes(BLOCK)


def tar_chunks(entries: Iterable[Entry], *, mtime: int = 0) -> Iterator[bytes]:
    """The bytes of the archive, in order, in pieces of at most 1 MiB.

    Args:
        entries: Planned entries (`plan`): they are written as they come.
        mtime: The modification time of every entry, in whole seconds since 1970.

    Raises:
        EntryError: A file cannot be read, or its size changed after it was planned.
        UsageError: The time does not fit.
    """
    if not 0 <= mtime <= MTIME_LIMIT:
        raise UsageError(f"the time {mtime}", wanted=f"whole seconds from 0 to {MTIME_LIMIT}")
    for entry in entries:
        if isinstance(entry, File):
            yield _header(entry.path, b"0", mode=entry.mode, size=entry.size, mtime=mtime)
            yield from _content(entry)
            if padding := -entry.size % BLOCK:
                yield _ZEROS[:padding]
        elif isinstance(entry, Directory):
            yield _header(entry.path + "/", b"5", mode=entry.mode, mtime=mtime)
        else:
            yield _header(entry.path, b"2", mode=0o777, link=entry.target, mtime=mtime)
    yield _ZEROS * 2


def _header(path: str, kind: bytes, *, mode: int, mtime: int, size: int = 0, link: str = "") -> bytes:
    """The header blocks of one entry: a pax header and its records when a field needs them, then the ustar header."""
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


def _content(file: File) -> Iterator[bytes]:
    if isinstance(file.content, bytes):
        yield from (file.content[start : start + CHUNK] for start in range(0, file.size, CHUNK))
        return
    path: Path = file.content
    left = file.size
    try:
        with open(path, "rb", buffering=0) as stream:
            while chunk := stream.read(min(CHUNK, left + 1)):
                left -= len(chunk)
                if left < 0:
                    break
                yield chunk
    except OSError as error:
        raise EntryError(f"cannot be read: {error.strerror}", where=path) from error
    if left:
        raise EntryError("a file whose size changed while it was read", where=path, hint="Wait for the build to end.")
