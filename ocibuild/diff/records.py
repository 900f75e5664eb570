"""Records: what an archive's headers say of each member, beyond what a runtime looks at, and the digest of its content.

A record is small: what many members share is kept once, so that an image of many files does not fill memory.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import msgspec

from ocibuild.contents import layer_members
from ocibuild.layer.read import Budget, Member
from ocibuild.layer.tar import BLOCK
from ocibuild.oci import Descriptor, Digest
from ocibuild.store import Fetcher

__all__ = ["Archive", "Record", "read_archive"]

_CHUNK = 1024 * 1024
_DIGIT = re.compile(rb"[0-9]+")
_VALUE_LIMIT = 200
_PAX_LIMIT = 64
_ALL_PAX_LIMIT = 500_000
_MAGICS = {b"ustar\x0000": "ustar", b"ustar  \x00": "GNU", bytes(8): "v7 (none)"}
_DEVICES = {bytes(16): "NULs", b"0000000\0" * 2: "zero digits"}
_OWN = ("path", "linkpath", "size")
"""The pax records that a member's path, link and size already show."""


@dataclass(frozen=True, slots=True)
class Record:
    """One member of an archive.

    Attributes:
        member: What its headers say.
        content: The SHA-256 of a file's content, in hexadecimal; empty for all else.
        pax: The pax records, sorted.
        style: How the headers are written, by the name of the part: what has no effect on a reader.
    """

    member: Member
    content: str
    pax: tuple[tuple[str, str], ...]
    style: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Archive:
    """The members of a layer in order, and the bytes of zeros after the last."""

    records: tuple[Record, ...]
    tail: int


def read_archive(source: Fetcher, layer: Descriptor, diff_id: Digest, budget: Budget) -> Archive:
    """Every member of a layer; blob digest and diff ID have been verified when it returns.

    Raises:
        LayerError, DigestMismatchError: As `layer_members`.
    """
    headers: list[bytes] = []
    shared: dict[object, object] = {}
    records = []
    left = _ALL_PAX_LIMIT
    for member, content in layer_members(source, layer, diff_id, budget=budget, on_header=headers.append):
        hasher = hashlib.sha256()
        if member.kind == "file":
            while chunk := content.read(_CHUNK):
                hasher.update(chunk)
        plain = _plain(member)
        pax = tuple(sorted(islice(_records(headers), min(_PAX_LIMIT, left))))
        left -= len(pax)
        lead = member.path.removesuffix(plain.path) if plain.path else member.path
        style = (("path begins with", lead or "its first part"), *_style(headers))
        records.append(
            Record(
                plain,
                hasher.hexdigest() if member.kind == "file" else "",
                shared.setdefault(pax, pax),  # type: ignore[arg-type]
                shared.setdefault(style, style),  # type: ignore[arg-type]
            )
        )
        headers.clear()
    return Archive(tuple(records), sum(map(len, headers)))


def _plain(member: Member) -> Member:
    """The member under its path without `./` or `/` in front; the root's is empty."""
    path = member.path
    while path.startswith(("./", "/")):
        path = path.removeprefix(".").lstrip("/")
    if path == ".":
        path = ""
    return member if path == member.path else msgspec.structs.replace(member, path=path)


def _style(headers: list[bytes]) -> Iterator[tuple[str, str]]:
    """How the header of a member is written; the extended headers stand before it."""
    block = headers[-1]
    yield "format", _MAGICS.get(block[257:265], repr(block[257:265])[1:])
    yield "type flag", repr(block[156:157])[1:]
    extended = [(block, data) for block, data in zip(headers[:-1:2], headers[1:-1:2], strict=False)]
    kinds = {"x": "a pax header", "g": "a global pax header", "L": "a GNU long name", "K": "a GNU long link"}
    yield "extended headers", ", ".join(kinds.get(chr(head[156]), "?") for head, _ in extended) or "none"
    for head, _ in extended:
        name = head[:100].rstrip(b"\0").decode(errors="backslashreplace")
        # Some archivers put a process number and the member's own name behind it.
        yield f"name of {kinds.get(chr(head[156]), '?')}", re.sub(r"(PaxHeader|LongLink).*", r"\1", name)
    prefix = block[345:500].rstrip(b"\0") if block[257:263] == b"ustar\0" else b""
    yield "prefix", f"{len(prefix)} bytes" if prefix else "none"
    for name, start, end in (
        ("mode field", 100, 108),
        ("uid field", 108, 116),
        ("gid field", 116, 124),
        ("size field", 124, 136),
        ("mtime field", 136, 148),
        ("checksum field", 148, 156),
    ):
        yield name, _pattern(block[start:end])
    yield "device fields", _DEVICES.get(block[329:345], repr(block[329:345])[1:])
    for name, start, end in (("name field", 0, 100), ("link field", 157, 257), ("owner field", 265, 297)):
        yield f"padding of the {name}", "zeros" if _is_padded(block[start:end]) else "other bytes"
    if block[257:263] == b"ustar\0":
        yield "padding of the header", "zeros" if not block[500:].strip(b"\0") else "other bytes"
    else:
        yield "padding of the header", "zeros" if not block[345:].strip(b"\0") else "other bytes"


def _pattern(field: bytes) -> str:
    r"""How a number is written: `0o11 digits`, then what stands around them."""
    if field[0] & 0x80:
        return "binary"
    return repr(_DIGIT.sub(lambda match: b"%d digits" % len(match[0]), field))[2:-1]


def _is_padded(field: bytes) -> bool:
    return not field.partition(b"\0")[2].strip(b"\0")


def _records(headers: list[bytes]) -> Iterator[tuple[str, str]]:
    """Every pax record of the extended headers before a member, those left out that other values show."""
    for head, data in zip(headers[:-1:2], headers[1:-1:2], strict=False):
        if len(head) != BLOCK or head[156:157] not in (b"x", b"g"):
            continue
        lead = "global " if head[156:157] == b"g" else ""
        at = 0
        # The reader has refused records that are damaged.
        while at < len(data):
            length = int(data[at : at + 20].partition(b" ")[0])
            key, _, value = data[at : at + length - 1].partition(b" ")[2].partition(b"=")
            if key.decode(errors="replace") not in _OWN:
                yield lead + _text(key), _text(value)
            at += length


def _text(raw: bytes) -> str:
    text = raw[: _VALUE_LIMIT + 1].decode(errors="backslashreplace")
    return text if len(text) <= _VALUE_LIMIT else text[:_VALUE_LIMIT] + "…"
