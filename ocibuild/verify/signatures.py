"""Signatures and attestations put to public keys. Whatever is not understood, or not about this image, is refused."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Sequence

from ocibuild.errors import DocumentError, WrongSignatureError
from ocibuild.intoto import PAYLOAD_TYPE, SIGNATURE, parse_statement
from ocibuild.oci import Digest
from ocibuild.oci.annotations import CREATED
from ocibuild.sign import dsse, simple
from ocibuild.sign.bundle import PREDICATE_ANNOTATION, parse_bundle
from ocibuild.sign.keys import PublicKey
from ocibuild.times import rfc3339

from .evidence import Document
from .predicates import summary
from .verdict import Attestation, Signature

__all__ = ["vouched"]

_SIGNATURE_LIMIT = 1024
_CERTIFICATE = "dev.sigstore.cosign/certificate"
_FORMATS = {"bundle": "sigstore bundle", "sig": "simple signing", "att": "dsse envelope"}


def vouched(document: Document, digest: Digest, keys: Sequence[PublicKey]) -> Signature | Attestation:
    """What a document vouches for, once a key has signed it and it is about the image.

    Args:
        document: From `gather`.
        digest: The image's.
        keys: The keys that are believed.

    Raises:
        WrongSignatureError: It is by another key, about another image, or was changed.
        DocumentError: It is none.
    """
    if document.kind == "sig":
        return _simple(document, digest, keys)
    return _statement(document, digest, keys)


def _simple(document: Document, digest: Digest, keys: Sequence[PublicKey]) -> Signature:
    text = document.annotations.get(simple.SIGNATURE_ANNOTATION, "")
    if not text:
        raise WrongSignatureError(
            "a payload without its signature", wanted=f"the annotation {simple.SIGNATURE_ANNOTATION}"
        )
    signature = dsse.base64_bytes(text[: 2 * _SIGNATURE_LIMIT], where="signature")
    key = _signer(keys, signature, document.raw)
    if key is None:
        raise WrongSignatureError(
            "signed with a certificate" if _CERTIFICATE in document.annotations else "by another key, or changed since",
            wanted="the signature of a given key",
        )
    claim = simple.parse(document.raw)
    if claim.digest != digest:
        raise WrongSignatureError(f"it signs {claim.digest}, another image", wanted=str(digest))
    return Signature(
        key=key.fingerprint,
        format=_FORMATS["sig"],
        where=document.where,
        reference=claim.reference or None,
        created=rfc3339(claim.created) if claim.created else None,
    )


def _statement(document: Document, digest: Digest, keys: Sequence[PublicKey]) -> Signature | Attestation:
    if document.kind == "bundle":
        bundle = parse_bundle(document.raw)
        envelope, hint, has_certificate = bundle.envelope, bundle.key_hint, bundle.has_certificate
        told = document.annotations.get(PREDICATE_ANNOTATION)
    else:
        envelope, hint, has_certificate = dsse.parse(document.raw), None, False
        told = document.annotations.get("predicateType")
    if envelope.payload_type != PAYLOAD_TYPE:
        raise DocumentError(f"a payload of type {envelope.payload_type}"[:200], wanted=PAYLOAD_TYPE)
    if len(envelope.signatures) != 1:
        raise DocumentError(f"{len(envelope.signatures)} signatures in one envelope", wanted="exactly one")
    key = _signer(keys, envelope.signatures[0][1], envelope.signed)
    if key is None:
        raise WrongSignatureError(_why(hint, keys, has_certificate=has_certificate), wanted="one of a given key")
    statement = parse_statement(envelope.payload)
    # Digit for digit: other spellings of a digest are none. One statement may be about several images.
    if not statement.is_about(digest):
        raise WrongSignatureError("a statement about another image", wanted=str(digest))
    if told is not None and told != statement.predicate_type:
        found = f"the predicate type {statement.predicate_type}, attached as {told}"
        raise WrongSignatureError(found, wanted="the same")
    created = document.annotations.get(CREATED)
    if document.kind == "bundle" and statement.predicate_type == SIGNATURE:
        return Signature(key=key.fingerprint, format=_FORMATS["bundle"], where=document.where, created=created)
    return Attestation(
        key=key.fingerprint,
        format=_FORMATS[document.kind],
        where=document.where,
        predicate_type=statement.predicate_type,
        predicate=statement.predicate,
        says=summary(statement.predicate_type, statement.predicate),
        created=created,
    )


def _signer(keys: Sequence[PublicKey], signature: bytes, payload: bytes) -> PublicKey | None:
    """The key that has signed the payload. The hints beside a signature are not signed, so every key is tried."""
    if not 0 < len(signature) <= _SIGNATURE_LIMIT:
        return None
    return next((key for key in keys if key.verify(signature, payload)), None)


def _why(hint: str | None, keys: Sequence[PublicKey], *, has_certificate: bool) -> str:
    if has_certificate:
        return "signed with a certificate"
    if hint in {key.hint for key in keys}:
        return "what a given key signed was changed since"
    return f"by another key ({_fingerprint(hint)})" if hint else "by another key, or changed since"


def _fingerprint(hint: str) -> str:
    """A hint as fingerprints are shown; cosign's is the same digest in base64."""
    with contextlib.suppress(ValueError):
        raw = base64.b64decode(hint, validate=True)
        if len(raw) == hashlib.sha256().digest_size:
            return f"sha256:{raw.hex()}"
    return hint[:100]
