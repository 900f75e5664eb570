"""Entries: what a layer holds, before it is bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

import msgspec

from ocibuild.errors import EntryError

__all__ = ["Directory", "Entry", "File", "Symlink"]


class File(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A regular file: `content` is its bytes, or the path (`Path` or text) of a local file with `size` bytes, read when needed.

    Raises:
        EntryError: The content is not there, or has another size than the one given.

    Example:
        >>> File(path="lib/x.so", content=b"abc").size
        3
    """

    path: str
    content: bytes | Path | str
    size: int = -1
    mode: int = 0o644

    def __post_init__(self) -> None:
        if isinstance(self.content, bytes):
            if self.size not in (-1, len(self.content)):
                raise EntryError(f"{len(self.content)} bytes", wanted=f"the size given, {self.size}", where=self.path)
            msgspec.structs.force_setattr(self, "size", len(self.content))
        elif self.size < 0:
            try:
                msgspec.structs.force_setattr(self, "size", os.stat(self.content).st_size)
            except (OSError, ValueError) as error:
                raise EntryError(f"cannot be read: {error}", where=self.content) from error


class Directory(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A folder. Parents need not be given: a layer has every parent folder, mode 0755."""

    path: str
    mode: int = 0o755


class Symlink(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A symbolic link with a relative target that stays inside the layer."""

    path: str
    target: str


Entry: TypeAlias = File | Directory | Symlink
"""A path (relative, `/` between its parts) and what is there."""
