"""Entries: what a layer holds, before it is bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

__all__ = ["Directory", "Entry", "File", "Symlink"]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A regular file: `content` is its bytes, or the path of a local file with `size` bytes that is read when needed.

    Example:
        >>> File(path="lib/x.so", content=b"abc").size
        3
    """

    path: str
    content: bytes | Path
    size: int = -1
    mode: int = 0o644

    def __post_init__(self) -> None:
        if self.size < 0:
            size = len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size
            object.__setattr__(self, "size", size)


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
