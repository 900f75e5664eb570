"""Entries: what a layer holds, before it is bytes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias

from ocibuild.errors import EntryError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Directory", "Entry", "File", "Symlink"]


class _FileFields(NamedTuple):
    path: str
    content: bytes | Path | str
    size: int
    mode: int


class File(_FileFields):
    """A regular file: `content` is its bytes, or the path (`Path` or text) of a local file with `size` bytes, read when needed.

    Raises:
        EntryError: The content is not there, or has another size than the one given.

    Example:
        >>> File(path="lib/x.so", content=b"abc").size
        3
    """

    __slots__ = ()

    def __new__(cls, *, path: str, content: bytes | Path | str, size: int = -1, mode: int = 0o644) -> Self:
        if isinstance(content, bytes):
            if size not in (-1, len(content)):
                raise EntryError(f"{len(content)} bytes", wanted=f"the size given, {size}", where=path)
            size = len(content)
        elif size < 0:
            try:
                size = os.stat(content).st_size
            except (OSError, ValueError) as error:
                raise EntryError(f"cannot be read: {error}", where=content) from error
        return super().__new__(cls, path, content, size, mode)


class Directory(NamedTuple):
    """A folder. Parents need not be given: a layer has every parent folder, mode 0755."""

    path: str
    mode: int = 0o755


class Symlink(NamedTuple):
    """A symbolic link with a relative target that stays inside the layer."""

    path: str
    target: str


Entry: TypeAlias = File | Directory | Symlink
"""A path (relative, `/` between its parts) and what is there."""
