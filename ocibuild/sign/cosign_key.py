"""cosign's own key files: PKCS#8 in a NaCl secret box, under a key that scrypt makes of the passphrase.

go-securesystemslib, `encrypted/encrypted.go`. The settings of scrypt are those that it accepts, and no others: a file must
not choose how much memory reading it takes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ocibuild.errors import AuthError, DocumentError
from ocibuild.oci.canonical import decode

from .dsse import base64_bytes

__all__ = ["decrypt"]

_SALT, _NONCE, _SECRET = 32, 24, 32


class _Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    n: Literal[32768, 65536, 131072] = msgspec.field(name="N")
    r: Literal[8]
    p: Literal[1]


class _Kdf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Literal["scrypt"]
    params: _Parameters
    salt: str


class _Cipher(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Literal["nacl/secretbox"]
    nonce: str


class _Box(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kdf: _Kdf
    cipher: _Cipher
    ciphertext: str


def decrypt(raw: bytes, passphrase: bytes, *, where: object) -> bytes:
    """The private key in a file of cosign's, as PKCS#8 in DER.

    Args:
        raw: What the PEM block holds.
        passphrase: What opens it; it may be empty.
        where: What to name in an error.

    Raises:
        AuthError: The passphrase is wrong.
        DocumentError: The file is damaged, or made in a way that cosign does not read.
    """
    import hashlib

    box = decode(raw, _Box, where=where)
    salt, nonce = base64_bytes(box.kdf.salt, where=where), base64_bytes(box.cipher.nonce, where=where)
    if len(salt) != _SALT or len(nonce) != _NONCE:
        raise DocumentError("a damaged cosign.key", wanted=f"a salt of {_SALT} bytes, a nonce of {_NONCE}", where=where)
    sealed = base64_bytes(box.ciphertext, where=where)
    setting = box.kdf.params
    memory = 128 * setting.n * setting.r + 1024 * 1024
    secret = hashlib.scrypt(passphrase, salt=salt, n=setting.n, r=setting.r, p=setting.p, maxmem=memory, dklen=_SECRET)
    opened = _open(sealed, nonce, secret)
    if opened is None:
        raise AuthError("the passphrase does not open the private key", where=where)
    return opened


def _open(sealed: bytes, nonce: bytes, secret: bytes) -> bytes | None:
    # Imported here: only such a key needs it.
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    try:
        return SecretBox(secret).decrypt(sealed, nonce)
    except CryptoError:
        return None
