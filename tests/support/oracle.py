"""Format 1 a second time: archives and their compressed forms, by the standard library alone.

Written from `docs/reference/format-1.md`, not from the package: where the two write other bytes, one of them or the page
is wrong. It is plain rather than quick, and holds whole archives in memory. It checks no input: what the page refuses is
not asked of it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MIB = 1024 * 1024
GZIP_HEADER = bytes.fromhex("1f8b08000000000000ff")
ZSTD_MAGIC = bytes.fromhex("28b52ffd")
PAX = b"././@PaxHeader"

FIELDS = (
    (0, "name"),
    (100, "mode"),
    (108, "uid"),
    (116, "gid"),
    (124, "size"),
    (136, "mtime"),
    (148, "checksum"),
    (156, "type"),
    (157, "link"),
    (257, "magic"),
    (265, "name of the owner"),
    (297, "name of the group"),
    (329, "device numbers"),
    (345, "prefix"),
    (500, "padding"),
)


class BrokenError(Exception):
    """A compressed form that is not as the page says."""


@dataclass(frozen=True, slots=True)
class Node:
    """What is at a path.

    Attributes:
        kind: `0` a file, `5` a folder, `2` a link.
        mode: The permission bits.
        content: The bytes of a file.
        target: The target of a link.
        size: The size of a file that is too large to be held; only its headers can be written then.
    """

    kind: bytes
    mode: int
    content: bytes = b""
    target: str = ""
    size: int = -1


def file(content: bytes = b"", mode: int = 0o644, *, size: int = -1) -> Node:
    return Node(b"0", mode, content=content, size=len(content) if size < 0 else size)


def folder(mode: int = 0o755) -> Node:
    return Node(b"5", mode, size=0)


def link(target: str) -> Node:
    return Node(b"2", 0o777, target=target, size=0)


def complete(tree: Mapping[str, Node]) -> list[tuple[str, Node]]:
    """The tree with every parent folder, in the order of an archive."""
    whole = dict(tree)
    for path in tree:
        parts = path.split("/")
        for end in range(1, len(parts)):
            whole.setdefault("/".join(parts[:end]), folder())
    return sorted(whole.items(), key=lambda item: item[0].encode())


def tar(tree: Mapping[str, Node], mtime: int) -> bytes:
    """The whole archive."""
    return b"".join(piece for _, piece in pieces(tree, mtime))


def pieces(tree: Mapping[str, Node], mtime: int) -> Iterator[tuple[str, bytes]]:
    """The archive in its parts, each with a name for it."""
    for path, node in complete(tree):
        for part, piece in heads(path, node, mtime):
            yield f"{part} of {path[:200]!r}", piece
        if node.content:
            yield f"content of {path[:200]!r}", padded(node.content)
    yield "end", bytes(1024)


def heads(path: str, node: Node, mtime: int) -> Iterator[tuple[str, bytes]]:
    """What stands before the content of an entry: its header, and a pax header with its records where one is needed."""
    records: dict[str, bytes] = {}
    full = (path + "/" if node.kind == b"5" else path).encode()
    parts = split(full)
    if parts is None or not full.isascii():
        records["path"] = full
        parts = (b"", underscored(full))
    target = node.target.encode()
    if len(target) > 100 or not target.isascii():
        records["linkpath"] = target
        target = underscored(target)
    size = node.size
    if size >= 8 * 1024**3:
        records["size"] = str(size).encode()
        size = 0
    if records:
        content = b"".join(record(key.encode(), value) for key, value in sorted(records.items()))
        yield "pax header", header(PAX, mode=0o644, size=len(content), mtime=mtime, kind=b"x")
        yield "pax records", padded(content)
    prefix, name = parts
    yield "header", header(name, mode=node.mode, size=size, mtime=mtime, kind=node.kind, target=target, prefix=prefix)


def split(path: bytes) -> tuple[bytes, bytes] | None:
    """The prefix and the name of a path that fits."""
    if len(path) <= 100:
        return b"", path
    for at in range(len(path) - 1):  # the slash that ends a folder's path splits nothing
        if path[at : at + 1] == b"/" and len(path) - at - 1 <= 100:
            return (path[:at], path[at + 1 :]) if at <= 155 else None
    return None


def underscored(value: bytes) -> bytes:
    return bytes(0x5F if byte > 127 else byte for byte in value[:100])


def record(key: bytes, value: bytes) -> bytes:
    """A pax record; its length counts its own digits, the space and the newline."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while length != len(b"%d" % length) + len(rest):
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def header(
    name: bytes, *, mode: int, size: int, mtime: int, kind: bytes, target: bytes = b"", prefix: bytes = b""
) -> bytes:
    block = bytearray(512)
    for at, value in (
        (0, name),
        (100, b"%07o\0" % mode),
        (108, b"0000000\0"),
        (116, b"0000000\0"),
        (124, b"%011o\0" % size),
        (136, b"%011o\0" % mtime),
        (148, b" " * 8),
        (156, kind),
        (157, target),
        (257, b"ustar\x0000"),
        (329, b"0000000\0"),
        (337, b"0000000\0"),
        (345, prefix),
    ):
        block[at : at + len(value)] = value
    block[148:156] = b"%06o\0 " % sum(block)
    assert len(block) == 512
    return bytes(block)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def place(tree: Mapping[str, Node], mtime: int, offset: int) -> str:
    """What stands at an offset of the archive, such as `mode in header of 'lib/x.so'`."""
    at = 0
    for part, piece in pieces(tree, mtime):
        if offset < at + len(piece):
            if "header of" not in part:
                return f"byte {offset - at} of {part}"
            field = [name for start, name in FIELDS if start <= offset - at][-1]
            return f"{field} in {part}"
        at += len(piece)
    return "after the end"


def gunzip(blob: bytes) -> bytes:
    """What is in the members, one by one; each is of the form that the page gives.

    Raises:
        BrokenError: One is not.
    """
    found: list[bytes] = []
    rest = blob
    while rest:
        at = len(blob) - len(rest)
        if found and len(found[-1]) != MIB:
            raise BrokenError(f"a member at {at} after one of {len(found[-1])} bytes")
        if rest[:10] != GZIP_HEADER:
            raise BrokenError(f"the header {rest[:10].hex()} at {at}")
        inflate = zlib.decompressobj(wbits=-15)
        try:
            content = inflate.decompress(rest[10:], MIB + 1)
        except zlib.error as error:
            raise BrokenError(f"the member at {at}: {error}") from error
        if not inflate.eof:
            raise BrokenError(f"the member at {at} has no end, or more than 1 MiB")
        trailer, rest = inflate.unused_data[:8], inflate.unused_data[8:]
        if trailer != struct.pack("<II", zlib.crc32(content), len(content)):
            raise BrokenError(f"the trailer {trailer.hex()} of the member at {at}")
        found.append(content)
    if not found or not found[-1]:
        raise BrokenError("no member, or an empty one at the end")
    return b"".join(found)


def zstd_frame(blob: bytes) -> None:
    """Walk the one frame (RFC 8878): a checksum, no content size, no dictionary, and nothing after it.

    Raises:
        BrokenError: It is another.
    """
    # The descriptor's bits: size of the content size, 2; single segment; unused; reserved; checksum; dictionary, 2.
    if blob[:5] != ZSTD_MAGIC + bytes([0b00000100]):
        raise BrokenError(f"the header {blob[:5].hex()}")
    at, is_last = 6, False  # the window's byte comes before the blocks
    while not is_last:
        if at + 3 > len(blob):
            raise BrokenError(f"no block at {at}")
        fields = int.from_bytes(blob[at : at + 3], "little")
        is_last, kind, size = bool(fields & 1), fields >> 1 & 3, fields >> 3
        if kind == 3:
            raise BrokenError(f"a reserved block at {at}")
        at += 3 + (1 if kind == 1 else size)  # a block of one byte, repeated, holds it once
    if at + 4 != len(blob):
        raise BrokenError(f"{len(blob) - at} bytes after the last block, wanted a checksum of 4")
