"""Entries: what a layer holds, before it is bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ocibuild.errors import EntryError

__all__ = ["Directory", "Entry", "File", "Symlink"]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A regular file: `content` is its bytes, or the path of a local file with `size` bytes that is read when needed.

    Raises:
        EntryError: The content is not there, or has another size than the one given.

    Example:
        >>> File(path="lib/x.so", content=b"abc").size
        3
    """

    path: str
    content: bytes | Path
    size: int = -1
    mode: int = 0o644

    def __post_init__(self) -> None:
        if isinstance(self.content, bytes):
            if self.size not in (-1, len(self.content)):
                raise EntryError(f"{len(self.content)} bytes", wanted=f"the size given, {self.size}", where=self.path)
            object.__setattr__(self, "size", len(self.content))
        elif self.size < 0:
            try:
                object.__setattr__(self, "size", self.content.stat().st_size)
            except (OSError, ValueError) as error:
                raise EntryError(f"cannot be read: {error}", where=self.content) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A folder. Parents need not be given: a layer has every parent folder, mode 0755."""

    path: str
    mode: int = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class Symlink:
    """A symbolic link with a relative target that stays inside the layer."""

    path: str
    target: str


Entry: TypeAlias = File | Directory | Symlink
"""A path (relative, `/` between its parts) and what is there."""
