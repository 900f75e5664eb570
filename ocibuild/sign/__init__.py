"""Signing: an image's signatures and attestations, in the two formats that verifiers read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocibuild.lazy import loader

if TYPE_CHECKING:
    from .attach import FORMATS, Signed, attest, attest_attached, sign_image
    from .keys import KeySigner, KeyWarning, PublicKey, load_public_key, load_signer
    from .signer import BundleSigner, Signer

__all__ = [
    "FORMATS",
    "BundleSigner",
    "KeySigner",
    "KeyWarning",
    "PublicKey",
    "Signed",
    "Signer",
    "attest",
    "attest_attached",
    "load_public_key",
    "load_signer",
    "sign_image",
]

_HOMES = {
    "attach": ("FORMATS", "Signed", "attest", "attest_attached", "sign_image"),
    "keys": ("KeySigner", "KeyWarning", "PublicKey", "load_public_key", "load_signer"),
    "signer": ("BundleSigner", "Signer"),
}

__getattr__ = loader(__name__, globals(), _HOMES)
