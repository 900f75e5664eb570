"""What is said of an image: the short names of predicate types, as cosign has them, and a file as a predicate."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final

from ocibuild.errors import DocumentError, UsageError
from ocibuild.intoto import CYCLONEDX, SLSA_PROVENANCE
from ocibuild.oci.canonical import DOCUMENT_LIMIT, decode
from ocibuild.times import rfc3339

__all__ = ["CUSTOM", "PREDICATE_TYPES", "predicate_type", "read_object", "read_predicate"]

CUSTOM: Final = "https://cosign.sigstore.dev/attestation/v1"

PREDICATE_TYPES: Final = {
    "custom": CUSTOM,
    "cyclonedx": CYCLONEDX,
    "link": "https://in-toto.io/Link/v1",
    "openvex": "https://openvex.dev/ns",
    "slsaprovenance": "https://slsa.dev/provenance/v0.2",
    "slsaprovenance02": "https://slsa.dev/provenance/v0.2",
    "slsaprovenance1": SLSA_PROVENANCE,
    "spdxjson": "https://spdx.dev/Document",
    "vuln": "https://cosign.sigstore.dev/attestation/vuln/v1",
}
"""The predicate type that a short name stands for."""

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]{1,500}")


def predicate_type(name: str) -> str:
    """The predicate type that a short name or a URI means.

    Raises:
        UsageError: It is neither.

    Example:
        >>> predicate_type("cyclonedx")
        'https://cyclonedx.org/bom'
    """
    if name in PREDICATE_TYPES:
        return PREDICATE_TYPES[name]
    if not _URI.fullmatch(name):
        raise UsageError(f"the predicate type {name[:100]!r}", wanted=f"a URI, or one of: {', '.join(PREDICATE_TYPES)}")
    return name


def read_object(raw: bytes, *, where: object) -> dict[str, Any]:
    """A JSON object of any members.

    Raises:
        DocumentError: It is none, or one that two parsers could read differently.
    """
    try:
        raw.decode()
        found: dict[str, Any] = decode(raw, dict, where=where)
    except UnicodeDecodeError:
        raise DocumentError("no JSON: it is no UTF-8", wanted="a JSON object", where=where) from None
    except DocumentError as error:
        reason = error.found.removeprefix("not a valid dict: ")
        if reason == error.found:
            raise
        raise DocumentError(f"no JSON object: {reason}", where=where) from None
    return found


def read_predicate(
    kind: str, raw: bytes, created: dt.datetime | None, *, where: object = "predicate"
) -> dict[str, Any]:
    """A predicate from a file's bytes: a JSON object; cosign's own type for anything else takes any text.

    Raises:
        DocumentError: It is no JSON object.
        UsageError: It is no text, or too long.
    """
    if kind != CUSTOM:
        return read_object(raw, where=where)
    try:
        text = raw[: DOCUMENT_LIMIT + 1].decode()
    except UnicodeDecodeError:
        raise UsageError("a predicate that is no UTF-8", wanted="text", where=where) from None
    return {"Data": text, "Timestamp": rfc3339(created) if created else ""}
