"""ocibuild assembles OCI images of PostgreSQL extensions without a Docker daemon.

An `Artifact` is a root descriptor and a source of every blob it reaches. A `Store` holds blobs: `MemoryStore`,
`LayoutStore`, `ArchiveStore`. `build_layer`, `build_image` and `build_index` make artifacts, `copy` moves them.
`ocibuild.postgres` knows what a PostgreSQL extension is.

Every name is loaded when it is first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import loader
from .version import FORMAT, __version__

if TYPE_CHECKING:
    from .diff import Comparison, Difference, compare
    from .errors import OcibuildError
    from .image import build_image, build_index
    from .layer import CodecWarning, Compression, Directory, File, Layer, Symlink, build_layer, read_tree
    from .locations import open_artifact, open_store
    from .oci import Descriptor, Digest, Platform, Reference
    from .provenance import Provenance, attach_provenance, find_provenance
    from .reproduce import Rebuilt, rebuild
    from .store import ArchiveStore, Artifact, LayoutStore, LocalStore, MemoryStore, Store, copy

__all__ = [
    "FORMAT",
    "ArchiveStore",
    "Artifact",
    "CodecWarning",
    "Comparison",
    "Compression",
    "Descriptor",
    "Difference",
    "Digest",
    "Directory",
    "File",
    "Layer",
    "LayoutStore",
    "LocalStore",
    "MemoryStore",
    "OcibuildError",
    "Platform",
    "Provenance",
    "Rebuilt",
    "Reference",
    "Store",
    "Symlink",
    "__version__",
    "attach_provenance",
    "build_image",
    "build_index",
    "build_layer",
    "compare",
    "copy",
    "find_provenance",
    "open_artifact",
    "open_store",
    "read_tree",
    "rebuild",
]


_HOMES = {
    "diff": ("Comparison", "Difference", "compare"),
    "errors": ("OcibuildError",),
    "image": ("build_image", "build_index"),
    "layer": (
        "CodecWarning",
        "Compression",
        "Directory",
        "File",
        "Layer",
        "Symlink",
        "build_layer",
        "read_tree",
    ),
    "locations": ("open_artifact", "open_store"),
    "oci": ("Descriptor", "Digest", "Platform", "Reference"),
    "provenance": ("Provenance", "attach_provenance", "find_provenance"),
    "reproduce": ("Rebuilt", "rebuild"),
    "store": ("ArchiveStore", "Artifact", "LayoutStore", "LocalStore", "MemoryStore", "Store", "copy"),
}


__getattr__ = loader(__name__, globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
