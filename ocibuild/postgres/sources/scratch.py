"""A private folder for what comes out of an archive, removed when nothing refers to it any more."""

from __future__ import annotations

import io
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ocibuild.errors import SourceError
from ocibuild.layer.entry import File
from ocibuild.layer.stream import PullStream

__all__ = ["MEMBER_LIMIT", "Scratch"]

MEMBER_LIMIT = 100_000
_SMALL = 16 * 1024
_IN_MEMORY = 64 * 1024 * 1024
_NAMES = 16 * 1024 * 1024
_DEPTH = 40
_FLOOR = 1024**3
_CEILING = 16 * 1024**3
_RATIO = 200
_CHUNK = 1024 * 1024


class Scratch:
    """Keeps the files of one archive: small ones in memory, others in a temporary folder under names of its own.

    Args:
        where: The archive, for errors.
        compressed: Its size in bytes; what may come out of it is bounded by a multiple of that.
    """

    def __init__(self, where: object, compressed: int) -> None:
        self._where = where
        self._left = self._limit = min(_CEILING, max(_FLOOR, _RATIO * compressed))
        self._unread = self._limit
        self._memory, self._names = _IN_MEMORY, _NAMES
        self._members = self._files = 0
        self._folder: Path | None = None

    def bounded(self, stream: BinaryIO) -> BinaryIO:
        """A stream of what is decompressed, which ends in an error where no honest package goes on."""
        return io.BufferedReader(_Bounded(stream, self._read), _CHUNK)

    def _read(self, size: int) -> None:
        self._unread -= size
        if self._unread < 0:
            raise self._too_much()

    def count(self, path: str) -> None:
        """Count a member.

        Raises:
            SourceError: There are more than any honest package has, or their names are longer or deeper.
        """
        self._members += 1
        if self._members > MEMBER_LIMIT:
            raise SourceError(f"more than {MEMBER_LIMIT} members", wanted="a package", where=self._where)
        self._names -= len(path)
        if self._names < 0 or path.count("/") > _DEPTH:
            raise SourceError("names longer or deeper than a package has", wanted="a package", where=self._where)

    def link(self, file: File, path: str) -> File:
        """Another name of a file that was kept: it counts as a copy, which it becomes in an image."""
        self._spend(file.size)
        return File(path=path, content=file.content, size=file.size, mode=file.mode)

    def keep(self, path: str, content: BinaryIO, *, mode: int = 0o644) -> File:
        """Read a member's content to its end.

        Raises:
            SourceError: It expands beyond bounds, or cannot be kept.
        """
        data = content.read(_SMALL + 1)
        self._spend(len(data))
        if len(data) <= min(_SMALL, self._memory):
            self._memory -= len(data)
            return File(path=path, content=data, mode=mode)
        try:
            target = self._place()
            with open(target, "xb") as file:
                while data:
                    file.write(data)
                    data = content.read(_CHUNK)
                    self._spend(len(data))
        except OSError as error:
            raise SourceError(f"cannot be unpacked: {error.strerror}", where=f"{self._where}: {path}") from error
        return File(path=path, content=target, mode=mode)

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise self._too_much()

    def _too_much(self) -> SourceError:
        return SourceError(
            f"it expands to more than {self._limit} bytes", where=self._where, hint="It is made to fill a disk."
        )

    def _place(self) -> Path:
        if self._folder is None:
            import tempfile

            self._folder = Path(tempfile.mkdtemp(prefix="ocibuild-source-"))
            weakref.finalize(self, _remove, str(self._folder), os.getpid())
        self._files += 1
        return self._folder / str(self._files)


class _Bounded(PullStream):
    """A stream whose bytes are counted."""

    def __init__(self, stream: BinaryIO, count: Callable[[int], None]) -> None:
        self._stream, self._count = stream, count

    def pull(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._count(len(data))
        return data


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
