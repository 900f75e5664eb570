"""What files hold, wherever it is kept."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

from ocibuild.errors import SourceError
from ocibuild.layer.entry import File

__all__ = ["content_digest", "read_content"]

_SMALL = 64 * 1024


def read_content(file: File, limit: int = -1) -> bytes:
    """A file's bytes, at most `limit` of them.

    Raises:
        SourceError: It cannot be read.
    """
    if isinstance(file.content, bytes):
        return file.content if limit < 0 else file.content[:limit]
    try:
        with open(file.content, "rb", buffering=0) as stream:
            return stream.read(limit) or b""
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=file.content) from error


def content_digest(file: File) -> str:
    """The SHA-256 of a file's content."""
    if isinstance(file.content, bytes):
        return hashlib.sha256(file.content).hexdigest()
    if 0 <= file.size <= _SMALL:
        return hashlib.sha256(read_content(file, _SMALL)).hexdigest()
    try:
        return _digest(file.content, os.stat(file.content).st_mtime_ns)
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=file.content) from error


@functools.lru_cache(maxsize=4096)
def _digest(path: Path | str, _changed: int) -> str:
    """The digest of a file as it was at a time; one file may have many names."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
