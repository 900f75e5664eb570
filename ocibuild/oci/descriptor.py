"""Descriptors: typed, sized references to blobs (image-spec, descriptor.md)."""

from __future__ import annotations

from typing import Annotated

import msgspec

from .digest import Digest
from .platform import Platform

__all__ = ["Descriptor", "MediaType"]

# The grammar of RFC 6838; patterns are searched, so both ends are anchored. Parameters are none of it, but older sigstore
# bundles have one, and must not hide what else is listed beside them.
MediaType = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}(?:;[ -~]{0,127})?\Z"
    ),
]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What a blob is, how many bytes it has, and their digest.

    `urls` are kept when a document has them and never followed. `data`, an inline copy of the blob, is kept and never
    trusted.

    Example:
        >>> Descriptor.of(b"{}", "application/vnd.oci.empty.v1+json").size
        2
    """

    media_type: MediaType
    digest: Digest
    size: Size
    annotations: dict[str, str] | None = None
    platform: Platform | None = None
    artifact_type: MediaType | None = None
    urls: tuple[str, ...] | None = None
    data: str | None = None

    @classmethod
    def of(cls, data: bytes, media_type: str) -> Descriptor:
        """The descriptor of bytes in memory."""
        return cls(media_type=media_type, digest=Digest.of(data), size=len(data))

    @property
    def bare(self) -> Descriptor:
        """Media type, digest and size alone: the identity, without what one document says about it."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=self.size)

    def with_annotation(self, key: str, value: str) -> Descriptor:
        """The same descriptor with one annotation more."""
        return msgspec.structs.replace(self, annotations={**(self.annotations or {}), key: value})
