"""The file of an OCI archive, opened once: where each of its members lies, and readers of them."""

from __future__ import annotations

import io
import os
import threading
import weakref
from pathlib import Path
from typing import BinaryIO, Self

from ocibuild.errors import LayerError, LayoutError
from ocibuild.layer.read import read_members
from ocibuild.layer.stream import PullStream

from .files import open_regular, store_errors

__all__ = ["ArchiveFile", "file_state"]

_AGAIN = "It may have been cut off: copy it here again from where it came from."

State = tuple[int, int, int, int]


class ArchiveFile:
    """An archive that is read through one descriptor, so that another process's replacement is never mixed in.

    Attributes:
        members: The offset and size of each file in it.
        state: What tells the file from one that has been put in its place.

    Raises:
        LayoutError: It is not an OCI archive.
    """

    def __init__(self, stream: io.FileIO, path: Path) -> None:
        self.path = path
        self._stream = stream
        self._lock = threading.Lock()
        # Readers keep this object, so the file is closed when the last of them is done.
        self._finalizer = weakref.finalize(self, stream.close)
        with store_errors(path):
            self.state = _state(os.fstat(stream.fileno()))
            self.members = self._scan()
        for name in ("oci-layout", "index.json"):
            if name not in self.members:
                # They come last, and are the first to be lost.
                hint = _AGAIN if any(item.startswith("blobs/") for item in self.members) else ""
                raise LayoutError(f"a tar archive without {name}", wanted="an OCI archive", where=path, hint=hint)

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """The archive at a path; None when there is none."""
        with store_errors(path):
            try:
                stream = open_regular(path)
            except FileNotFoundError:
                return None
        return cls(stream, path)

    def read(self, name: str, limit: int) -> bytes:
        """A small member's bytes.

        Raises:
            LayoutError: It is larger than the limit.
        """
        with self.open_member(name) as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise LayoutError(f"an archive whose {name} is larger than {limit} bytes", where=self.path)
        return data

    def open_member(self, name: str) -> BinaryIO:
        """A fresh reader of a member."""
        return io.BufferedReader(_Window(self, *self.members[name]))

    def read_at(self, offset: int, size: int) -> bytes:
        """Bytes from anywhere in the file, safe from several threads."""
        with self._lock, store_errors(self.path):
            self._stream.seek(offset)
            return self._stream.read(size)

    def _scan(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        whole = io.BufferedReader(_Window(self, 0, self.state[2]))
        try:
            for member, _ in read_members(whole):
                name = member.path.removeprefix("./")
                if member.kind == "file":
                    if name in found:
                        raise LayoutError(f"{name} twice in an archive", where=self.path)
                    found[name] = (whole.tell(), member.size)
                    if sum(found[name]) > self.state[2]:
                        raise LayoutError(f"an archive that ends within {name}", where=self.path, hint=_AGAIN)
        except LayerError as error:
            hint = "It is compressed: unpack it first." if self.read_at(0, 2) == b"\x1f\x8b" else ""
            raise LayoutError(
                f"not a readable tar archive: {error.found}", wanted="an OCI archive", where=self.path, hint=hint
            ) from None
        return found


def file_state(path: Path) -> State | None:
    """The `state` of the file that is at a path now; None when there is none."""
    try:
        return _state(path.stat())
    except FileNotFoundError:
        return None


def _state(status: os.stat_result) -> State:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class _Window(PullStream):
    """A stretch of an archive file."""

    def __init__(self, archive: ArchiveFile, offset: int, size: int) -> None:
        self._archive, self._start, self._at, self._end = archive, offset, offset, offset + size

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: self._start, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        self._at = min(max(base + offset, self._start), self._end)
        return self._at - self._start

    def pull(self, size: int) -> bytes:
        data = self._archive.read_at(self._at, min(size, self._end - self._at))
        self._at += len(data)
        return data
