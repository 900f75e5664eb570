"""Reading layers: members of a tar archive, one by one, in bounded memory.

The archive is hostile: headers are checked, names and records bounded, and nothing touches a file system here.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import BinaryIO

import msgspec

from ocibuild.errors import DigestMismatchError, LayerError
from ocibuild.oci import Digest, media_types

from .decompress import decompressed
from .plan import PATH_LIMIT
from .stream import PullStream, drain
from .tar import BLOCK

__all__ = ["LAYER_CODECS", "Budget", "Member", "VerifiedArchive", "open_layer", "read_members"]

MEMBER_LIMIT = 500_000
_HEADERS_LIMIT = 1024 * 1024
_RECORDS_LIMIT = 4_000_000
_EXTENDED_LIMIT = 64
_RATIO = 1100
_FLOOR = 1024**3
LAYER_CODECS = {
    media_types.LAYER: "none",
    media_types.LAYER_GZIP: "gzip",
    media_types.DOCKER_LAYER_GZIP: "gzip",
    media_types.LAYER_ZSTD: "zstd",
}
_KINDS = {
    "0": "file", "\0": "file", "7": "file", "1": "hardlink", "2": "symlink", "3": "char", "4": "block", "5": "directory",
    "6": "fifo",
}  # fmt: skip


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One member of a layer's archive, as its headers describe it.

    Attributes:
        path: The name as written, without a trailing slash.
        kind: file, directory, symlink, hardlink, char, block or fifo.
        size: The bytes of its content.
        uid: The owner's number, from the pax header where it has one; so is `gid`.
        mtime: In whole seconds, from the header proper.
        link: The target of a link.
        device: The major and minor number of a char or block device.
    """

    path: str
    kind: str
    size: int
    mode: int
    mtime: int
    uid: int
    gid: int
    uname: str
    gname: str
    link: str
    device: tuple[int, int] | None = None


def open_layer(stream: BinaryIO, media_type: str) -> BinaryIO:
    """The uncompressed archive inside a layer blob, as a stream that raises `LayerError` where it is damaged.

    Raises:
        LayerError: The media type is not a layer's.
    """
    if media_type not in LAYER_CODECS:
        raise LayerError(f"media type {media_type}", wanted="a tar layer, plain, gzip or zstd")
    return decompressed(stream, LAYER_CODECS[media_type])


class Budget:
    """How many uncompressed bytes may still be read: what the blobs of one image can honestly hold.

    Deflate expands 1,032 times at most; below the floor, anything goes.
    """

    def __init__(self, *compressed: int) -> None:
        self.total = self.left = max(_FLOOR, _RATIO * sum(compressed))

    def spend(self, size: int) -> None:
        """Count bytes.

        Raises:
            LayerError: There are more than any honest layer holds.
        """
        self.left -= size
        if self.left < 0:
            raise LayerError(f"a layer that expands to more than {self.total} bytes", hint="It is made to fill a disk.")


class VerifiedArchive(PullStream):
    """The archive of a layer blob, counted and hashed while it is read.

    `finish`, once the end has been reached, tells whether it was the archive that the image's configuration names.
    """

    def __init__(self, blob: BinaryIO, media_type: str, diff_id: Digest, budget: Budget) -> None:
        self._blob, self._archive = blob, open_layer(blob, media_type)
        self._diff_id, self._budget = diff_id, budget
        self._hasher = diff_id.hasher()

    def pull(self, size: int) -> bytes:
        data = self._archive.read(size)
        self._budget.spend(len(data))
        self._hasher.update(data)
        return data

    def finish(self) -> None:
        """Read the blob to its verified end and compare the diff ID.

        Raises:
            DigestMismatchError: The archive is another.
        """
        drain(self._blob)
        found = Digest.from_hash(self._hasher)
        if found != self._diff_id:
            raise DigestMismatchError(f"a layer whose archive is {found}", wanted=f"the diff ID {self._diff_id}")


def read_members(
    stream: BinaryIO, *, on_header: Callable[[bytes], object] | None = None
) -> Iterator[tuple[Member, BinaryIO]]:
    """Each member of an archive and a reader of its content, which is good until the next member is asked for.

    Reads ustar, pax and GNU archives.

    Args:
        stream: The archive.
        on_header: Called with each header block, the content of each extended header, and the zeros at the end.

    Raises:
        LayerError: The bytes are not such an archive, or exceed a bound.
    """
    pax: dict[str, str] = {}
    names: dict[str, str] = {}
    extended = 0
    budget = iter(range(_RECORDS_LIMIT))
    note = on_header or _ignore
    for _ in range(MEMBER_LIMIT):
        block = _read_block(stream, note)
        if block is None:
            return
        kind = chr(block[156])
        size = _number(block[124:136])
        if kind in "xgLK":
            extended += 1
            if size > _HEADERS_LIMIT or extended > _EXTENDED_LIMIT:
                raise LayerError(
                    f"{size} bytes of extended headers, {extended} before one member",
                    wanted=f"at most {_HEADERS_LIMIT} bytes and {_EXTENDED_LIMIT} headers",
                )
            data = _read_exactly(stream, size + -size % BLOCK)[:size]
            note(data)
            if kind == "g":
                # Runtimes ignore what is said for all members, other readers do not: of a name or size, that is unsafe.
                if _parse_records(data, budget).keys() & {"path", "linkpath", "size"}:
                    raise LayerError("a path or size in a global pax header")
            elif kind == "x":
                # The last one counts alone, and a GNU name before any pax path, as Go's reader (so each runtime) has it.
                pax = _parse_records(data, budget)
            elif name := _name(data.rstrip(b"\0")):
                names["path" if kind == "L" else "linkpath"] = name
            continue
        member = _member(block, kind, pax | names)
        pax, names, extended = {}, {}, 0
        content = _Content(stream, member.size)
        yield member, io.BufferedReader(content)
        content.drain()
        # Some archivers leave out the padding of the last file and the end of the archive; the diff ID tells the rest.
        _read_up_to(stream, -member.size % BLOCK)
    raise LayerError(f"more than {MEMBER_LIMIT} members")


def _ignore(_header: bytes) -> None:
    pass


def _member(block: bytes, kind: str, pax: dict[str, str]) -> Member:
    if kind not in _KINDS:
        raise LayerError(f"a member of type {kind!r}", wanted="files, folders and links")
    path = pax["path"] if "path" in pax else _path(block)
    is_folder = path.endswith("/") and _KINDS[kind] == "file"
    has_content = _KINDS[kind] == "file"
    return Member(
        path=path.rstrip("/"),
        kind="directory" if is_folder else _KINDS[kind],
        size=(_decimal(pax, "size") if "size" in pax else _number(block[124:136])) if has_content else 0,
        mode=_number(block[100:108]) & 0o7777,
        uid=_decimal(pax, "uid") if "uid" in pax else _number(block[108:116]),
        gid=_decimal(pax, "gid") if "gid" in pax else _number(block[116:124]),
        mtime=_number(block[136:148], signed=True),
        uname=_owner(block[265:297]),
        gname=_owner(block[297:329]),
        link=pax["linkpath"] if "linkpath" in pax else _name(block[157:257].split(b"\0")[0]),
        device=(_number(block[329:337]), _number(block[337:345])) if _KINDS[kind] in ("char", "block") else None,
    )


def _path(block: bytes) -> str:
    name = _name(block[0:100].split(b"\0")[0])
    prefix = _name(block[345:500].split(b"\0")[0]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _read_block(stream: BinaryIO, note: Callable[[bytes], object]) -> bytes | None:
    """The next header block, its checksum verified; None at the end of the archive, whose padding is read too."""
    block = _read_up_to(stream, BLOCK)
    note(block)
    if 0 < len(block) < BLOCK:
        raise LayerError("the archive ends in the middle of a header")
    if not block.strip(b"\0"):
        while rest := stream.read(BLOCK * 128):
            note(rest)
            if rest.strip(b"\0"):
                raise LayerError("bytes after the end of the archive")
        return None
    expected = sum(block[:148]) + sum(block[156:]) + 8 * 0x20
    if _number(block[148:156]) != expected:
        raise LayerError("a tar header with a wrong checksum", hint="The layer is damaged or is not a tar archive.")
    return block


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    data = _read_up_to(stream, size)
    if len(data) < size:
        raise LayerError("the archive ends in the middle of a member")
    return data


def _read_up_to(stream: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (chunk := stream.read(size - len(data))):
        data += chunk
    return data


def _number(raw: bytes, *, signed: bool = False) -> int:
    """An octal number, or GNU's binary form; only times may be negative there (before 1970)."""
    if raw[0] & 0x80:
        value = int.from_bytes(bytes([raw[0] & 0x7F]) + raw[1:], "big")
        if raw[0] & 0x40:
            value -= 1 << (8 * len(raw) - 1)
        if abs(value) >= 2**62 or (value < 0 and not signed):
            raise LayerError("a negative or impossible number in a tar header")
        return value
    digits = raw.strip(b" \0")
    if digits.strip(b"01234567"):
        raise LayerError(f"{raw!r} in a tar header", wanted="an octal number")
    return int(digits or b"0", 8)


def _decimal(pax: dict[str, str], key: str) -> int:
    text = pax[key]
    if not (text.isascii() and text.isdigit() and len(text) < 19):  # noqa: PLR2004
        raise LayerError(f"pax {key} {text[:40]!r}", wanted="a decimal number")
    return int(text)


def _name(raw: bytes) -> str:
    """A path or link target: text without a NUL, and no longer than a path may be."""
    if len(raw) > PATH_LIMIT or b"\0" in raw:
        raise LayerError(f"a name of {len(raw)} bytes", wanted=f"at most {PATH_LIMIT}, and no NUL", where=raw[:80])
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise LayerError(f"a name that is not UTF-8: {raw[:80]!r}") from None


def _owner(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode(errors="replace")


def _parse_records(data: bytes, budget: Iterator[int]) -> dict[str, str]:
    """The records of a pax header that say where a member's content is, what it is called and whose it is."""
    records: dict[str, str] = {}
    at = 0
    while at < len(data):
        if next(budget, None) is None:
            raise LayerError(f"more than {_RECORDS_LIMIT} pax records")
        length_text, space, _ = data[at : at + 20].partition(b" ")
        length = int(length_text) if space and length_text.isdigit() else 0
        key, equals, value = data[at + len(length_text) + 1 : at + length].partition(b"=")
        if length <= len(length_text) or at + length > len(data) or not equals or not value.endswith(b"\n"):
            raise LayerError("a damaged pax record")
        if key.startswith(b"GNU.sparse."):
            raise LayerError("a sparse file", wanted="whole files", hint="Make the archive without --sparse.")
        if key in (b"path", b"linkpath", b"uid", b"gid") and value == b"\n":
            records.pop(key.decode(), None)
        elif key in (b"path", b"linkpath"):
            records[key.decode()] = _name(value[:-1])
        elif key in (b"size", b"uid", b"gid"):
            records[key.decode()] = value[:-1].decode(errors="replace")
        at += length
    return records


class _Content(PullStream):
    """The content of one member: a window on the archive's stream."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size

    def pull(self, size: int) -> bytes:
        data = self._stream.read(min(size, self._left)) if self._left else b""
        if self._left and not data:
            raise LayerError("the archive ends in the middle of a member")
        self._left -= len(data)
        return data

    def drain(self) -> None:
        while self._left:
            self._left -= len(_read_exactly(self._stream, min(self._left, 1024 * 1024)))
