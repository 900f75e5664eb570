"""A private folder for what comes out of an archive, removed when nothing refers to it any more."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import BinaryIO

from ocibuild.errors import SourceError
from ocibuild.layer.entry import File

__all__ = ["MEMBER_LIMIT", "Scratch"]

MEMBER_LIMIT = 100_000
_IN_MEMORY = 16 * 1024
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
        self._members = self._files = 0
        self._folder: Path | None = None

    def count(self) -> None:
        """Count a member.

        Raises:
            SourceError: There are more than any honest package has.
        """
        self._members += 1
        if self._members > MEMBER_LIMIT:
            raise SourceError(f"more than {MEMBER_LIMIT} members", wanted="a package", where=self._where)

    def keep(self, path: str, content: BinaryIO, *, mode: int = 0o644) -> File:
        """Read a member's content to its end.

        Raises:
            SourceError: It expands beyond bounds, or cannot be kept.
        """
        data = content.read(_IN_MEMORY + 1)
        self._spend(len(data))
        if len(data) <= _IN_MEMORY:
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
            raise SourceError(
                f"it expands to more than {self._limit} bytes", where=self._where, hint="It is made to fill a disk."
            )

    def _place(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="ocibuild-source-"))
            weakref.finalize(self, _remove, str(self._folder), os.getpid())
        self._files += 1
        return self._folder / str(self._files)


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child
        shutil.rmtree(folder, ignore_errors=True)
