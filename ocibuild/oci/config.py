"""Image configurations (image-spec, config.md)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .digest import Digest
from .platform import Platform

__all__ = ["History", "ImageConfig", "RootFS", "RuntimeConfig"]


class RuntimeConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """Defaults for a container run from the image; an extension image uses the user and the labels."""

    user: str | None = None
    env: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    working_dir: str | None = None
    labels: dict[str, str] | None = None
    exposed_ports: dict[str, Any] | None = None
    volumes: dict[str, Any] | None = None
    stop_signal: str | None = None


class RootFS(msgspec.Struct, frozen=True, kw_only=True):
    """The layers' diff IDs: the digests of the uncompressed archives, lowest layer first."""

    type: Literal["layers"]
    diff_ids: tuple[Digest, ...]


class History(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a layer came to be."""

    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an image is for and made of."""

    architecture: str
    os: str
    variant: str | None = None
    os_version: str | None = msgspec.field(default=None, name="os.version")
    os_features: tuple[str, ...] | None = msgspec.field(default=None, name="os.features")
    created: str | None = None
    author: str | None = None
    config: RuntimeConfig | None = None
    rootfs: RootFS
    history: tuple[History, ...] | None = None

    @property
    def platform(self) -> Platform:
        """The platform the image says it is for."""
        return Platform(os=self.os, architecture=self.architecture, variant=self.variant).normalized()

    @property
    def labels(self) -> dict[str, str]:
        """The labels, empty when there are none."""
        return dict((self.config and self.config.labels) or {})
