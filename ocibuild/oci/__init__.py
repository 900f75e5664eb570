"""Values of the OCI specifications: no I/O, no clock, no environment.

Documents that are written are canonical JSON (RFC 8785). Documents that are read are validated, and kept elsewhere as
the bytes they arrived in: nothing here re-serialises what somebody else wrote. Every name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocibuild.lazy import loader

if TYPE_CHECKING:
    from .config import History, ImageConfig, RootFS, RuntimeConfig
    from .descriptor import Descriptor
    from .digest import Digest
    from .index import Index
    from .manifest import Manifest
    from .platform import Platform
    from .reference import Reference

__all__ = [
    "Descriptor",
    "Digest",
    "History",
    "ImageConfig",
    "Index",
    "Manifest",
    "Platform",
    "Reference",
    "RootFS",
    "RuntimeConfig",
]

_HOMES = {
    "config": ("History", "ImageConfig", "RootFS", "RuntimeConfig"),
    "descriptor": ("Descriptor",),
    "digest": ("Digest",),
    "index": ("Index",),
    "manifest": ("Manifest",),
    "platform": ("Platform",),
    "reference": ("Reference",),
}

__getattr__ = loader(__name__, globals(), _HOMES)
