"""What signs: a key in a file, or anything else that can, such as a key management service."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["BundleSigner", "Signer"]


@runtime_checkable
class Signer(Protocol):
    """A key of ECDSA on P-256 that signs."""

    @property
    def public_key(self) -> bytes:
        """The public key, as SubjectPublicKeyInfo in DER."""

    def sign(self, payload: bytes, /) -> bytes:
        """The signature over the SHA-256 of a payload, in DER."""


@runtime_checkable
class BundleSigner(Protocol):
    """What signs a statement in a way of its own, with a certificate for instance (keyless signing).

    Only the bundle format is then written: the older one has no place for it.
    """

    def sign_statement(self, statement: bytes, /) -> bytes:
        """A whole sigstore bundle, v0.3, over an in-toto statement."""
