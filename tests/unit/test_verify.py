"""Verifying: what a good signature is, and every way in which one is not.

The signatures are made here from the formats' own definitions, so that a fault of ocibuild's signer would not pass by.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ocibuild import ArchiveStore, Artifact, LayoutStore, LocalStore, MemoryStore, Platform, build_image, build_index
from ocibuild import copy as copy_artifact
from ocibuild.errors import (
    DigestMismatchError,
    DocumentError,
    NotFoundError,
    OcibuildError,
    SignatureError,
    UsageError,
    WrongSignatureError,
)
from ocibuild.layer import File, build_layer
from ocibuild.oci import Descriptor, Digest, Index, Manifest, media_types
from ocibuild.oci.canonical import encode
from ocibuild.sign import KeySigner, PublicKey, attest, load_public_key, sign_image
from ocibuild.store.attached import attached_tag
from ocibuild.store.graph import platform_images, push_blob
from ocibuild.verify import examine, verify
from ocibuild.verify.evidence import COUNT_LIMIT

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
IN_TOTO = "application/vnd.in-toto+json"
DSSE = "application/vnd.dsse.envelope.v1+json"
SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGN = "https://sigstore.dev/cosign/sign/v1"
SLSA = "https://slsa.dev/provenance/v1"
CYCLONEDX = "https://cyclonedx.org/bom"
SIGNATURE = "dev.cosignproject.cosign/signature"
TYPE = "cosign container image signature"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Key:
    """A key pair, its public half in a file."""

    def __init__(self, path: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        self.path = path
        path.write_bytes(self._key.public_key().public_bytes(serialization.Encoding.PEM, form))
        self.der = self._key.public_key().public_bytes(serialization.Encoding.DER, form)
        self.public: PublicKey = load_public_key(path)

    @property
    def hint(self) -> str:
        return base64.b64encode(hashlib.sha256(self.der).digest()).decode()

    def sign(self, payload: bytes) -> bytes:
        return self._key.sign(payload, ec.ECDSA(hashes.SHA256()))


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return Key(tmp_path_factory.mktemp("keys") / "ours.pub")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return Key(tmp_path_factory.mktemp("keys") / "other.pub")


def make_image(store: LocalStore, content: bytes = b"x" * 500) -> Artifact:
    layers = [build_layer([File(path="lib/x.so", content=content)], into=store)]
    images = [build_image(layers, platform=Platform.parse(name), into=store) for name in ("amd64", "arm64")]
    return Artifact(build_index(images, into=store).root, store)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def image(store: MemoryStore) -> Artifact:
    return make_image(store)


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def pae(payload: bytes, kind: str = IN_TOTO) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)


def statement(
    digest: str,
    predicate_type: str = SIGN,
    predicate: Mapping[str, Any] | None = None,
    *,
    more: Sequence[str] = (),
    version: str = "v1",
) -> bytes:
    algorithm, _, encoded = digest.partition(":")
    subjects = [{"digest": {algorithm: item}} for item in (encoded, *more)]
    return json.dumps(
        {
            "_type": f"https://in-toto.io/Statement/{version}",
            "subject": subjects,
            "predicateType": predicate_type,
            "predicate": dict(predicate or {}),
        }
    ).encode()


def envelope(payload: bytes, signatures: Sequence[bytes], kind: str = IN_TOTO) -> dict[str, Any]:
    return {"payload": b64(payload), "payloadType": kind, "signatures": [{"sig": b64(item)} for item in signatures]}


def bundle(
    key: Key,
    payload: bytes,
    *,
    signed: bytes | None = None,
    sign: Callable[[bytes], bytes] | None = None,
    **fields: Any,
) -> bytes:
    """A bundle over a payload; `signed` is what the signature is really of, `sign` what makes it."""
    signature = (sign or key.sign)(pae(payload if signed is None else signed))
    document = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": key.hint}},
        "dsseEnvelope": envelope(payload, [signature]),
    }
    return json.dumps({**document, **fields}).encode()


def refer(
    store: LocalStore,
    subject: Descriptor,
    raw: bytes,
    *,
    predicate_type: str = SIGN,
    layer_type: str = BUNDLE,
    layer: Descriptor | None = None,
    artifact_type: str | None = BUNDLE,
) -> Descriptor:
    """Keep a bundle as a referrer, as cosign 3 does."""
    manifest = Manifest(
        media_type=media_types.IMAGE_MANIFEST,
        artifact_type=artifact_type,
        config=push_blob(store, b"{}", media_types.EMPTY),
        layers=(layer or push_blob(store, raw, layer_type),),
        subject=subject.bare,
        annotations={
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": predicate_type,
            "org.opencontainers.image.created": "2026-11-21T13:48:27Z",
        },
    )
    return push_blob(store, encode(manifest), media_types.IMAGE_MANIFEST)


def claim(digest: str, *, kind: str = TYPE, optional: Any = None) -> bytes:
    critical = {
        "identity": {"docker-reference": "ghcr.io/grove/x"},
        "image": {"docker-manifest-digest": digest},
        "type": kind,
    }
    return json.dumps({"critical": critical, "optional": optional}).encode()


def hang(store: LocalStore, digest: Digest, layers: Sequence[tuple[bytes, Mapping[str, str], str]], kind: str) -> None:
    """Keep layers under a tag, as cosign 2 does."""
    kept = [push_blob(store, raw, media_type) for raw, _, media_type in layers]
    with_annotations = [
        Descriptor(media_type=item.media_type, digest=item.digest, size=item.size, annotations=dict(annotations))
        for item, (_, annotations, _) in zip(kept, layers, strict=True)
    ]
    manifest = Manifest(
        media_type=media_types.IMAGE_MANIFEST,
        config=push_blob(store, b"{}", media_types.IMAGE_CONFIG),
        layers=tuple(with_annotations),
    )
    store.tag(push_blob(store, encode(manifest), media_types.IMAGE_MANIFEST), attached_tag(digest, kind))


def simple(key: Key, payload: bytes, *, signed: bytes | None = None) -> tuple[bytes, dict[str, str], str]:
    return payload, {SIGNATURE: b64(key.sign(payload if signed is None else signed))}, SIMPLE


def attestation(key: Key, payload: bytes, predicate_type: str = SLSA) -> tuple[bytes, dict[str, str], str]:
    raw = json.dumps(envelope(payload, [key.sign(pae(payload))])).encode()
    return raw, {"predicateType": predicate_type}, DSSE


# What is good


def test_a_bundle(store: MemoryStore, image: Artifact, key: Key, other: Key) -> None:
    refer(store, image.root, bundle(key, statement(image.digest)))
    verdict = verify(image, [other.public, key.public])
    assert verdict
    [found] = verdict.signatures
    assert (verdict.digest, verdict.kind, verdict.platforms) == (image.digest, "index", ("linux/amd64", "linux/arm64"))
    assert (found.key, found.format) == ("sha256:" + hashlib.sha256(key.der).hexdigest(), "sigstore bundle")
    assert found.created == "2026-11-21T13:48:27Z"
    assert (verdict.attestations, verdict.refused, verdict.notes) == ((), (), ())


def test_simple_signing(store: MemoryStore, image: Artifact, key: Key) -> None:
    hang(store, image.digest, [simple(key, claim(image.digest))], "sig")
    [found] = verify(image, [key.public]).signatures
    assert (found.format, found.reference, found.created) == ("simple signing", "ghcr.io/grove/x", None)


def test_a_platforms_manifest_by_itself(store: MemoryStore, image: Artifact, key: Key) -> None:
    """The index pins its manifests; who pulls one of them alone needs a signature over that one."""
    refer(store, image.root, bundle(key, statement(image.digest)))
    children = [child for _, child in platform_images(image)]
    with pytest.raises(SignatureError, match="not signed"):
        verify(children[0], [key.public])
    with pytest.raises(SignatureError) as caught:
        verify(image, [key.public], platforms=True)
    assert str(children[0].digest) in str(caught.value)
    for child in children:
        refer(store, child.root, bundle(key, statement(child.digest)))
    verdict = verify(image, [key.public], platforms=True)
    assert [item.digest for item in verdict.images] == [child.digest for child in children]
    assert verify(children[0], [key.public]).kind == "image"


@pytest.mark.parametrize("kind", ["layout", "archive"])
def test_from_a_file_alone(tmp_path: Path, store: MemoryStore, image: Artifact, key: Key, kind: str) -> None:
    """Referrers and tags as a copy brings them."""
    refer(store, image.root, bundle(key, statement(image.digest)))
    refer(store, image.root, bundle(key, statement(image.digest, CYCLONEDX)), predicate_type=CYCLONEDX)
    path = tmp_path / "there"
    with LayoutStore(path) if kind == "layout" else ArchiveStore(path) as there:
        copy_artifact(image, there, tags=["1"], referrers=True)
        hang(there, image.digest, [simple(key, claim(image.digest))], "sig")
    opened = LayoutStore(path) if kind == "layout" else ArchiveStore(path)
    verdict = verify(Artifact(opened.resolve("1"), opened), [key.public])
    assert {item.format for item in verdict.signatures} == {"sigstore bundle", "simple signing"}
    assert [item.predicate_type for item in verdict.attestations] == [CYCLONEDX]


def test_a_listing_by_the_configurations_type(store: MemoryStore, image: Artifact, key: Key) -> None:
    """cosign 3 lists its bundles so, where a registry has no referrers API."""

    class Old(MemoryStore):
        def referrers(self, descriptor: Descriptor, *, artifact_type: str | None = None) -> list[Descriptor]:
            return [
                Descriptor(
                    media_type=item.media_type, digest=item.digest, size=item.size, artifact_type=media_types.EMPTY
                )
                for item in super().referrers(descriptor)
            ]

    old = Old()
    signed = make_image(old)
    refer(old, signed.root, bundle(key, statement(signed.digest)))
    refer(old, signed.root, b"{}", layer_type="text/plain", artifact_type="application/vnd.example+json")
    verdict = verify(signed, [key.public])
    assert len(verdict.signatures) == 1
    assert verdict.refused == ()


def test_several_subjects_one_of_them_the_image(store: MemoryStore, image: Artifact, key: Key) -> None:
    payload = statement("sha256:" + "a" * 64, more=[image.digest.encoded])
    refer(store, image.root, bundle(key, payload))
    assert verify(image, [key.public])


@pytest.mark.parametrize("version", ["v1", "v0.1"])
def test_attestations_of_both_kinds(store: MemoryStore, image: Artifact, key: Key, version: str) -> None:
    """cosign attests with version 0.1 of the statement."""
    predicate = {
        "buildDefinition": {"externalParameters": {"workflow": {"repository": "https://github.com/o/r"}}},
        "runDetails": {"builder": {"id": "https://b"}},
    }
    bom = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{}, {}]}
    provenance = statement(image.digest, SLSA, predicate, version=version)
    refer(store, image.root, bundle(key, statement(image.digest)))
    refer(store, image.root, bundle(key, provenance), predicate_type=SLSA)
    hang(store, image.digest, [attestation(key, statement(image.digest, CYCLONEDX, bom), CYCLONEDX)], "att")
    verdict = verify(image, [key.public])
    said = {item.predicate_type: (item.format, item.says) for item in verdict.attestations}
    assert said == {
        SLSA: ("sigstore bundle", {"source": "https://github.com/o/r", "builder": "https://b"}),
        CYCLONEDX: ("dsse envelope", {"format": "CycloneDX 1.6", "components": "2"}),
    }
    assert verdict.refused == ()


def test_a_high_s_is_as_good(store: MemoryStore, image: Artifact, key: Key) -> None:
    """ECDSA has two forms of every signature, Go and OpenSSL write either, and nothing here goes by its bytes."""

    def high(payload: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(payload))
        return encode_dss_signature(r, max(s, ORDER - s))

    refer(store, image.root, bundle(key, statement(image.digest), sign=high))
    assert verify(image, [key.public])


def test_an_extra_signature_is_told_of(store: MemoryStore, image: Artifact, key: Key, other: Key) -> None:
    hang(store, image.digest, [simple(other, claim(image.digest)), simple(key, claim(image.digest))], "sig")
    verdict = verify(image, [key.public])
    assert len(verdict.signatures) == 1
    [refused] = verdict.refused
    assert refused.where.endswith(".sig, layer 1")
    assert "by another key" in str(refused)


def test_a_bundle_by_another_key_hides_the_older_signature_from_cosign(
    store: MemoryStore, image: Artifact, key: Key, other: Key
) -> None:
    hang(store, image.digest, [simple(key, claim(image.digest))], "sig")
    assert verify(image, [key.public]).notes == ()
    refer(store, image.root, bundle(other, statement(image.digest)))
    verdict = verify(image, [key.public])
    assert "cosign 3 reads bundles alone" in verdict.notes[0]
    refer(store, image.root, bundle(key, statement(image.digest)))
    assert verify(image, [key.public]).notes == ()


# What is not

Attach = Callable[[LocalStore, Artifact, Key, Key], object]


def replaced(raw: bytes, old: bytes, new: bytes) -> bytes:
    assert old in raw
    return raw.replace(old, new)


def another_images(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    """A good signature of one image, under the other's tag and as its referrer."""
    foreign = make_image(store, b"another")
    hang(store, image.digest, [simple(key, claim(foreign.digest))], "sig")
    refer(store, image.root, bundle(key, statement(foreign.digest)))


def changed(payload: Callable[[str], bytes], change: tuple[bytes, bytes]) -> Attach:
    def attach(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
        signed = payload(image.digest)
        refer(store, image.root, bundle(key, replaced(signed, *change), signed=signed))

    return attach


def changed_subject(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    """Another image's statement, whose subject was made this one."""
    refer(store, image.root, bundle(key, statement(image.digest), signed=statement("sha256:" + "a" * 64)))


def changed_type(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    signed = statement(image.digest, SLSA)
    refer(store, image.root, bundle(key, statement(image.digest), signed=signed))


def annotated_otherwise(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    refer(store, image.root, bundle(key, statement(image.digest, SLSA)), predicate_type=SIGN)


def changed_claim(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    signed = claim("sha256:" + "a" * 64)
    hang(store, image.digest, [simple(key, claim(image.digest), signed=signed)], "sig")


def mirrored(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    """The signature is of the payload, not of its encoding for signatures (PAE)."""
    payload = statement(image.digest)
    refer(store, image.root, bundle(key, payload, sign=lambda _: key.sign(payload)))


def certified(store: LocalStore, image: Artifact, _: Key, other: Key) -> None:
    material = {"certificate": {"rawBytes": b64(b"x")}}
    refer(store, image.root, bundle(other, statement(image.digest), verificationMaterial=material))


def without_annotation(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    hang(store, image.digest, [(claim(image.digest), {}, SIMPLE)], "sig")


def stripped(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    refer(store, image.root, bundle(key, statement(image.digest), dsseEnvelope=envelope(statement(image.digest), [])))


def emptied(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    payload = statement(image.digest)
    refer(store, image.root, bundle(key, payload, dsseEnvelope=envelope(payload, [b""])))


def twice(store: LocalStore, image: Artifact, key: Key, other: Key) -> None:
    payload = statement(image.digest)
    both = [key.sign(pae(payload)), other.sign(pae(payload))]
    refer(store, image.root, bundle(key, payload, dsseEnvelope=envelope(payload, both)))


def other_payload_type(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    payload = statement(image.digest)
    signature = key.sign(pae(payload, "text/plain"))
    refer(store, image.root, bundle(key, payload, dsseEnvelope=envelope(payload, [signature], "text/plain")))


def of_a_message(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    message = {"messageDigest": {"algorithm": "SHA2_256", "digest": ""}, "signature": b64(key.sign(b""))}
    raw = json.loads(bundle(key, b"{}"))
    del raw["dsseEnvelope"]
    refer(store, image.root, json.dumps({**raw, "messageSignature": message}).encode())


def trailing(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    refer(store, image.root, bundle(key, statement(image.digest), sign=lambda payload: key.sign(payload) + b"\0"))


def doubled_keys(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    """Two parsers could read two digests."""
    double = b'"predicate": {}, "predicateType": "https://sigstore.dev/cosign/sign/v1"'
    refer(store, image.root, bundle(key, replaced(statement(image.digest), b'"predicate": {}', double)))


def doubled_claim(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    payload = replaced(
        claim("sha256:" + "a" * 64), b'"image": ', b'"image": {"docker-manifest-digest": "%s"}, "image": '
    )
    hang(store, image.digest, [simple(key, payload % image.digest.encode())], "sig")


def upper_case(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    refer(store, image.root, bundle(key, statement("sha256:" + image.digest.encoded.upper())))


def upper_case_algorithm(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    refer(store, image.root, bundle(key, statement("SHA256:" + image.digest.encoded)))


def full_width(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    wide = "".join(chr(ord(item) + 0xFEE0) if item.isdigit() else item for item in image.digest.encoded)
    refer(store, image.root, bundle(key, statement(f"sha256:{wide}")))


def upper_case_claim(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    hang(store, image.digest, [simple(key, claim("sha256:" + image.digest.encoded.upper()))], "sig")


def other_claim_type(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    hang(store, image.digest, [simple(key, claim(image.digest, kind="a receipt"))], "sig")


def no_subjects(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    payload = json.dumps({**json.loads(statement(image.digest)), "subject": []}).encode()
    refer(store, image.root, bundle(key, payload))


def damaged(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    refer(store, image.root, b'{"mediaType": ')


def damaged_claim(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    hang(store, image.digest, [simple(key, b"{")], "sig")


def not_base64(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    hang(store, image.digest, [(claim(image.digest), {SIGNATURE: "!!!!"}, SIMPLE)], "sig")


def oversized(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    raw = bundle(key, statement(image.digest))
    refer(store, image.root, raw + b" " * (4 * 1024 * 1024))


def missing_blob(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    absent = Descriptor.of(bundle(key, statement(image.digest)), BUNDLE)
    refer(store, image.root, b"", layer=absent)


def lying_size(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    kept = push_blob(store, bundle(key, statement(image.digest)), BUNDLE)
    refer(store, image.root, b"", layer=Descriptor(media_type=BUNDLE, digest=kept.digest, size=kept.size - 1))


def other_layer_type(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    refer(store, image.root, bundle(key, statement(image.digest)), layer_type="text/plain")


def two_layers(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    layer = push_blob(store, bundle(key, statement(image.digest)), BUNDLE)
    manifest = Manifest(
        media_type=media_types.IMAGE_MANIFEST,
        artifact_type=BUNDLE,
        config=push_blob(store, b"{}", media_types.EMPTY),
        layers=(layer, layer),
        subject=image.root.bare,
    )
    push_blob(store, encode(manifest), media_types.IMAGE_MANIFEST)


def other_claim_layer(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    payload, annotations, _kind = simple(key, claim(image.digest))
    hang(store, image.digest, [(payload, annotations, "text/plain")], "sig")


def tag_of_an_index(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    store.tag(image.root, attached_tag(image.digest, "sig"))


def index_as_bundle(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    index = Index(media_type=media_types.IMAGE_INDEX, manifests=(), artifact_type=BUNDLE, subject=image.root.bare)
    push_blob(store, encode(index), media_types.IMAGE_INDEX)


def attested_alone(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    refer(store, image.root, bundle(key, statement(image.digest, SLSA)), predicate_type=SLSA)
    hang(store, image.digest, [attestation(key, statement(image.digest, CYCLONEDX), CYCLONEDX)], "att")


def attested_twice(store: LocalStore, image: Artifact, key: Key, other: Key) -> None:
    payload = statement(image.digest, SLSA)
    both = [key.sign(pae(payload)), other.sign(pae(payload))]
    raw = json.dumps(envelope(payload, both)).encode()
    hang(store, image.digest, [(raw, {"predicateType": SLSA}, DSSE)], "att")


def signed_under_att(store: LocalStore, image: Artifact, key: Key, _: Key) -> None:
    hang(store, image.digest, [attestation(key, statement(image.digest), SIGN)], "att")


MATRIX: list[tuple[Attach, type[OcibuildError], str]] = [
    (lambda *_: None, SignatureError, "not signed"),
    (attested_alone, SignatureError, "are no signature of the image"),
    (signed_under_att, SignatureError, "are no signature of the image"),
    (lambda s, i, _, o: refer(s, i.root, bundle(o, statement(i.digest))), WrongSignatureError, "by another key ("),
    (lambda s, i, _, o: hang(s, i.digest, [simple(o, claim(i.digest))], "sig"), WrongSignatureError, "by another key"),
    (another_images, WrongSignatureError, "another image"),
    (changed(statement, (b'"predicate": {}', b'"predicate": {"a": 1}')), WrongSignatureError, "was changed since"),
    (changed_subject, WrongSignatureError, "was changed since"),
    (changed_type, WrongSignatureError, "was changed since"),
    (annotated_otherwise, WrongSignatureError, f"attached as {SIGN}"),
    (changed_claim, WrongSignatureError, "changed since"),
    (mirrored, WrongSignatureError, "changed since"),
    (certified, WrongSignatureError, "signed with a certificate"),
    (without_annotation, WrongSignatureError, "without its signature"),
    (trailing, WrongSignatureError, "changed since"),
    (upper_case, WrongSignatureError, "another image"),
    (upper_case_algorithm, WrongSignatureError, "another image"),
    (full_width, WrongSignatureError, "another image"),
    (stripped, DocumentError, "dsseEnvelope.signatures"),
    (emptied, OcibuildError, "signature"),
    (twice, DocumentError, "2 signatures"),
    (attested_twice, DocumentError, "2 signatures in one envelope"),
    (other_payload_type, DocumentError, "text/plain"),
    (of_a_message, DocumentError, "a bare digest"),
    (doubled_keys, DocumentError, "twice"),
    (doubled_claim, DocumentError, "twice"),
    (upper_case_claim, DocumentError, "digest"),
    (other_claim_type, DocumentError, "a receipt"),
    (no_subjects, OcibuildError, ""),
    (damaged, DocumentError, "no signature that can be read"),
    (damaged_claim, DocumentError, "no signature that can be read"),
    (not_base64, DocumentError, "base64"),
    (oversized, DocumentError, "at most 4194304"),
    (missing_blob, NotFoundError, "no such blob"),
    (lying_size, DigestMismatchError, ""),
    (other_layer_type, DocumentError, "text/plain"),
    (two_layers, DocumentError, "2 layers"),
    (other_claim_layer, DocumentError, "text/plain"),
    (tag_of_an_index, DocumentError, "image.index"),
    (index_as_bundle, DocumentError, "image.index"),
]


@pytest.mark.parametrize(("attach", "kind", "words"), MATRIX, ids=lambda item: getattr(item, "__name__", "")[:30])
def test_what_is_refused(
    store: MemoryStore, image: Artifact, key: Key, other: Key, attach: Attach, kind: type[OcibuildError], words: str
) -> None:
    attach(store, image, key, other)
    with pytest.raises(OcibuildError) as caught:
        verify(image, [key.public])
    error = caught.value
    assert isinstance(error, kind)
    if kind is not OcibuildError:
        assert type(error) is kind
    reasons = getattr(error, "reasons", ())
    assert words in "\n".join([str(error), *reasons])
    if isinstance(error, WrongSignatureError):
        assert reasons
    assert not examine(image, [key.public])
    # None of it is in the way of a good one, but what makes the place of that one unreadable.
    if attach is tag_of_an_index:
        refer(store, image.root, bundle(key, statement(image.digest)))
    else:
        hang(store, image.digest, [simple(key, claim(image.digest))], "sig")
    assert verify(image, [key.public]).digest == image.digest


def test_a_referrer_of_another_image_that_is_listed_for_this_one(key: Key) -> None:
    class Lying(MemoryStore):
        def referrers(self, descriptor: Descriptor, *, artifact_type: str | None = None) -> list[Descriptor]:
            return [item for known in self._referrers.values() for item in known.values()]

    store = Lying()
    image, foreign = make_image(store), make_image(store, b"another")
    refer(store, foreign.root, bundle(key, statement(image.digest)))
    with pytest.raises(WrongSignatureError) as caught:
        verify(image, [key.public])
    assert f"it refers to {foreign.digest}" in caught.value.reasons[0]


def test_bundles_that_refer_to_each_other(store: MemoryStore, image: Artifact, key: Key) -> None:
    """A chain, and a signature's signature: nothing beyond the image's own is read."""
    first = refer(store, image.root, bundle(key, statement(image.digest)))
    last = first
    for _ in range(100):
        last = refer(store, last, bundle(key, statement(last.digest)))
    assert len(verify(image, [key.public]).signatures) == 1


@pytest.mark.parametrize("place", ["referrers", "sig", "att"])
def test_a_flood(store: MemoryStore, image: Artifact, key: Key, other: Key, place: str) -> None:
    """So many that somebody means to tire us out: an error, although a good one is among them."""
    refer(store, image.root, bundle(key, statement(image.digest)))
    for count in (COUNT_LIMIT - 1, COUNT_LIMIT):
        if place == "referrers":
            for number in range(count):
                payload = statement(image.digest, SLSA, {"n": number})
                refer(store, image.root, bundle(other, payload, signed=b""), predicate_type=SLSA)
        else:
            item = simple(other, claim(image.digest)) if place == "sig" else attestation(other, statement(image.digest))
            hang(store, image.digest, [item] * count, place)
        if count < COUNT_LIMIT and place != "referrers":
            assert verify(image, [key.public])
    with pytest.raises(DocumentError, match=f"more than {COUNT_LIMIT} signatures attached"):
        verify(image, [key.public])


def test_many_bytes(store: MemoryStore, image: Artifact, key: Key) -> None:
    for number in range(5):
        refer(store, image.root, bundle(key, statement(image.digest)) + b" " * (4 * 1024 * 1024 - 2000 - number))
    with pytest.raises(DocumentError, match="more than 16777216 bytes attached"):
        verify(image, [key.public])


def test_the_image_itself_is_read(tmp_path: Path, key: Key) -> None:
    """The digest is that of bytes that are here, not what an index says of them."""
    with LayoutStore(tmp_path) as layout:
        image = make_image(layout)
        refer(layout, image.root, bundle(key, statement(image.digest)))
        path = tmp_path / "blobs/sha256" / image.digest.encoded
        path.write_bytes(path.read_bytes().replace(b"amd64", b"arm64"))
        with pytest.raises(DigestMismatchError):
            verify(image, [key.public])


def test_usage(image: Artifact) -> None:
    with pytest.raises(UsageError, match="no key"):
        verify(image, [])


def test_nothing_is_written(tmp_path: Path, key: Key) -> None:
    with LayoutStore(tmp_path) as layout:
        image = make_image(layout)
        layout.tag(image.root, "1")

    def state() -> Iterator[tuple[str, float]]:
        return ((str(path), path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("*")))

    before = list(state())
    opened = LayoutStore(tmp_path)
    with pytest.raises(SignatureError):
        verify(Artifact(opened.resolve("1"), opened), [key.public])
    assert list(state()) == before


def test_what_ocibuild_signs(store: MemoryStore, image: Artifact) -> None:
    signer = KeySigner(ec.generate_private_key(ec.SECP256R1()))
    sign_image(image, store, signer, reference="ghcr.io/grove/x", each_platform=True)
    attest(image, store, signer, "cyclonedx", b'{"bomFormat": "CycloneDX", "specVersion": "1.6"}')
    verdict = verify(image, [PublicKey.from_der(signer.public_key)], platforms=True)
    for found in (verdict, *verdict.images):
        assert {item.format for item in found.signatures} == {"sigstore bundle", "simple signing"}
        assert found.refused == ()
    assert {item.format for item in verdict.attestations} == {"sigstore bundle", "dsse envelope"}
