"""Layers: deterministic bytes from entries, and entries back from bytes. Format 1 (docs/reference/format-1.md)."""

from .build import Layer, build_layer
from .compress import Compression
from .entry import Directory, Entry, File, Symlink
from .format import CodecWarning
from .plan import plan
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
