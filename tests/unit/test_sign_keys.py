"""Private and public keys: what is read, what is refused, and that neither key nor passphrase is ever shown."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import pickle
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from nacl.secret import SecretBox

from ocibuild.errors import AuthError, DocumentError, OcibuildError, UsageError
from ocibuild.sign import KeySigner, KeyWarning, PublicKey, Signer, load_public_key, load_signer

# A key for tests alone, made for this file: it has never signed anything that is used.
TEST_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgUmjFJ+ornYK5NUy7
Z6sW+mzPviBz5dQ6sONIfzrcaiKhRANCAASClQxAYjn5sZDkKDcWzG+ZgwF+h5ik
eT4minoKhiuU90Jw0z488zSK3bleahMvLHb7osLy7Owo0oIUDUoiHFYk
-----END PRIVATE KEY-----
"""

SECRET = b"correct horse"
KEY = load_pem_private_key(TEST_KEY.encode(), None)
assert isinstance(KEY, ec.EllipticCurvePrivateKey)
DER = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
PUBLIC_PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
PUBLIC_DER = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

Sealed = dict[str, Any]


def write(folder: Path, content: bytes | str, name: str = "key.pem", mode: int = 0o600) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def sealed(secret: bytes = SECRET, n: int = 32768) -> Sealed:
    """What cosign has in a key file, made from its definition."""
    salt, nonce = bytes(range(32)), bytes(24)
    inner = hashlib.scrypt(secret, salt=salt, n=n, r=8, p=1, maxmem=2**28, dklen=32)
    box = SecretBox(inner).encrypt(DER, nonce).ciphertext
    return {
        "kdf": {"name": "scrypt", "params": {"N": n, "r": 8, "p": 1}, "salt": base64.b64encode(salt).decode()},
        "cipher": {"name": "nacl/secretbox", "nonce": base64.b64encode(nonce).decode()},
        "ciphertext": base64.b64encode(box).decode(),
    }


def cosign_pem(fields: Sealed, label: str = "ENCRYPTED SIGSTORE PRIVATE KEY") -> bytes:
    text = base64.encodebytes(json.dumps(fields).encode()).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode()


def pem(form: PrivateFormat, secret: bytes | None = None) -> bytes:
    assert isinstance(KEY, ec.EllipticCurvePrivateKey)
    return KEY.private_bytes(Encoding.PEM, form, BestAvailableEncryption(secret) if secret else NoEncryption())


PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
FORMS = {
    "pkcs8": pem(PrivateFormat.PKCS8),
    "sec1": pem(PrivateFormat.TraditionalOpenSSL),
    "openssl ecparam": PARAMETERS + pem(PrivateFormat.TraditionalOpenSSL),
    "with the public part": PUBLIC_PEM + pem(PrivateFormat.PKCS8),
    "lines of Windows": pem(PrivateFormat.PKCS8).replace(b"\n", b"\r\n"),
    "text before": b"Key of the grove\n" + pem(PrivateFormat.PKCS8),
}
ENCRYPTED = {
    "pkcs8": pem(PrivateFormat.PKCS8, SECRET),
    "sec1": pem(PrivateFormat.TraditionalOpenSSL, SECRET),
    "cosign": cosign_pem(sealed()),
    "old cosign": cosign_pem(sealed(), "ENCRYPTED COSIGN PRIVATE KEY"),
}


@pytest.mark.parametrize("form", FORMS)
def test_private_keys(tmp_path: Path, form: str) -> None:
    def never() -> bytes:
        raise AssertionError("asked for a passphrase that is not needed")

    signer = load_signer(write(tmp_path, FORMS[form]), passphrase=never)
    assert signer.public_key == PUBLIC_DER
    assert isinstance(signer, Signer)
    public = PublicKey.from_der(signer.public_key)
    assert public.verify(signer.sign(b"payload"), b"payload")
    assert not public.verify(signer.sign(b"payload"), b"another")
    assert not public.verify(b"no signature", b"payload")
    assert signer.sign(b"payload") == signer.sign(b"payload")


@pytest.mark.parametrize("form", ENCRYPTED)
@pytest.mark.parametrize("how", ["bytes", "asked for"])
def test_encrypted_keys(tmp_path: Path, form: str, how: str) -> None:
    path = write(tmp_path, ENCRYPTED[form])
    assert load_signer(path, passphrase=SECRET if how == "bytes" else lambda: SECRET).public_key == PUBLIC_DER


@pytest.mark.parametrize("form", ENCRYPTED)
@pytest.mark.parametrize("given", [b"wrong horse", b"", None])
def test_a_passphrase_that_does_not_open_a_key(tmp_path: Path, form: str, given: bytes | None) -> None:
    path = write(tmp_path, ENCRYPTED[form])
    with pytest.raises(AuthError, match="passphrase") as caught:
        load_signer(path, passphrase=given)
    assert caught.value.exit_code == 9
    assert str(path) in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    if given:
        assert given.decode() not in "".join(traceback.format_exception(caught.value))


def test_a_key_of_cosign_without_a_passphrase(tmp_path: Path) -> None:
    path = write(tmp_path, cosign_pem(sealed(b"")))
    assert load_signer(path, passphrase=b"").public_key == PUBLIC_DER


@pytest.mark.parametrize("n", [65536, 131072])
def test_the_settings_of_scrypt_that_cosign_accepts(tmp_path: Path, n: int) -> None:
    assert load_signer(write(tmp_path, cosign_pem(sealed(n=n))), passphrase=SECRET).public_key == PUBLIC_DER


def damage(*path: str, value: object) -> Callable[[Sealed], None]:
    def change(fields: Sealed) -> None:
        for step in path[:-1]:
            fields = fields[step]
        fields[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        damage("kdf", "params", "N", value=2**30),
        damage("kdf", "params", "N", value=16384),
        damage("kdf", "params", "r", value=2**20),
        damage("kdf", "params", "p", value=2**20),
        damage("kdf", "name", value="argon2"),
        damage("kdf", "salt", value="AAAA"),
        damage("cipher", "name", value="none"),
        damage("cipher", "nonce", value="AAAA"),
        damage("ciphertext", value=""),
        damage("ciphertext", value="not base64"),
        damage("more", value=1),
    ],
)
def test_a_damaged_key_of_cosign(tmp_path: Path, change: Callable[[Sealed], None]) -> None:
    fields = sealed()
    change(fields)
    with pytest.raises(DocumentError):
        load_signer(write(tmp_path, cosign_pem(fields)), passphrase=SECRET)


def test_what_opens_and_is_no_key(tmp_path: Path) -> None:
    salt = base64.b64decode(sealed()["kdf"]["salt"])
    inner = hashlib.scrypt(SECRET, salt=salt, n=32768, r=8, p=1, maxmem=2**28, dklen=32)
    fields = sealed()
    fields["ciphertext"] = base64.b64encode(SecretBox(inner).encrypt(b"no key", bytes(24)).ciphertext).decode()
    with pytest.raises(DocumentError, match="cannot be read") as caught:
        load_signer(write(tmp_path, cosign_pem(fields)), passphrase=SECRET)
    assert caught.value.__context__ is None


def other_private(key: Any, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    raw: bytes = key.private_bytes(Encoding.PEM, form, NoEncryption())
    return raw


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (other_private(ec.generate_private_key(ec.SECP384R1())), "a key of ECDSA on secp384r1"),
        (other_private(ec.generate_private_key(ec.SECP256K1())), "a key of ECDSA on secp256k1"),
        (other_private(ed25519.Ed25519PrivateKey.generate()), "a key of Ed25519"),
        (other_private(rsa.generate_private_key(65537, 2048)), "a key of RSA with 2048 bits"),
        (other_private(dsa.generate_private_key(2048)), "a key of DSA with 2048 bits"),
        (
            other_private(rsa.generate_private_key(65537, 2048), PrivateFormat.TraditionalOpenSSL),
            "PEM of RSA PRIVATE KEY",
        ),
        (PUBLIC_PEM, "PEM of PUBLIC KEY"),
        (FORMS["pkcs8"] * 2, "PEM of PRIVATE KEY and PRIVATE KEY"),
        (b"", "no PEM"),
        (b"\x00\xff" * 100, "no PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n", "no PEM"),
        (b"x" * 100_000, "more than 65536 bytes"),
    ],
)
def test_keys_of_another_kind(tmp_path: Path, content: bytes, found: str) -> None:
    with pytest.raises(UsageError, match=re.escape(found)) as caught:
        load_signer(write(tmp_path, content))
    assert "ECDSA on P-256" in str(caught.value)


@pytest.mark.parametrize("label", ["PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY"])
def test_a_damaged_key(tmp_path: Path, label: str) -> None:
    path = write(tmp_path, f"-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")
    with pytest.raises(DocumentError):
        load_signer(path, passphrase=SECRET)


@pytest.mark.parametrize("load", [load_signer, load_public_key])
@pytest.mark.parametrize("name", ["nothing", ".", "a\0b"])
def test_a_key_file_that_cannot_be_read(tmp_path: Path, load: Callable[[Path], object], name: str) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / name)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_private_key_that_others_can_read(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path, FORMS["pkcs8"], mode=mode)
    with pytest.warns(KeyWarning, match=f"mode 0{mode:o}"):
        load_signer(path)


def test_public_keys(tmp_path: Path) -> None:
    key = load_public_key(write(tmp_path, PUBLIC_PEM, mode=0o644))
    assert key == PublicKey.from_der(PUBLIC_DER)
    assert key.fingerprint == f"sha256:{hashlib.sha256(PUBLIC_DER).hexdigest()}"
    assert base64.b64decode(key.hint).hex() == key.fingerprint.removeprefix("sha256:")
    assert load_public_key(write(tmp_path, FORMS["with the public part"], mode=0o644)) == key


def test_a_key_with_a_compressed_point_is_the_same_key() -> None:
    assert isinstance(KEY, ec.EllipticCurvePrivateKey)
    point = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    head = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    assert PublicKey.from_der(head + point) == PublicKey.from_der(PUBLIC_DER)


@pytest.mark.parametrize(
    ("content", "error", "found"),
    [
        (FORMS["pkcs8"], UsageError, "cosign public-key"),
        (cosign_pem(sealed()), UsageError, "cosign public-key"),
        (PUBLIC_PEM * 2, UsageError, "PUBLIC KEY and PUBLIC KEY"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", UsageError, "PEM of CERTIFICATE"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", DocumentError, "no public key"),
        (b"-----BEGIN PUBLIC KEY-----\n??\n-----END PUBLIC KEY-----\n", DocumentError, "damaged PEM"),
        (
            ed25519.Ed25519PrivateKey.generate()
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            UsageError,
            "a key of Ed25519",
        ),
    ],
)
def test_what_is_no_public_key(tmp_path: Path, content: bytes, error: type[OcibuildError], found: str) -> None:
    with pytest.raises(error, match=found):
        load_public_key(write(tmp_path, content))


def test_a_signer_shows_nothing_but_its_fingerprint(tmp_path: Path) -> None:
    signer = load_signer(write(tmp_path, FORMS["pkcs8"]))
    assert repr(signer) == f"KeySigner({PublicKey.from_der(PUBLIC_DER).fingerprint})"
    assert not hasattr(signer, "__dict__")
    for escape in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            escape(signer)


def test_only_p256_signs() -> None:
    with pytest.raises(UsageError, match="secp384r1"):
        KeySigner(ec.generate_private_key(ec.SECP384R1()))


def test_signatures_are_those_of_rfc_6979() -> None:
    """Appendix A.2.5, P-256 with SHA-256, of the message "sample"."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    number = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
    r, s = decode_dss_signature(KeySigner(ec.derive_private_key(number, ec.SECP256R1())).sign(b"sample"))
    assert r == 0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
    assert s == 0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8


# A key in the place of its file's name


RUN = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgUmjFJ+ornYK5NUy7"


@pytest.mark.parametrize("load", [load_signer, load_public_key])
@pytest.mark.parametrize(
    "given", [TEST_KEY, TEST_KEY.replace("\n", " "), "a\nb", "x" * 1025, RUN, f"{RUN[:40]}/{RUN[40:]}", f"keys/{RUN}"]
)
def test_it_is_not_shown(load: Callable[[Path | str], object], given: str) -> None:
    for path in (given, Path(given)):
        with pytest.raises(UsageError, match="cannot be read") as caught:
            load(path)
        assert (caught.value.where, caught.value.hint) == ("--key", "Give a file's name, not the key.")
        assert RUN[:40] not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "key.pem",
        "extensions/postgres/deploy/secrets/signing/2026/keys/release/cosign",
        "Keys/" + "v1.0/" * 30 + "k.pem",
    ],
)
def test_a_name_is_shown(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be read") as caught:
        load_signer(name)
    assert (caught.value.where, caught.value.hint) == (name, "")


def test_a_file_with_the_name_of_a_key_is_read_and_not_shown_where_it_is_odd(tmp_path: Path) -> None:
    load_signer(write(tmp_path, TEST_KEY, RUN.replace("/", "")))
    with pytest.warns(KeyWarning, match="^--key: others"):
        load_signer(write(tmp_path, TEST_KEY, "a\nb", mode=0o644))
