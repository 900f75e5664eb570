"""What `sign`, `verify` and `sbom` read, for the fuzz campaign: signatures, statements, keys, policies, licences, crates."""

from __future__ import annotations

import datetime as dt
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ocibuild import Artifact, MemoryStore, Platform, build_image
from ocibuild.intoto import SIGNATURE, parse_statement, statement
from ocibuild.oci import Descriptor, Digest
from ocibuild.postgres.crates import read_crates
from ocibuild.postgres.debian import copyright_licences
from ocibuild.postgres.project import Project
from ocibuild.sign import KeySigner, dsse, load_public_key, load_signer, sign_image, simple
from ocibuild.sign.bundle import parse_bundle
from ocibuild.sign.keys import PublicKey
from ocibuild.store.attached import attached_tag
from ocibuild.store.graph import read_blob, read_document
from ocibuild.store.merge import merge
from ocibuild.verify import parse_policy
from ocibuild.verify.evidence import Document
from ocibuild.verify.predicates import split_repository
from ocibuild.verify.signatures import vouched

__all__ = ["SIGNED_JSON", "sign_corpus"]

Parser = Callable[[bytes], object]
SIGNED_JSON = {
    "statement",
    "envelope",
    "bundle",
    "simple signing",
    "vouched bundle",
    "vouched sig",
    "signatures merged",
}

POLICY = b"""[signature]
keys = ["a.pub", "b.pub"]
threshold = 2
[sbom]
required = true
[provenance]
required = true
source = "https://github.com/o/r"
[size]
max = "50 MiB"
[base]
allowed = ["none"]
"""
COPYRIGHT = b"""Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
License: GPL-2+ and (Expat or BSD-3-clause)

License: Expat
 text
"""
LOCK = b"""version = 4
[[package]]
name = "x"
version = "0.1.0"
dependencies = ["serde 1.0.0", "y"]
[[package]]
name = "serde"
version = "1.0.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "00"
[[package]]
name = "y"
version = "2.0.0"
source = "git+https://user:secret@example.org/y?rev=1#abc"
"""


class _Believer(PublicKey, frozen=True):
    """A key that takes every signature for its own, so that what lies behind one is reached."""

    def verify(self, signature: bytes, payload: bytes) -> bool:
        return True


def _key_file(read: Callable[[Path], object]) -> Parser:
    def parse(raw: bytes) -> object:
        path = Path(tempfile.gettempdir()) / f"ocibuild-fuzz-{os.getpid()}.pem"
        path.write_bytes(raw)
        path.chmod(0o600)
        return read(path)

    return parse


def _crates(raw: bytes) -> object:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Cargo.toml").write_text('[package]\nname = "x"\n')
        (Path(folder) / "Cargo.lock").write_bytes(raw)
        return read_crates(Project(path=Path(folder) / "Cargo.toml", labels={}))


def sign_corpus() -> dict[str, tuple[Parser, list[bytes]]]:
    """Each parser and the real input to mutate."""
    store = MemoryStore()
    image: Artifact = build_image([], platform=Platform.parse("amd64"), into=store)
    private = ec.generate_private_key(ec.SECP256R1())
    signer = KeySigner(private)
    at = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    [signed] = sign_image(image, store, signer, reference="ghcr.io/o/r", created=at)
    assert signed.tag is not None and signed.bundle is not None
    bundle = read_document(store, signed.bundle)
    tagged = read_document(store, signed.tag[1])
    assert bundle is not None and tagged is not None
    raw_bundle = read_blob(store, bundle.layers[0])  # type: ignore[union-attr]
    [layer] = tagged.layers  # type: ignore[union-attr]
    claim = read_blob(store, layer)
    said = statement(image.root, SIGNATURE, {})
    key = _Believer(signer.public_key)
    envelope = dsse.encode(parse_bundle(raw_bundle).envelope)

    def vouch(kind: str) -> Parser:
        annotations = dict(layer.annotations or {})
        return lambda raw: vouched(
            Document(kind=kind, where="x", raw=raw, annotations=annotations), image.digest, [key]
        )

    def merged(raw: bytes) -> object:
        assert signed.tag is not None
        descriptor = Descriptor.of(raw, signed.tag[1].media_type)
        other = MemoryStore()
        for item in (tagged.config, *tagged.layers):  # type: ignore[union-attr]
            other.push(item, store.fetch(item))
        other.push(descriptor, io.BytesIO(raw))
        return merge(other, descriptor, store, signed.tag[1])

    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public_pem = private.public_key().public_bytes(serialization.Encoding.PEM, form)
    plain = serialization.NoEncryption()
    pems = [
        private.private_bytes(serialization.Encoding.PEM, kind, plain)
        for kind in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL)
    ]
    return {
        "statement": (parse_statement, [said]),
        "envelope": (dsse.parse, [envelope]),
        "bundle": (parse_bundle, [raw_bundle]),
        "simple signing": (simple.parse, [claim]),
        "vouched bundle": (vouch("bundle"), [raw_bundle]),
        "vouched sig": (vouch("sig"), [claim]),
        "signatures merged": (merged, [read_blob(store, signed.tag[1])]),
        "public key": (_key_file(load_public_key), [public_pem]),
        "private key": (_key_file(lambda path: load_signer(path, passphrase=b"x")), pems),
        "policy": (lambda raw: parse_policy(raw, where="policy", load_key=lambda _: key), [POLICY]),
        "repository": (
            lambda raw: split_repository(raw.decode(errors="replace")),
            [b"git+https://a@github.com/o/r.git@v1"],
        ),
        "copyright": (lambda raw: copyright_licences(raw.decode(errors="replace")), [COPYRIGHT]),
        "crates": (_crates, [LOCK]),
        "attached tag": (
            lambda raw: attached_tag(Digest(raw.decode(errors="replace")), "sig"),
            [image.digest.encode()],
        ),
    }
