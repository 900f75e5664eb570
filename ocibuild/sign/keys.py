"""Keys: ECDSA on P-256, in the PEM files of OpenSSL and cosign.

Nothing here shows a private key or a passphrase: errors are raised where no exception of a library hangs on them.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from ocibuild.errors import AuthError, DocumentError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

__all__ = ["KeySigner", "KeyWarning", "Passphrase", "PublicKey", "key_name", "load_public_key", "load_signer"]

Passphrase = Callable[[], bytes] | bytes | None
"""What opens an encrypted key, or what gives it when it is needed."""

_FILE_LIMIT = 64 * 1024
_NAME_LIMIT = 1024
_BASE64 = re.compile(r"[A-Za-z0-9+/=_ -]{64,}")
_WANTED = "a key of ECDSA on P-256 in PEM"
_BEGIN = re.compile(rb"^-----BEGIN ([A-Z0-9 ]{1,60})-----[ \t]*\r?$", re.MULTILINE)
_PLAIN = ("PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
_COSIGN = ("ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY")


class KeyWarning(UserWarning):
    """A private key that others can read."""


class PublicKey(msgspec.Struct, frozen=True):
    """A public key of ECDSA on P-256; two are equal when they are the same key.

    Attributes:
        der: SubjectPublicKeyInfo in DER, as `from_der` writes it anew.
    """

    der: bytes

    @classmethod
    def from_der(cls, der: bytes, *, where: object = "public key") -> PublicKey:
        """A key from its SubjectPublicKeyInfo in DER.

        Raises:
            UsageError: It is of another kind.
            DocumentError: It is none.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        try:
            key = load_der_public_key(der)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise DocumentError("no public key", wanted=_WANTED, where=where) from error
        return _public(key, where)

    @property
    def fingerprint(self) -> str:
        """`sha256:` and the digest of the DER: the key's name for people."""
        return f"sha256:{hashlib.sha256(self.der).hexdigest()}"

    @property
    def hint(self) -> str:
        """The same digest as bundles have it."""
        return base64.b64encode(hashlib.sha256(self.der).digest()).decode()

    def verify(self, signature: bytes, payload: bytes) -> bool:
        """Whether a signature in DER is this key's, over the SHA-256 of a payload."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        key = load_der_public_key(self.der)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        try:
            key.verify(signature, payload, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


class KeySigner:
    """A private key in memory. The same payload gets the same signature (RFC 6979).

    It shows itself by the fingerprint of its public key alone, and cannot be pickled.
    """

    __slots__ = ("_key", "_public")

    def __init__(self, key: EllipticCurvePrivateKey) -> None:
        self._public = _public(key.public_key(), "key")
        self._key = key

    @property
    def public_key(self) -> bytes:
        """See `Signer.public_key`."""
        return self._public.der

    def sign(self, payload: bytes, /) -> bytes:
        """See `Signer.sign`."""
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.hashes import SHA256

        return self._key.sign(payload, ec.ECDSA(SHA256(), deterministic_signing=True))

    def __repr__(self) -> str:
        return f"KeySigner({self._public.fingerprint})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled")


def load_signer(path: Path | str, *, passphrase: Passphrase = None) -> KeySigner:
    """The private key in a file: PKCS#8 or SEC1, encrypted or not, or a `cosign.key`.

    Args:
        path: The file.
        passphrase: What opens it, or what gives it; asked for only where the key is encrypted.

    Raises:
        UsageError: The file cannot be read, or has a key of another kind.
        AuthError: The passphrase is missing or wrong.
        DocumentError: The key is damaged.

    Warns:
        KeyWarning: Others can read the file.
    """
    raw, mode = _read(path)
    path = key_name(path)
    blocks = [block for block in _blocks(raw) if block[0].endswith("PRIVATE KEY")]
    if len(blocks) != 1 or blocks[0][0] not in (*_PLAIN, *_COSIGN):
        raise UsageError(_names(raw), wanted=f"the private part of {_WANTED}", where=path)
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        warnings.warn(f"{path}: others can read this private key (mode {mode & 0o777:04o})", KeyWarning, stacklevel=2)
    label, block = blocks[0]
    opener = b""
    if is_encrypted := label.startswith("ENCRYPTED ") or b"\nProc-Type: 4,ENCRYPTED" in block:
        given = passphrase() if callable(passphrase) else passphrase
        if given is None:
            raise AuthError("the private key is encrypted", wanted="its passphrase", where=path)
        opener = given
    if label in _COSIGN:
        from .cosign_key import decrypt

        block = decrypt(_inner(block, path), opener, where=path)
    key = _load_private(block, opener if is_encrypted and label not in _COSIGN else None, is_pem=label not in _COSIGN)
    if key == "closed":
        raise AuthError("the passphrase does not open the private key", where=path)
    if isinstance(key, str):
        raise DocumentError("a private key that cannot be read", wanted=_WANTED, where=path)
    _check_kind(key, path)
    return KeySigner(key)  # type: ignore[arg-type]


def load_public_key(path: Path | str) -> PublicKey:
    """The public key in a file. It is not taken out of a private key.

    Raises:
        UsageError: The file cannot be read, or has no public key, several, or one of another kind.
        DocumentError: The key is damaged.
    """
    raw, _ = _read(path)
    path = key_name(path)
    blocks = [block for label, block in _blocks(raw) if label == "PUBLIC KEY"]
    if len(blocks) != 1:
        hint = ""
        if not blocks and any(label.endswith("PRIVATE KEY") for label, _ in _blocks(raw)):
            hint = "The public part is written by: openssl pkey -in KEY -pubout, or: cosign public-key --key KEY"
        raise UsageError(_names(raw), wanted=f"the public part of {_WANTED}", where=path, hint=hint)
    return PublicKey.from_der(_inner(blocks[0], path), where=path)


def key_name(path: Path | str) -> Path | str:
    """What to call a key's file in messages: where a key itself was given in the place of a name, not that."""
    text = os.fspath(path)
    if "\n" in text or "\r" in text or "-----BEGIN" in text or len(text) > _NAME_LIMIT:
        return "--key"
    # What is there is no key. A slash is of base64 and of paths, which seldom have all of the rest too.
    kinds = ("[A-Z]", "[a-z]", "[0-9]")
    is_key = any(
        "/" not in run or all(re.search(kind, run) for kind in kinds) for run in _BASE64.findall(text)
    ) and not os.path.exists(text)
    return "--key" if is_key else path


def _read(path: Path | str) -> tuple[bytes, int]:
    """A key file's bytes and mode."""
    where = key_name(path)
    try:
        with open(path, "rb") as stream:
            raw, mode = stream.read(_FILE_LIMIT + 1), os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError) as error:
        found = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        hint = "" if where is path else "Give a file's name, not the key."
        raise UsageError(found, wanted=_WANTED, where=where, hint=hint) from None
    if len(raw) > _FILE_LIMIT:
        raise UsageError(f"more than {_FILE_LIMIT} bytes", wanted=_WANTED, where=where)
    return raw, mode


def _blocks(raw: bytes) -> list[tuple[str, bytes]]:
    """The PEM blocks of a file, each with its label."""
    found = []
    for match in _BEGIN.finditer(raw):
        end = b"-----END " + match[1] + b"-----"
        stop = raw.find(end, match.end())
        if stop >= 0:
            found.append((match[1].decode(), raw[match.start() : stop + len(end)] + b"\n"))
    return found


def _names(raw: bytes) -> str:
    """What is in a key file, by its labels."""
    labels = [label for label, _ in _blocks(raw)]
    return f"PEM of {' and '.join(labels[:5])}" if labels else "no PEM"


def _inner(block: bytes, where: object) -> bytes:
    """The bytes in a PEM block."""
    import binascii

    text = b"".join(b"".join(block.split(b"\n")[1:-2]).split())
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise DocumentError("a damaged PEM block", wanted=_WANTED, where=where)
    return data


def _load_private(raw: bytes, passphrase: bytes | None, *, is_pem: bool) -> object:
    """A private key of any kind; `closed` where the passphrase is wrong, `damaged` where there is none to be had."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

    load = load_pem_private_key if is_pem else load_der_private_key
    try:
        return load(raw, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "damaged" if passphrase is None else "closed"


def _public(key: object, where: object) -> PublicKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    _check_kind(key, where)
    found: EllipticCurvePublicKey = key  # type: ignore[assignment]
    return PublicKey(found.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _check_kind(key: object, where: object) -> None:
    """Refuse what is not ECDSA on P-256: nothing else is verified the same by all."""
    from cryptography.hazmat.primitives.asymmetric import ec

    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        if isinstance(key.curve, ec.SECP256R1):
            return
        found = f"a key of ECDSA on {key.curve.name}"
    else:
        size = getattr(key, "key_size", None)
        kind = type(key).__name__.replace("PrivateKey", "").replace("PublicKey", "").lstrip("_")
        found = f"a key of {kind}" + (f" with {size} bits" if size else "")
    hint = "openssl ecparam -name prime256v1 -genkey, or: cosign generate-key-pair"
    raise UsageError(found, wanted=_WANTED, where=where, hint=f"Such a key is made by: {hint}")
