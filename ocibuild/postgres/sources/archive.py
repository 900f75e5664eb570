"""Archives: tar (plain, gzip, zstd, xz) and zip, told apart by their first bytes, read into entries."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ocibuild.errors import LayerError, OcibuildError, SourceError
from ocibuild.layer.decompress import decompressed
from ocibuild.layer.entry import Directory, Entry, File, Symlink
from ocibuild.layer.plan import check_path
from ocibuild.layer.read import read_members

from .scratch import MEMBER_LIMIT, Scratch

if TYPE_CHECKING:
    import zipfile

__all__ = ["CODECS", "codec_of", "read_tar", "read_zip"]

CODECS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\0": "xz"}
"""The first bytes of what each codec writes."""

_LINK_LIMIT = 4096
_CENTRAL_LIMIT = 64 * 1024 * 1024


def codec_of(head: bytes) -> str:
    """The codec that wrote these first bytes; `none` where it is not known."""
    return next((codec for magic, codec in CODECS.items() if head.startswith(magic)), "none")


def read_tar(stream: BinaryIO, codec: str, scratch: Scratch, *, where: object) -> list[Entry]:
    """The members of a tar archive as entries, hard links as copies.

    Raises:
        SourceError: It is damaged, has a member that packages do not have, or is made to harm.
    """
    entries: dict[str, Entry] = {}
    try:
        for member, content in read_members(scratch.bounded(decompressed(stream, codec))):
            scratch.count(member.path)
            path = _clean(member.path)
            if not path:
                continue
            if member.kind == "directory":
                _place(entries, Directory(path=path))
            elif member.kind == "file":
                _place(entries, scratch.keep(path, content, mode=_mode(member.mode)))
            elif member.kind == "symlink":
                _place(entries, Symlink(path=path, target=member.link))
            elif member.kind == "hardlink":
                _place(entries, _linked(entries, path, _clean(member.link), scratch))
            else:
                raise SourceError(f"a {member.kind} device or pipe", wanted="files, folders and links", where=path)  # noqa: TRY301 - it gets the archive's name below
    except LayerError as error:
        raise SourceError(f"not a readable archive: {error.found}", wanted=error.wanted, where=where) from error
    except SourceError as error:
        raise _inside(error, where) from error
    return list(entries.values())


def read_zip(stream: BinaryIO, scratch: Scratch, *, where: object) -> list[Entry]:
    """The members of a zip archive as entries.

    Raises:
        SourceError: As `read_tar`.
    """
    entries: dict[str, Entry] = {}
    try:
        size = stream.seek(0, 2)
        import zipfile

        with zipfile.ZipFile(stream) as archive:
            if len(archive.filelist) > MEMBER_LIMIT or size - archive.start_dir > _CENTRAL_LIMIT:
                raise SourceError(f"more than {MEMBER_LIMIT} members", wanted="a package")  # noqa: TRY301 - as above
            for entry in _unzipped(archive, scratch):
                _place(entries, entry)
    except SourceError as error:
        raise _inside(error, where) from error
    except OcibuildError:
        raise
    except Exception as error:  # BadZipFile, zlib.error, struct.error, RuntimeError for a password: one kind for all
        raise SourceError(f"not a readable zip archive: {error}", where=where) from error
    return list(entries.values())


def _unzipped(archive: zipfile.ZipFile, scratch: Scratch) -> Iterator[Entry]:
    for info in archive.infolist():
        scratch.count(info.filename)
        path = _clean(info.filename)
        mode = info.external_attr >> 16
        if not path:
            continue
        if info.is_dir():
            yield Directory(path=path)
            continue
        with archive.open(info) as content:
            if stat.S_ISLNK(mode):
                target = content.read(_LINK_LIMIT)
                yield Symlink(path=path, target=target.decode(errors="surrogateescape"))
            else:
                yield scratch.keep(path, content, mode=_mode(mode))  # type: ignore[arg-type]


def _clean(path: str) -> str:
    """A member's path without `./` in front and `/` behind; empty for the root itself.

    Raises:
        EntryError: It leaves the root, or has no place in a layer.
    """
    path = path.rstrip("/")
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    if path in ("", "."):
        return ""
    check_path(path)
    return path


def _place(entries: dict[str, Entry], entry: Entry) -> None:
    """Later members replace earlier ones, as every archiver has it, but a folder stays a folder."""
    other = entries.get(entry.path)
    if other is not None and isinstance(other, Directory) != isinstance(entry, Directory):
        raise SourceError("a folder and a file of one name", where=entry.path)
    entries[entry.path] = entry


def _linked(entries: dict[str, Entry], path: str, target: str, scratch: Scratch) -> File:
    found = entries.get(target)
    if not isinstance(found, File):
        raise SourceError(f"a hard link to {target!r}, which is no file before it", where=path)
    return scratch.link(found, path)


def _mode(mode: int) -> int:
    return 0o755 if mode & stat.S_IXUSR else 0o644


def _inside(error: SourceError, where: object) -> SourceError:
    """The same error, with the archive's name before the member's."""
    place = f"{where}: {error.where}" if error.where and str(where) not in error.where else str(where)
    return SourceError(error.found, wanted=error.wanted, where=place, hint=error.hint)


def open_file(path: Path) -> BinaryIO:
    """A local file, opened for reading.

    Raises:
        SourceError: It cannot be read.
    """
    try:
        return open(path, "rb")
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=path) from error
