"""Streams made of one method: what the next read gives."""

from __future__ import annotations

import io
from abc import abstractmethod
from typing import BinaryIO

__all__ = ["PullStream", "drain"]

_CHUNK = 1024 * 1024


class PullStream(io.RawIOBase):
    """A readable stream whose bytes come from `pull`."""

    @abstractmethod
    def pull(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.pull(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def drain(stream: BinaryIO) -> None:
    """Read a stream to its end, for what reading it verifies."""
    while stream.read(_CHUNK):
        pass
