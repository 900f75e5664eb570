"""Debian packages, without dpkg (deb(5), deb-control(5)). Maintainer scripts are read, never run."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from ocibuild.errors import SourceError
from ocibuild.layer.entry import Entry, File, Symlink
from ocibuild.layer.stream import PullStream

from .alternatives import alternatives
from .archive import open_file, read_tar
from .scratch import Scratch

__all__ = ["MAGIC", "DebianPackage", "read_deb"]

MAGIC = b"!<arch>\n"
_HEADER = 60
_PARTS = ("debian-binary", "control.tar", "data.tar")
_MEMBERS_LIMIT = 32
_TEXT_LIMIT = 64 * 1024
_CODECS = {"": "none", ".gz": "gzip", ".xz": "xz", ".zst": "zstd"}
_REPACKED = re.compile(r"[+~.](?:dfsg|ds|repack)[0-9.]*$")


class DebianPackage(msgspec.Struct, frozen=True, kw_only=True):
    """A binary package.

    Attributes:
        fields: Its control fields, names in lower case.
        entries: Its files, links made by `update-alternatives` among them.
        scratch: What keeps their content.
    """

    fields: dict[str, str] = msgspec.field(default_factory=dict)
    entries: list[Entry] = msgspec.field(default_factory=list)
    scratch: Scratch | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self.fields.get("package", "")

    @property
    def architecture(self) -> str:
        """Debian's name of the architecture, or `all`."""
        return self.fields.get("architecture", "")

    @property
    def version(self) -> str:
        """The version of what was packaged: without epoch, Debian revision and the mark of a repacked tarball.

        Example:
            >>> DebianPackage(fields={"version": "1:3.7.0~rc1+dfsg-2"}).version
            '3.7.0~rc1'
        """
        upstream = self.fields.get("version", "").partition(":")[2] or self.fields.get("version", "")
        return _REPACKED.sub("", upstream.rpartition("-")[0] or upstream)


def read_deb(path: Path) -> DebianPackage:
    """A `.deb` file.

    Raises:
        SourceError: It is damaged, of another format than 2.0, or made to harm.
    """
    with open_file(path) as stream:
        scratch = Scratch(path, stream.seek(0, 2))
        fields: dict[str, str] = {}
        links: dict[str, str] = {}
        seen: list[str] = []
        for name, content in _members(stream, path):
            part, suffix = _part(name)
            if name.startswith("_"):
                continue
            if len(seen) == len(_PARTS) or part != _PARTS[len(seen)] or suffix not in _CODECS:
                raise SourceError(f"the member {name!r}", wanted=f"{_expected(seen)} (deb 2.0)", where=path)
            seen.append(part)
            if part == "debian-binary":
                _check_format(content.read(_TEXT_LIMIT), path)
            elif part == "control.tar":
                files = {
                    item.path: item for item in read_tar(content, _CODECS[suffix], scratch, where=f"{path}: {name}")
                }
                fields = _fields(_text(files.get("control")), path)
                links = alternatives(_text(files.get("postinst")))
            else:
                entries = read_tar(content, _CODECS[suffix], scratch, where=path)
                return DebianPackage(fields=fields, entries=[*entries, *_links(entries, links)], scratch=scratch)
    raise SourceError("a Debian package that ends too early", wanted=_expected(seen), where=path, hint="Copy it again.")


def _members(stream: BinaryIO, where: Path) -> Iterator[tuple[str, BinaryIO]]:
    """The members of an ar archive (ar(5)) and a reader of each."""
    size = stream.seek(0, 2)
    at = len(MAGIC)
    for _ in range(_MEMBERS_LIMIT):
        if at >= size:
            return
        stream.seek(at)
        header = stream.read(_HEADER)
        digits = header[48:58].strip()
        if len(header) < _HEADER or header[58:] != b"`\n" or not digits.isdigit() or len(digits) > 10:  # noqa: PLR2004
            raise SourceError("a damaged ar archive", wanted="a Debian package", where=where, hint="Copy it again.")
        length = int(digits)
        if at + _HEADER + length > size:
            raise SourceError(
                f"{size} bytes", wanted=f"at least {at + _HEADER + length}", where=where, hint="Copy it again."
            )
        yield header[:16].decode("ascii", "replace").strip().rstrip("/"), io.BufferedReader(_Window(stream, length))
        at += _HEADER + length + length % 2
    raise SourceError(f"more than {_MEMBERS_LIMIT} members", wanted="a Debian package", where=where)


class _Window(PullStream):
    """The next bytes of a stream, and no more."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size

    def pull(self, size: int) -> bytes:
        data = self._stream.read(min(size, self._left))
        self._left -= len(data)
        return data


def _part(name: str) -> tuple[str, str]:
    for part in _PARTS:
        if name == part or (part.endswith(".tar") and name.startswith(f"{part}.")):
            return part, name[len(part) :]
    return name, ""


def _expected(seen: list[str]) -> str:
    return _PARTS[len(seen)] if len(seen) < len(_PARTS) else "no further member"


def _check_format(text: bytes, where: Path) -> None:
    if not text.startswith(b"2."):
        raise SourceError(f"the package format {text[:10]!r}", wanted="2.0", where=where)


def _text(entry: Entry | None) -> str:
    if not isinstance(entry, File):
        return ""
    if isinstance(entry.content, bytes):
        return entry.content.decode(errors="replace")
    with open(entry.content, "rb") as stream:
        return stream.read(_TEXT_LIMIT).decode(errors="replace")


def _fields(text: str, where: Path) -> dict[str, str]:
    """The fields of a control stanza; of a folded one the first line."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and not line[:1].isspace():
            found.setdefault(key.strip().lower(), value.strip())
    if not {"package", "version", "architecture"} <= found.keys():
        raise SourceError("a control file without name, version or architecture", wanted="a package's", where=where)
    return found


def _links(entries: list[Entry], links: dict[str, str]) -> Iterator[Entry]:
    """The links that installing makes, as far as what they lead to is in the package."""
    present = {entry.path for entry in entries}
    for link, target in links.items():
        path = link.lstrip("/")
        if target.lstrip("/") in present and path not in present:
            yield Symlink(path=path, target=target)
