"""Sigstore bundles, v0.3: an envelope with what names the key that signed it (sigstore protobuf-specs, Bundle)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ocibuild.errors import DocumentError
from ocibuild.oci.canonical import decode, encode

from . import dsse
from .dsse import Envelope

__all__ = ["BUNDLE", "CONTENT_ANNOTATION", "PREDICATE_ANNOTATION", "Bundle", "encode_bundle", "parse_bundle"]

BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
"""The media type of a bundle, and the artifact type of the manifest that refers to the image."""

CONTENT_ANNOTATION: Final = "dev.sigstore.bundle.content"
PREDICATE_ANNOTATION: Final = "dev.sigstore.bundle.predicateType"


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that was read.

    Attributes:
        envelope: What is signed; it has one signature.
        key_hint: What the bundle says of the public key; None where a certificate stands in its place.
        has_certificate: Whether the signer is named by a certificate (keyless signing).
    """

    envelope: Envelope
    key_hint: str | None
    has_certificate: bool = False


class _PublicKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hint: str = ""


class _Material(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    public_key: _PublicKey | None = None
    certificate: dict[str, Any] | None = None
    tlog_entries: list[Any] = []
    timestamp_verification_data: dict[str, Any] | None = None


class _Bundle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    media_type: str
    verification_material: _Material
    dsse_envelope: dsse.Fields | None = None
    message_signature: dict[str, Any] | None = None


def encode_bundle(envelope: Envelope, key_hint: str) -> bytes:
    """A bundle's canonical bytes.

    Args:
        envelope: What is signed, with its one signature.
        key_hint: The public key's `hint`.

    Raises:
        UsageError: It would be larger than any document that is read.
    """
    return dsse.bounded(
        encode(
            {
                "mediaType": BUNDLE,
                "verificationMaterial": {"publicKey": {"hint": key_hint}},
                "dsseEnvelope": dsse.plain(envelope),
            }
        )
    )


def parse_bundle(raw: bytes, *, where: object = "bundle") -> Bundle:
    """A bundle from its bytes. Nothing is verified.

    Args:
        raw: The bytes; at most 4 MiB.
        where: What to name in an error.

    Raises:
        DocumentError: They are none, of another version, over a bare digest, not signed exactly once, or by nobody named.
    """
    kind = decode(raw, dict, where=where).get("mediaType")
    if kind != BUNDLE:
        raise DocumentError(f"a document of type {str(kind)[:200]!r}", wanted=BUNDLE, where=where)
    found = decode(raw, _Bundle, where=where)
    if found.dsse_envelope is None or found.message_signature is not None:
        raise DocumentError("a bundle over a bare digest", wanted="one with a DSSE envelope", where=where)
    if len(found.dsse_envelope.signatures) != 1:
        raise DocumentError(f"{len(found.dsse_envelope.signatures)} signatures", wanted="exactly one", where=where)
    material = found.verification_material
    if (material.public_key is None) == (material.certificate is None):
        raise DocumentError("a bundle that does not name its signer", wanted="a key or a certificate", where=where)
    return Bundle(
        envelope=dsse.read(found.dsse_envelope, where=where),
        key_hint=material.public_key.hint if material.public_key else None,
        has_certificate=material.certificate is not None,
    )
