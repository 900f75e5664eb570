"""Layers: deterministic bytes from entries, and entries back from bytes. Format 1 (docs/reference/format-1.md).

Most names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocibuild.lazy import loader

from .plan import plan

if TYPE_CHECKING:
    from .build import Layer, build_layer
    from .compress import Compression
    from .entry import Directory, Entry, File, Symlink
    from .format import CodecWarning
    from .read import Member, open_layer, read_members
    from .tar import tar_chunks
    from .tree import read_tree

__all__ = [
    "CodecWarning",
    "Compression",
    "Directory",
    "Entry",
    "File",
    "Layer",
    "Member",
    "Symlink",
    "build_layer",
    "open_layer",
    "plan",
    "read_members",
    "read_tree",
    "tar_chunks",
]

_HOMES = {
    "build": ("Layer", "build_layer"),
    "compress": ("Compression",),
    "entry": ("Directory", "Entry", "File", "Symlink"),
    "format": ("CodecWarning",),
    "read": ("Member", "open_layer", "read_members"),
    "tar": ("tar_chunks",),
    "tree": ("read_tree",),
}

__getattr__ = loader(__name__, globals(), _HOMES)
