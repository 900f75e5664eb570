"""In-toto statements (in-toto attestation framework, Statement v1): what is said of an image, and of which.

Provenance, SBOMs and signatures are such statements; what differs is the predicate. A statement is a claim: nothing
vouches for it before it is signed.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from ocibuild.errors import DocumentError
from ocibuild.oci import Descriptor, Digest
from ocibuild.oci.canonical import decode, encode

__all__ = [
    "CYCLONEDX",
    "PAYLOAD_TYPE",
    "SIGNATURE",
    "SLSA_PROVENANCE",
    "STATEMENT",
    "Statement",
    "Subject",
    "parse_statement",
    "statement",
]

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
"""The media type of a statement, alone and in a DSSE envelope."""

STATEMENT: Final = "https://in-toto.io/Statement/v1"
# The same fields under an older name; cosign still writes it.
_READ: Final = (STATEMENT, "https://in-toto.io/Statement/v0.1")

SLSA_PROVENANCE: Final = "https://slsa.dev/provenance/v1"
CYCLONEDX: Final = "https://cyclonedx.org/bom"
SIGNATURE: Final = "https://sigstore.dev/cosign/sign/v1"
"""The predicate that says no more than that its subject is signed."""

_SUBJECTS_LIMIT = 1024


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What a statement is about: perhaps a name, and digests by algorithm, in hexadecimal."""

    name: str = ""
    digest: dict[str, str] = {}


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that was read.

    Attributes:
        predicate_type: The URI that says what the predicate means.
        predicate: What is said.
        subjects: Of what.
    """

    predicate_type: str
    predicate: dict[str, Any]
    subjects: tuple[Subject, ...]

    def is_about(self, digest: Digest) -> bool:
        """Whether a digest is among the subjects."""
        return any(item.digest.get(digest.algorithm) == digest.encoded for item in self.subjects)


class _Statement(msgspec.Struct, frozen=True, kw_only=True):
    type_: str = msgspec.field(name="_type")
    predicate_type: Annotated[str, msgspec.Meta(min_length=1)] = msgspec.field(name="predicateType")
    predicate: dict[str, Any] = {}
    subject: Annotated[tuple[Subject, ...], msgspec.Meta(max_length=_SUBJECTS_LIMIT)] = ()


def statement(subject: Descriptor, predicate_type: str, predicate: Any) -> bytes:
    """A statement about an image, in canonical JSON: the same for the same input.

    Args:
        subject: The image or index.
        predicate_type: The URI of what is said.
        predicate: What is said: a mapping of plain JSON values, or a struct.

    Raises:
        UsageError: The predicate is not what JSON can hold.

    Example:
        >>> image = Descriptor.of(b"{}", "application/vnd.oci.image.manifest.v1+json")
        >>> parse_statement(statement(image, SIGNATURE, {})).is_about(image.digest)
        True
    """
    return encode(
        {
            "_type": STATEMENT,
            "subject": [{"digest": {subject.digest.algorithm: subject.digest.encoded}}],
            "predicateType": predicate_type,
            "predicate": predicate,
        }
    )


def parse_statement(raw: bytes, *, where: object = "statement") -> Statement:
    """A statement from its bytes; fields that are not known are passed over, as its specification asks.

    Args:
        raw: The bytes; at most 4 MiB.
        where: What to name in an error.

    Raises:
        DocumentError: They are no statement.
    """
    found = decode(raw, _Statement, where=where)
    if found.type_ not in _READ:
        raise DocumentError(f"a document of type {found.type_[:200]!r}", wanted=STATEMENT, where=where)
    return Statement(predicate_type=found.predicate_type, predicate=found.predicate, subjects=found.subject)
