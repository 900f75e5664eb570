"""DSSE envelopes: a payload, its type, and signatures over both (Dead Simple Signing Envelope, protocol.md, v1)."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Final

import msgspec

from ocibuild.errors import DocumentError, UsageError
from ocibuild.oci.canonical import DOCUMENT_LIMIT
from ocibuild.oci.canonical import decode as decode_json
from ocibuild.oci.canonical import encode as encode_json

__all__ = ["ENVELOPE", "SIGNATURES_LIMIT", "Envelope", "base64_bytes", "encode", "pae", "parse", "plain", "read"]

ENVELOPE: Final = "application/vnd.dsse.envelope.v1+json"
"""The media type of an envelope."""

SIGNATURES_LIMIT = 64


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A signed payload.

    Attributes:
        payload_type: What the payload is.
        payload: Its bytes.
        signatures: The signatures, each with the name of its key, which is a hint at most and mostly empty.
    """

    payload_type: str
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]

    @property
    def signed(self) -> bytes:
        """The bytes that each signature is over."""
        return pae(self.payload_type, self.payload)


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signature as an envelope has it."""

    sig: str
    keyid: str = ""


class Fields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The fields of an envelope, in base64."""

    payload: str
    payload_type: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    signatures: Annotated[tuple[Signature, ...], msgspec.Meta(min_length=1, max_length=SIGNATURES_LIMIT)]


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: type and payload, each with its length ("Pre-Authentication Encoding").

    Example:
        >>> pae("text/plain", b"hello")
        b'DSSEv1 10 text/plain 5 hello'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def encode(envelope: Envelope) -> bytes:
    """An envelope's canonical bytes.

    Raises:
        UsageError: It would be larger than any document that is read.
    """
    return bounded(encode_json(plain(envelope)))


def plain(envelope: Envelope) -> dict[str, Any]:
    """An envelope as JSON values."""
    return {
        "payload": base64.b64encode(envelope.payload).decode(),
        "payloadType": envelope.payload_type,
        "signatures": [
            {"sig": base64.b64encode(signature).decode(), **({"keyid": keyid} if keyid else {})}
            for keyid, signature in envelope.signatures
        ],
    }


def bounded(raw: bytes) -> bytes:
    """What was encoded, once it is known that it can be read again.

    Raises:
        UsageError: It is too large.
    """
    if len(raw) > DOCUMENT_LIMIT:
        raise UsageError(
            f"a signed document of {len(raw)} bytes",
            wanted=f"at most {DOCUMENT_LIMIT}",
            hint="What is signed takes a third more in base64: leave something out.",
        )
    return raw


def parse(raw: bytes, *, where: object = "envelope") -> Envelope:
    """An envelope from its bytes. Nothing is verified.

    Args:
        raw: The bytes; at most 4 MiB.
        where: What to name in an error.

    Raises:
        DocumentError: They are no envelope, or have what envelopes do not have.
    """
    return read(decode_json(raw, Fields, where=where), where=where)


def read(fields: Fields, *, where: object) -> Envelope:
    """An envelope from its fields.

    Raises:
        DocumentError: One of them is not in base64.
    """
    return Envelope(
        payload_type=fields.payload_type,
        payload=base64_bytes(fields.payload, where=where),
        signatures=tuple((item.keyid, base64_bytes(item.sig, where=where)) for item in fields.signatures),
    )


def base64_bytes(text: str, *, where: object) -> bytes:
    """The bytes behind base64 in its one canonical form: standard alphabet, padded, no blanks.

    Raises:
        DocumentError: The text is not in it, or says nothing.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    # Bits that the padding hides could differ between two texts of the same bytes.
    if not data or base64.b64encode(data).decode() != text:
        raise DocumentError(f"{text[:40]!r}", wanted="base64", where=where)
    return data
