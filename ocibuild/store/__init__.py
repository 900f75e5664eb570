"""Stores hold blobs by digest and name some with tags; `copy` moves artifacts between any two of them.

Every name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocibuild.lazy import loader

if TYPE_CHECKING:
    from .archive import ArchiveStore
    from .base import Artifact, Fetcher, LocalStore, RemoteStore, Store
    from .docker import DockerArchiveWriter
    from .graph import find_platform, read_blob, single_image, walk
    from .layout import LayoutStore
    from .memory import MemoryStore
    from .spool import Spool
    from .transfer import copy

__all__ = [
    "ArchiveStore",
    "Artifact",
    "DockerArchiveWriter",
    "Fetcher",
    "LayoutStore",
    "LocalStore",
    "MemoryStore",
    "RemoteStore",
    "Spool",
    "Store",
    "copy",
    "find_platform",
    "read_blob",
    "single_image",
    "walk",
]

_HOMES = {
    "archive": ("ArchiveStore",),
    "base": ("Artifact", "Fetcher", "LocalStore", "RemoteStore", "Store"),
    "docker": ("DockerArchiveWriter",),
    "graph": ("find_platform", "read_blob", "single_image", "walk"),
    "layout": ("LayoutStore",),
    "memory": ("MemoryStore",),
    "spool": ("Spool",),
    "transfer": ("copy",),
}

__getattr__ = loader(__name__, globals(), _HOMES)
