"""Certificates made for a test: an authority, a server on loopback, a client."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Certificates", "make_certificates", "self_signed"]

Key = ec.EllipticCurvePrivateKey

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM.

    Attributes:
        authority: The certificate of the authority that signed the others.
        server: The server's certificate, for 127.0.0.1, localhost and the names that were asked for.
        server_key: Its key.
        client: A client's certificate.
        client_key: Its key.
    """

    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def make_certificates(folder: Path, *, names: tuple[str, ...] = (), is_expired: bool = False) -> Certificates:
    """A new authority and what it signs.

    Args:
        folder: Where the files go; made if it is not there.
        names: More names of the server.
        is_expired: The server's certificate ended yesterday.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority, key = self_signed("Authority of a test")
    _write(folder / "ca.pem", authority.public_bytes(Encoding.PEM))
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in ("localhost", *names)]
    alternatives.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    ends = _now() + (-_DAY if is_expired else _DAY)
    for name, usage in (("server", ExtendedKeyUsageOID.SERVER_AUTH), ("client", ExtendedKeyUsageOID.CLIENT_AUTH)):
        own = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, authority.subject, own, ends if name == "server" else _now() + _DAY)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        if name == "server":
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        _write(folder / f"{name}.pem", builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
        _write(folder / f"{name}.key", _private(own))
    return Certificates(*(folder / name for name in ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")))


def self_signed(name: str) -> tuple[x509.Certificate, Key]:
    """A certificate that signs, for a day, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = _builder(name, _name(name), key, _now() + _DAY)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    # Python 3.13 refuses an authority that does not say what its key is for.
    return builder.add_extension(usage, critical=True).sign(key, hashes.SHA256()), key


def _builder(subject: str, issuer: x509.Name, key: Key, ends: dt.datetime) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(_name(subject)).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(_now() - 2 * _DAY)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return builder.not_valid_after(ends).add_extension(identifier, critical=False)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _private(key: Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    path.chmod(0o600)
