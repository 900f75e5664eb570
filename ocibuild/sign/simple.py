"""Simple signing: the JSON that cosign's older signatures are over (containers/image, "atomic signature" format)."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final, Literal

import msgspec

from ocibuild.oci import Digest
from ocibuild.oci.canonical import decode
from ocibuild.oci.canonical import encode as encode_json

__all__ = ["SIGNATURE_ANNOTATION", "SIMPLE_SIGNING", "SimpleClaim", "encode", "parse"]

SIMPLE_SIGNING: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
"""The media type of a payload: a layer of the image that `sha256-….sig` names."""

SIGNATURE_ANNOTATION: Final = "dev.cosignproject.cosign/signature"
"""The layer's annotation that holds the signature over the payload, in base64."""

_TYPE: Final = "cosign container image signature"
_TIME_LIMIT = 253_402_300_799  # the last second of the year 9999


class SimpleClaim(msgspec.Struct, frozen=True, kw_only=True):
    """What a payload says.

    Attributes:
        digest: The image or index that is signed.
        reference: The repository it was signed for; may be empty.
        created: When, if that is told.
    """

    digest: Digest
    reference: str
    created: dt.datetime | None = None


class _Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    docker_reference: str


class _Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    docker_manifest_digest: Digest


class _Critical(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    identity: _Identity
    image: _Image
    type: Literal["cosign container image signature"]


class _Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    critical: _Critical
    optional: dict[str, Any] | None = None


def encode(digest: Digest, docker_reference: str, created: dt.datetime | None = None) -> bytes:
    """A payload's bytes.

    Args:
        digest: The image or index.
        docker_reference: Its repository, with the registry; image policies compare it.
        created: When it is signed; left out where None.

    Example:
        >>> parse(encode(Digest.of(b""), "ghcr.io/grove/x")).reference
        'ghcr.io/grove/x'
    """
    return encode_json(
        {
            "critical": {
                "identity": {"docker-reference": docker_reference},
                "image": {"docker-manifest-digest": str(digest)},
                "type": _TYPE,
            },
            "optional": None if created is None else {"timestamp": int(created.timestamp())},
        }
    )


def parse(raw: bytes, *, where: object = "signature") -> SimpleClaim:
    """What a payload says. Nothing is verified.

    Raises:
        DocumentError: It is none, or has critical fields that are not understood.
    """
    found = decode(raw, _Payload, where=where)
    # Any annotation may stand beside it; one of this name that is no time is such.
    seconds = (found.optional or {}).get("timestamp")
    is_time = type(seconds) is int and 0 <= seconds <= _TIME_LIMIT
    return SimpleClaim(
        digest=found.critical.image.docker_manifest_digest,
        reference=found.critical.identity.docker_reference,
        created=dt.datetime.fromtimestamp(seconds, dt.UTC) if is_time else None,  # type: ignore[arg-type]
    )
