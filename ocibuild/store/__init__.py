"""Stores hold blobs by digest and name some with tags; `copy` moves artifacts between any two of them."""

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
