"""Image indexes (image-spec, image-index.md): the images of several platforms under one digest."""

from __future__ import annotations

from typing import Literal

import msgspec

from .descriptor import Descriptor, MediaType
from .manifest import _version

__all__ = ["Index"]


class Index(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A list of manifests, each with the platform it is for. A layout's `index.json` has the same form."""

    schema_version: Literal[2] = msgspec.field(default_factory=_version)
    media_type: MediaType | None = None
    # Written even when empty: the specification wants the field.
    manifests: tuple[Descriptor, ...]
    artifact_type: MediaType | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None
