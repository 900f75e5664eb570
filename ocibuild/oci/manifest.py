"""Image manifests (image-spec, manifest.md)."""

from __future__ import annotations

from typing import Literal

import msgspec

from .descriptor import Descriptor, MediaType

__all__ = ["Manifest"]


def _version() -> Literal[2]:
    return 2


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One image: its configuration, its layers, and what it is attached to (`subject`)."""

    # A factory's default is always written; the specification wants the field.
    schema_version: Literal[2] = msgspec.field(default_factory=_version)
    media_type: MediaType | None = None
    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: MediaType | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None

    @property
    def effective_artifact_type(self) -> str:
        """What `referrers` says this manifest is: `artifactType`, else the configuration's media type."""
        return self.artifact_type or self.config.media_type
