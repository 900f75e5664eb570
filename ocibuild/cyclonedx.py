"""CycloneDX documents (ECMA-424): their media type, and what such a document says that it is about."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ocibuild.oci import Digest

__all__ = ["MEDIA_TYPE", "is_about", "subject_digests"]

MEDIA_TYPE: Final = "application/vnd.cyclonedx+json"

_ALGORITHMS: Final = {"SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}


class _Hash(msgspec.Struct):
    alg: str
    content: str


class _Subject(msgspec.Struct):
    hashes: tuple[_Hash, ...] = ()


class _Metadata(msgspec.Struct):
    component: _Subject


class _Head(msgspec.Struct):
    form: Literal["CycloneDX"] = msgspec.field(name="bomFormat")
    metadata: _Metadata


def subject_digests(raw: bytes) -> frozenset[str]:
    """The digests of what a document is about, as OCI writes them; none where it does not say, or is no such document."""
    try:
        hashes = msgspec.json.decode(raw, type=_Head).metadata.component.hashes
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return frozenset()
    return frozenset(f"{_ALGORITHMS[item.alg]}:{item.content}" for item in hashes if item.alg in _ALGORITHMS)


def is_about(raw: bytes, digest: Digest) -> bool:
    """Whether a document is about an image, and no other.

    Example:
        >>> digest = Digest.of(b"")
        >>> hashes = f'[{{"alg": "SHA-256", "content": "{digest.encoded}"}}]'
        >>> raw = f'{{"bomFormat": "CycloneDX", "metadata": {{"component": {{"hashes": {hashes}}}}}}}'
        >>> is_about(raw.encode(), digest), is_about(b'{"bomFormat": "CycloneDX"}', digest)
        (True, False)
    """
    return {item for item in subject_digests(raw) if item.startswith(f"{digest.algorithm}:")} == {str(digest)}
