"""Records: what an archive's headers say of each member, beyond what a runtime looks at, and the digest of its content.

A record is small: what many members share is kept once, so that an image of many files does not fill memory.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from ocibuild.contents import layer_members
from ocibuild.layer.read import Budget, Member
from ocibuild.layer.tar import BLOCK
from ocibuild.oci import Descriptor, Digest
from ocibuild.store import Fetcher

__all__ = ["Archive", "Record", "read_archive"]

_CHUNK = 1024 * 1024
_DIGIT = re.compile(rb"[0-9]+")
_LEAD = re.compile(r"(?:\./|/)+")
_VALUE_LIMIT = 200
_PAX_LIMIT = 64
_ALL_PAX_LIMIT = 500_000
_REST = "…"
_MAGICS = {b"ustar\x0000": "ustar", b"ustar  \x00": "GNU", bytes(8): "v7 (none)"}
_DEVICES = {bytes(16): "NULs", b"0000000\0" * 2: "zero digits"}
_EXTENDED = {"x": "a pax header", "g": "a global pax header", "L": "a GNU long name", "K": "a GNU long link"}
_OWN = (b"path", b"linkpath", b"size")
"""The pax records that a member's path, link and size already show."""
_NUMBERS = (
    ("mode field", 100, 108),
    ("uid field", 108, 116),
    ("gid field", 116, 124),
    ("size field", 124, 136),
    ("mtime field", 136, 148),
    ("checksum field", 148, 156),
)
_TEXTS = (("name field", 0, 100), ("link field", 157, 257), ("owner field", 265, 297))

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One member of an archive.

    Attributes:
        member: What its headers say.
        content: The SHA-256 of its content, in hexadecimal; empty where it is of a kind that has none.
        pax: The pax records that hold for it, sorted; `global` stands before the name of those that hold for others too.
        style: How the headers are written, by the name of the part: what has no effect on a reader.
    """

    member: Member
    content: str
    pax: Pairs
    style: Pairs


@dataclass(frozen=True, slots=True)
class Archive:
    """The members of a layer in order, the bytes of zeros after the last, and what extended headers stand after it."""

    records: tuple[Record, ...]
    tail: int
    after: str


def read_archive(source: Fetcher, layer: Descriptor, diff_id: Digest, budget: Budget) -> Archive:
    """Every member of a layer; blob digest and diff ID have been verified when it returns.

    Raises:
        LayerError, DigestMismatchError: As `layer_members`.
    """
    headers = _Headers()
    shared: dict[Any, Any] = {}
    records = []
    for member, content in layer_members(source, layer, diff_id, budget=budget, on_header=headers):
        hasher = hashlib.sha256()
        while chunk := content.read(_CHUNK):
            hasher.update(chunk)
        has_content = member.kind == "file" or member.size > 0
        plain = _plain(member)
        lead = member.path.removesuffix(plain.path) if plain.path else member.path
        style = (("path begins with", lead or "its first part"), *_style(headers))
        # Many members differ in one part of their style and share the others.
        pax, style = (tuple(shared.setdefault(pair, pair) for pair in pairs) for pairs in (headers.take(), style))
        records.append(
            Record(
                plain,
                hasher.hexdigest() if has_content else "",
                shared.setdefault(pax, pax),
                shared.setdefault(style, style),
            )
        )
    return Archive(tuple(records), headers.zeros, ", ".join(f"{key}={value}" for key, value in headers.after()))


class _Headers:
    """The headers of the next member, as they come: none of their content is kept but a few records.

    Attributes:
        block: The header proper.
        extended: The kind and name of each extended header before it.
        zeros: The bytes of zeros at the end.
    """

    def __init__(self) -> None:
        self.block = b""
        self.extended: list[tuple[str, bytes]] = []
        self.zeros = 0
        self._pending = ""
        self._own: dict[str, str] = {}
        self._globals: dict[str, str] = {}
        self._left = _ALL_PAX_LIMIT

    def __call__(self, data: bytes) -> None:
        """Take a header block, or the content of the extended header that came before."""
        if self._pending:
            if self._pending in "xg":
                # Of several pax headers the last one counts.
                found = self._globals if self._pending == "g" else {}
                self._read(data, found, "global " if self._pending == "g" else "")
                if self._pending == "x":
                    self._own = found
            self._pending = ""
        elif not data.strip(b"\0"):
            self.zeros += len(data)
        elif len(data) == BLOCK and chr(data[156]) in _EXTENDED:
            self._pending = chr(data[156])
            self.extended.append((self._pending, data[:100].rstrip(b"\0")))
        else:
            self.block = data

    def take(self) -> Pairs:
        """The pax records of the member, sorted; what was said of it is forgotten."""
        found = {**self._globals, **self._own}
        self._left -= len(self._own)
        self.extended, self._own = [], {}
        return tuple(sorted(found.items()))

    def after(self) -> Pairs:
        """The extended headers that no member follows, and their records."""
        return tuple((_EXTENDED[kind], _text(name)) for kind, name in self.extended) + tuple(self._own.items())

    def _read(self, data: bytes, found: dict[str, str], lead: str) -> None:
        at = 0
        rest = hashlib.sha256(found.get(lead + _REST, "").encode())
        left_out = False
        # The reader refuses records that are damaged, but after it has handed them on.
        while at < len(data):
            digits, space, _ = data[at : at + 20].partition(b" ")
            if not space or not digits.isdigit() or int(digits) <= len(digits):
                return
            record = data[at + len(digits) + 1 : at + int(digits) - 1]
            key, _, value = record.partition(b"=")
            at += int(digits)
            if key in _OWN:
                continue
            name = lead + _text(key)
            if name in found or (len(found) < _PAX_LIMIT and len(found) < self._left):
                found[name] = _text(value)
            else:
                left_out = True
                rest.update(b"%d %s" % (len(record), record))
        if left_out:
            found[lead + _REST] = f"more records (SHA-256 {rest.hexdigest()})"


def _plain(member: Member) -> Member:
    """The member under its path without `./` or `/` in front; the root's is empty."""
    lead = _LEAD.match(member.path)
    path = member.path[lead.end() :] if lead else member.path
    path = "" if path == "." else path
    return member if path == member.path else msgspec.structs.replace(member, path=path)


def _style(headers: _Headers) -> Iterator[tuple[str, str]]:
    """How the headers of a member are written."""
    block = headers.block
    is_ustar = block[257:263] == b"ustar\0"
    yield "format", _MAGICS.get(block[257:265], repr(block[257:265])[1:])
    yield "type flag", repr(block[156:157])[1:]
    yield "extended headers", ", ".join(_EXTENDED[kind] for kind, _ in headers.extended) or "none"
    for kind, raw in headers.extended:
        # Some archivers put a process number and the member's own name behind it.
        yield f"name of {_EXTENDED[kind]}", re.sub(r"(PaxHeader|LongLink).*", r"\1", _text(raw))
    prefix = block[345:500].rstrip(b"\0") if is_ustar else b""
    yield "prefix", f"{len(prefix)} bytes" if prefix else "none"
    for name, start, end in _NUMBERS:
        yield name, _pattern(block[start:end])
    yield "device fields", _DEVICES.get(block[329:345], repr(block[329:345])[1:])
    for name, start, end in _TEXTS:
        is_padded = not block[start:end].partition(b"\0")[2].strip(b"\0")
        yield f"padding of the {name}", "zeros" if is_padded else "other bytes"
    yield "padding of the header", "other bytes" if block[500 if is_ustar else 345 :].strip(b"\0") else "zeros"


def _pattern(field: bytes) -> str:
    r"""How a number is written: `11 digits\x00`, with what stands around them."""
    if field[0] & 0x80:
        return "binary"
    return repr(_DIGIT.sub(lambda match: b"%d digits" % len(match[0]), field))[2:-1]


def _text(raw: bytes) -> str:
    r"""A value to be shown, which is never that of other bytes: `\xff` for a byte, `\\` for a backslash."""
    text = raw[: 4 * _VALUE_LIMIT].replace(b"\\", b"\\\\").decode(errors="backslashreplace")
    if len(text) <= _VALUE_LIMIT and len(raw) <= 4 * _VALUE_LIMIT:
        return text
    return f"{text[:_VALUE_LIMIT]}… ({len(raw):,} bytes, SHA-256 {hashlib.sha256(raw).hexdigest()})"
