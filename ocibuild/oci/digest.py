"""Digests: the names of blobs (image-spec, descriptor.md, "Digests")."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Self

from ocibuild.errors import DocumentError

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["Digest"]

ALGORITHMS = ("sha256", "sha512")
"""The registered algorithms that are read."""

_PATTERN = re.compile(r"(sha256):([a-f0-9]{64})|(sha512):([a-f0-9]{128})")


class Digest(str):
    """A validated digest such as `sha256:…`: a string that is safe in a path or URL.

    Only the two registered algorithms that clients meet are accepted, in lower-case hexadecimal.

    Raises:
        DocumentError: The text is not such a digest.

    Example:
        >>> Digest.of(b"").encoded[:12]
        'e3b0c44298fc'
        >>> Digest("sha256:../../etc/passwd")
        Traceback (most recent call last):
        ocibuild.errors.DocumentError: digest 'sha256:../../etc/passwd', wanted sha256:<64 hex> or sha512:<128 hex>
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not cls.is_valid(text):
            raise DocumentError(f"digest {text[:150]!r}", wanted="sha256:<64 hex> or sha512:<128 hex>")
        return super().__new__(cls, text)

    @staticmethod
    def is_valid(text: str) -> bool:
        """Whether a text is such a digest."""
        return _PATTERN.fullmatch(text) is not None

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The SHA-256 digest of bytes in memory."""
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @classmethod
    def from_hash(cls, hasher: _Hash) -> Self:
        """The digest a `hashlib` object has come to."""
        return cls(f"{hasher.name}:{hasher.hexdigest()}")

    @property
    def algorithm(self) -> str:
        """The part before the colon: `sha256` or `sha512`."""
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        """The part after the colon, in hexadecimal."""
        return self.partition(":")[2]

    def hasher(self) -> _Hash:
        """A new `hashlib` object of this digest's algorithm."""
        return hashlib.new(self.algorithm)
