"""Signing what is in a store: the bytes that are written, what is there already, other signers, and the command line."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ocibuild import (
    Artifact,
    Descriptor,
    Digest,
    File,
    LayoutStore,
    LocalStore,
    MemoryStore,
    Platform,
    Provenance,
    attach_provenance,
    build_image,
    build_index,
    build_layer,
    copy,
    intoto,
    open_artifact,
)
from ocibuild.errors import DocumentError, NotFoundError, UsageError
from ocibuild.oci import Manifest, media_types
from ocibuild.oci.canonical import encode
from ocibuild.sign import (
    BundleSigner,
    KeySigner,
    KeyWarning,
    PublicKey,
    Signed,
    Signer,
    attest,
    attest_attached,
    dsse,
    load_signer,
    sign_image,
    simple,
)
from ocibuild.sign.bundle import BUNDLE, parse_bundle
from ocibuild.store.attached import attached_tag
from ocibuild.store.graph import push_blob, read_blob, read_document
from tests.conftest import Result
from tests.unit.test_sign_keys import ENCRYPTED, FORMS, SECRET, TEST_KEY, write

Cli = Callable[..., Result]

TIME = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
NAME = "ghcr.io/grove/x"
CYCLONEDX = "application/vnd.cyclonedx+json"
MANIFEST = media_types.IMAGE_MANIFEST
SBOM = b'{"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": []}'


def make_index(store: LocalStore) -> Artifact:
    layers = [build_layer([File(path="lib/x.so", content=b"x" * 500)], into=store)]
    images = [build_image(layers, platform=Platform.parse(name), into=store) for name in ("amd64", "arm64")]
    return Artifact(build_index(images, into=store).root, store)


@pytest.fixture(params=["memory", "layout"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> LocalStore:
    return MemoryStore() if request.param == "memory" else LayoutStore(tmp_path / "layout")


@pytest.fixture
def index(store: LocalStore) -> Artifact:
    return make_index(store)


@pytest.fixture
def signer(tmp_path: Path) -> KeySigner:
    return load_signer(write(tmp_path, TEST_KEY))


@pytest.fixture
def other() -> KeySigner:
    return KeySigner(ec.generate_private_key(ec.SECP256R1()))


def manifest_of(store: LocalStore, descriptor: Descriptor) -> Manifest:
    document = read_document(store, descriptor)
    assert isinstance(document, Manifest)
    return document


def layers(store: LocalStore, subject: Descriptor, kind: str) -> tuple[Descriptor, ...]:
    return manifest_of(store, store.resolve(attached_tag(subject.digest, kind))).layers


def claims(store: LocalStore, subject: Descriptor) -> list[simple.SimpleClaim]:
    return [simple.parse(read_blob(store, layer)) for layer in layers(store, subject, "sig")]


def bundles(store: LocalStore, subject: Descriptor) -> list[Descriptor]:
    return store.referrers(subject, artifact_type=BUNDLE)


def statement_in(store: LocalStore, bundle: Descriptor) -> bytes:
    return parse_bundle(read_blob(store, manifest_of(store, bundle).layers[0])).envelope.payload


def one(signed: list[Signed]) -> Signed:
    [found] = signed
    return found


# What is written


def test_both_formats_as_they_are_read(store: LocalStore, index: Artifact, signer: KeySigner) -> None:
    found = one(sign_image(index, store, signer, reference=NAME, created=TIME))
    key = PublicKey.from_der(signer.public_key)
    assert (found.subject, found.platform, found.predicate_type) == (index.root.bare, None, intoto.SIGNATURE)
    assert (found.fingerprint, found.added) == (key.fingerprint, ("tag", "bundle"))
    # The tag.
    assert found.tag is not None
    assert found.tag == (f"sha256-{index.digest.encoded}.sig", store.resolve(found.tag[0]))
    image = manifest_of(store, found.tag[1])
    [layer] = image.layers
    assert layer.media_type == simple.SIMPLE_SIGNING
    payload = read_blob(store, layer)
    claim = simple.parse(payload)
    assert (claim.digest, claim.reference, claim.created) == (index.digest, NAME, TIME)
    assert list(layer.annotations or ()) == [simple.SIGNATURE_ANNOTATION]
    assert key.verify(base64.b64decode((layer.annotations or {})[simple.SIGNATURE_ANNOTATION]), payload)
    config = json.loads(read_blob(store, image.config))
    assert image.config.media_type == media_types.IMAGE_CONFIG
    assert config["rootfs"] == {"type": "layers", "diff_ids": [layer.digest]}
    # The bundle.
    assert found.bundle is not None
    [listed] = bundles(store, index.root)
    assert listed.bare == found.bundle
    assert listed.annotations == {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1",
        "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
    }
    manifest = manifest_of(store, listed)
    assert (manifest.artifact_type, manifest.subject) == (BUNDLE, index.root.bare)
    assert manifest.config == Descriptor.of(b"{}", "application/vnd.oci.empty.v1+json")
    bundle = parse_bundle(read_blob(store, manifest.layers[0]))
    assert bundle.key_hint == key.hint
    assert bundle.envelope.payload == intoto.statement(index.root, intoto.SIGNATURE, {})
    [(_, signature)] = bundle.envelope.signatures
    assert key.verify(signature, bundle.envelope.signed)


def test_the_same_input_gives_these_bytes(store: LocalStore, signer: KeySigner) -> None:
    """Golden: a change here is a change of what is signed, and of every digest that names it."""
    image = Artifact(push_blob(store, encode(Manifest(config=Descriptor.of(b"{}", "a/b"), layers=())), MANIFEST), store)
    signed = one(sign_image(image, store, signer, reference=NAME, created=TIME))
    attested = attest(image, store, signer, "cyclonedx", SBOM, created=TIME)
    assert image.digest == "sha256:56c62b7297949e07fffaa23c8df4b034b384b6cc8ceb242abd3bb08ec2e6de5b"
    assert [written(item) for item in (signed, attested)] == [
        (
            "sha256:e846b96a5351062ce80cca07dbffc444bd41841c994323da6016730713ae3ae7",
            "sha256:9d72039137b9cc4bb639f512d548f1189811b2de82695a25c7e54822e604f0ae",
        ),
        (
            "sha256:3e30bdbec3dd4cc8e03afcb1d2d0b309d31bb572a7a9e68c48a2ba3da7a0bda9",
            "sha256:39d69e4175451e703c7d4e05db876cdd1e785442d644dd5557d5ba3a65c22c9c",
        ),
    ]


def written(signed: Signed) -> tuple[Digest, Digest]:
    assert signed.tag is not None
    assert signed.bundle is not None
    return signed.tag[1].digest, signed.bundle.digest


def test_without_a_time_there_is_none(store: LocalStore, index: Artifact, signer: KeySigner) -> None:
    sign_image(index, store, signer)
    [claim] = claims(store, index.root)
    assert (claim.created, claim.reference) == (None, "")
    assert "org.opencontainers.image.created" not in (bundles(store, index.root)[0].annotations or {})


def test_each_platform_is_signed_too(store: LocalStore, index: Artifact, signer: KeySigner) -> None:
    signed = sign_image(index, store, signer, reference=NAME, each_platform=True)
    assert [str(item.platform) for item in signed] == ["None", "linux/amd64", "linux/arm64"]
    assert len({item.subject.digest for item in signed}) == 3
    for item in signed:
        assert [claim.digest for claim in claims(store, item.subject)] == [item.subject.digest]
        assert len(bundles(store, item.subject)) == 1


def test_a_single_image_has_no_other_platforms(store: LocalStore, signer: KeySigner) -> None:
    image = build_image([], platform=Platform.parse("amd64"), into=store)
    assert one(sign_image(image, store, signer, each_platform=True)).subject == image.root.bare


@pytest.mark.parametrize(("formats", "there"), [(("tag",), (True, False)), (("bundle",), (False, True))])
def test_one_format_alone(
    store: LocalStore, index: Artifact, signer: KeySigner, formats: tuple[str, ...], there: tuple[bool, bool]
) -> None:
    found = one(sign_image(index, store, signer, formats=formats))
    assert found.added == formats
    assert (found.tag is not None, found.bundle is not None) == there
    assert (bool(tags(store)), bool(bundles(store, index.root))) == there


def tags(store: LocalStore) -> list[str]:
    try:
        return list(store.tags())
    except NotFoundError:
        return []


def test_a_format_that_is_none(store: LocalStore, index: Artifact, signer: KeySigner) -> None:
    with pytest.raises(UsageError, match="'jws'"):
        sign_image(index, store, signer, formats=("jws",))


def test_a_time_without_a_zone(store: LocalStore, index: Artifact, signer: KeySigner) -> None:
    with pytest.raises(UsageError, match="zone"):
        sign_image(index, store, signer, created=TIME.replace(tzinfo=None))


# What is there


def test_a_signature_that_is_there_is_not_added_again(store: LocalStore, index: Artifact, signer: KeySigner) -> None:
    first = one(sign_image(index, store, signer, reference=NAME, created=TIME))
    again = one(sign_image(index, store, signer, reference=NAME, created=TIME + dt.timedelta(days=1)))
    assert again == msgspec.structs.replace(first, added=())
    assert (len(claims(store, index.root)), len(bundles(store, index.root))) == (1, 1)


def test_what_is_missing_is_added(store: LocalStore, index: Artifact, signer: KeySigner) -> None:
    sign_image(index, store, signer, formats=("tag",))
    assert one(sign_image(index, store, signer)).added == ("bundle",)


def test_another_key_signs_beside_the_first(
    store: LocalStore, index: Artifact, signer: KeySigner, other: KeySigner
) -> None:
    sign_image(index, store, signer, reference=NAME)
    before = layers(store, index.root, "sig")
    assert one(sign_image(index, store, other, reference=NAME)).added == ("tag", "bundle")
    after = layers(store, index.root, "sig")
    assert after[:1] == before
    assert len(after) == len(bundles(store, index.root)) == 2
    image = manifest_of(store, store.resolve(attached_tag(index.digest, "sig")))
    config = json.loads(read_blob(store, image.config))
    assert config["rootfs"]["diff_ids"] == [layer.digest for layer in after]
    assert one(sign_image(index, store, signer, reference=NAME)).added == ()
    assert one(sign_image(index, store, other, reference=NAME)).added == ()


def test_another_repository_is_another_claim(store: LocalStore, index: Artifact, signer: KeySigner) -> None:
    sign_image(index, store, signer, reference=NAME)
    assert one(sign_image(index, store, signer, reference="quay.io/grove/x")).added == ("tag",)
    assert [claim.reference for claim in claims(store, index.root)] == [NAME, "quay.io/grove/x"]


def test_a_signature_of_the_same_key_that_is_wrong_does_not_count(
    store: LocalStore, index: Artifact, signer: KeySigner
) -> None:
    """Moved from another image, as an attacker would: ours is added."""
    another = build_image([], platform=Platform.parse("amd64"), into=store)
    sign_image(another, store, signer, reference=NAME)
    store.tag(store.resolve(attached_tag(another.digest, "sig")), attached_tag(index.digest, "sig"))
    [foreign] = bundles(store, another.root)
    moved = msgspec.structs.replace(manifest_of(store, foreign), subject=index.root.bare)
    push_blob(store, encode(moved), media_types.IMAGE_MANIFEST)
    assert one(sign_image(index, store, signer, reference=NAME)).added == ("tag", "bundle")
    assert [claim.digest for claim in claims(store, index.root)] == [another.digest, index.digest]


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff", b"[" * 5000])
def test_what_cannot_be_read_stays_and_does_not_count(
    store: LocalStore, index: Artifact, signer: KeySigner, raw: bytes
) -> None:
    layer = push_blob(store, raw, simple.SIMPLE_SIGNING).with_annotation(simple.SIGNATURE_ANNOTATION, "?")
    config = push_blob(
        store, encode({"rootfs": {"type": "layers", "diff_ids": [layer.digest]}}), media_types.IMAGE_CONFIG
    )
    theirs = Manifest(media_type=MANIFEST, config=config, layers=(layer,), annotations={"who": "they"})
    store.tag(push_blob(store, encode(theirs), MANIFEST), attached_tag(index.digest, "sig"))
    refer(store, index.root, raw, BUNDLE)
    assert one(sign_image(index, store, signer)).added == ("tag", "bundle")
    image = manifest_of(store, store.resolve(attached_tag(index.digest, "sig")))
    assert (image.layers[0], len(image.layers), image.annotations) == (layer, 2, {"who": "they"})
    assert len(bundles(store, index.root)) == 2


def refer(store: LocalStore, subject: Descriptor, raw: bytes, kind: str) -> Descriptor:
    """Attach a blob."""
    manifest = Manifest(
        media_type=MANIFEST,
        artifact_type=kind,
        config=push_blob(store, b"{}", media_types.EMPTY),
        layers=(push_blob(store, raw, kind),),
        subject=subject.bare,
    )
    return push_blob(store, encode(manifest), MANIFEST)


def test_a_tag_that_names_something_else_is_left_alone(store: LocalStore, index: Artifact, signer: KeySigner) -> None:
    store.tag(index.root, name := attached_tag(index.digest, "sig"))
    with pytest.raises(DocumentError, match="image of signatures"):
        sign_image(index, store, signer)
    assert store.resolve(name).digest == index.digest


def test_a_signature_written_at_the_same_time_is_kept(signer: KeySigner, other: KeySigner) -> None:
    """Another signer has read the tag before us and writes it after us; ours is then put beside theirs."""

    class Contended(MemoryStore):
        rival: Descriptor | None = None
        retag = None  # type: ignore[assignment] # as in a registry

        def tag(self, descriptor: Descriptor, name: str) -> None:
            super().tag(descriptor, name)
            if self.rival is not None:
                super().tag(self.rival, name)
                self.rival = None

    store = Contended()
    index = make_index(store)
    theirs = one(sign_image(index, store, other))
    assert theirs.tag is not None
    name, store.rival = theirs.tag
    with store._lock:
        del store._tags[name]
    ours = one(sign_image(index, store, signer))
    assert ours.tag is not None
    assert ours.added == ("tag", "bundle")
    assert len(layers(store, index.root, "sig")) == 2
    assert store.resolve(name) == ours.tag[1]


class Slow:
    """A key that takes long to sign: in the meantime another one signs the same."""

    def __init__(self, signer: KeySigner, meanwhile: Callable[[], object]) -> None:
        self.public_key, self._signer, self._meanwhile = signer.public_key, signer, [meanwhile]

    def sign(self, payload: bytes, /) -> bytes:
        if self._meanwhile:
            self._meanwhile.pop()()
        return self._signer.sign(payload)


def test_what_was_signed_while_we_signed_is_kept(
    store: LocalStore, index: Artifact, signer: KeySigner, other: KeySigner
) -> None:
    slow = Slow(signer, lambda: sign_image(index, store, other))
    assert one(sign_image(index, store, slow)).added == ("tag", "bundle")
    for key in (signer, other):
        assert one(sign_image(index, store, key)).added == ()
    assert (len(claims(store, index.root)), len(bundles(store, index.root))) == (2, 2)


def test_what_was_attested_while_we_signed_is_kept(
    store: LocalStore, index: Artifact, signer: KeySigner, other: KeySigner
) -> None:
    slow = Slow(signer, lambda: attest(index, store, other, "vuln", b"{}"))
    assert attest(index, store, slow, "vuln", b"{}").added == ("tag", "bundle")
    assert (len(layers(store, index.root, "att")), len(bundles(store, index.root))) == (2, 2)


def test_the_tag_is_moved_only_from_where_it_was_seen(signer: KeySigner, other: KeySigner) -> None:
    """Another signer writes the tag between our last look at it and our own writing."""

    class Contended(MemoryStore):
        rival: Callable[[], object] | None = None

        def retag(self, descriptor: Descriptor, name: str, expected: Descriptor | None) -> bool:
            if self.rival is not None:
                rival, self.rival = self.rival, None
                rival()
            return super().retag(descriptor, name, expected)

    store = Contended()
    index = make_index(store)
    store.rival = lambda: sign_image(index, store, other)
    sign_image(index, store, signer)
    assert len(claims(store, index.root)) == 2
    assert one(sign_image(index, store, other)).added == ()


def test_a_layer_of_ours_under_another_media_type(store: LocalStore, index: Artifact, signer: KeySigner) -> None:
    """It is not read as a signature, and ours is added beside it."""
    signed = one(sign_image(index, store, signer, formats=("tag",)))
    assert signed.tag is not None
    image = manifest_of(store, signed.tag[1])
    theirs = msgspec.structs.replace(image.layers[0], media_type="text/plain")
    tag_image(store, image, theirs, signed.tag[0])
    again = one(sign_image(index, store, signer, formats=("tag",)))
    assert again.added == ("tag",)
    assert again.tag is not None
    assert [layer.media_type for layer in manifest_of(store, again.tag[1]).layers] == [
        "text/plain",
        image.layers[0].media_type,
    ]


def tag_image(store: LocalStore, image: Manifest, layer: Descriptor, name: str) -> None:
    """Name an image of signatures with another layer in the place of its one."""
    changed = msgspec.structs.replace(image, layers=(layer,))
    store.tag(push_blob(store, encode(changed), MANIFEST), name)


@pytest.mark.parametrize("name", ["certificate", "chain", "bundle"])
def test_a_claim_with_something_beside_is_not_ours(
    store: LocalStore, index: Artifact, signer: KeySigner, name: str
) -> None:
    """cosign refuses it for what is beside."""
    signed = one(sign_image(index, store, signer))
    assert signed.tag is not None
    image = manifest_of(store, signed.tag[1])
    tag_image(store, image, image.layers[0].with_annotation(f"dev.sigstore.cosign/{name}", "junk"), signed.tag[0])
    assert one(sign_image(index, store, signer)).added == ("tag",)
    assert len(layers(store, index.root, "sig")) == 2
    assert one(sign_image(index, store, signer)).added == ()


@pytest.mark.parametrize(
    "change",
    [
        {"signatures": [{"sig": "AAAA"}]},
        {"keyid": "theirs"},
    ],
    ids=["a second signature", "a name of the key"],
)
def test_an_envelope_with_something_beside_is_not_ours(
    store: LocalStore, index: Artifact, signer: KeySigner, change: dict[str, Any]
) -> None:
    signed = attest(index, store, signer, "vuln", b"{}")
    assert signed.tag is not None
    image = manifest_of(store, signed.tag[1])
    fields = json.loads(read_blob(store, image.layers[0]))
    fields["signatures"][0] |= {key: value for key, value in change.items() if key == "keyid"}
    fields["signatures"] += change.get("signatures", [])
    layer = push_blob(store, encode(fields), image.layers[0].media_type)
    tag_image(store, image, msgspec.structs.replace(layer, annotations=image.layers[0].annotations), signed.tag[0])
    assert attest(index, store, signer, "vuln", b"{}").added == ("tag",)
    assert attest(index, store, signer, "vuln", b"{}").added == ()


@pytest.mark.parametrize(
    "material", [{"publicKey": {"hint": "theirs"}}, {"tlogEntries": [{"logIndex": "1"}]}], ids=["hint", "log"]
)
def test_a_bundle_with_something_beside_is_not_ours(
    store: LocalStore, index: Artifact, signer: KeySigner, material: dict[str, Any]
) -> None:
    image = Artifact(index.root, elsewhere := MemoryStore())
    copy(index, elsewhere)
    [bundle] = [one(sign_image(image, elsewhere, signer)).bundle]
    assert bundle is not None
    manifest = manifest_of(elsewhere, bundle)
    fields = json.loads(read_blob(elsewhere, manifest.layers[0]))
    fields["verificationMaterial"] |= material
    layer = push_blob(store, encode(fields), BUNDLE)
    push_blob(store, b"{}", media_types.EMPTY)
    push_blob(store, encode(msgspec.structs.replace(manifest, layers=(layer,))), MANIFEST)
    assert one(sign_image(index, store, signer, formats=("bundle",))).added == ("bundle",)
    assert one(sign_image(index, store, signer, formats=("bundle",))).added == ()


def test_one_is_not_true(store: LocalStore, index: Artifact, signer: KeySigner) -> None:
    attest(index, store, signer, "vuln", b'{"ok": 1}')
    assert attest(index, store, signer, "vuln", b'{"ok": true}').added == ("tag", "bundle")
    assert attest(index, store, signer, "vuln", b'{"ok": true}').added == ()


@pytest.mark.parametrize("trouble", ["an index", "a broken configuration"])
def test_a_tag_of_no_use_does_not_keep_the_bundle_away(
    store: LocalStore, index: Artifact, signer: KeySigner, trouble: str
) -> None:
    """For the image and for its platforms; the tag's trouble is told when they are there."""
    root = index.root
    if trouble != "an index":
        config = push_blob(store, b"{}", media_types.IMAGE_CONFIG)
        layer = push_blob(store, b"x", simple.SIMPLE_SIGNING)
        root = push_blob(store, encode(Manifest(media_type=MANIFEST, config=config, layers=(layer,))), MANIFEST)
    store.tag(root, name := attached_tag(index.digest, "sig"))
    with pytest.raises(DocumentError) as caught:
        sign_image(index, store, signer, each_platform=True)
    assert f"remove the tag {name}" in caught.value.hint
    assert store.resolve(name).digest == root.digest
    for subject in (index.root, *read_index(index)):
        assert len(bundles(store, subject.bare)) == 1
    with pytest.raises(DocumentError):
        sign_image(index, store, signer, formats=("tag",))


# Other signers


class Kms:
    """A key that is somewhere else: it is asked to sign, and each time signs otherwise."""

    def __init__(self) -> None:
        self._inside = ec.generate_private_key(ec.SECP256R1())
        self.public_key = KeySigner(self._inside).public_key
        self.asked = 0

    def sign(self, payload: bytes, /) -> bytes:
        from cryptography.hazmat.primitives.hashes import SHA256

        self.asked += 1
        return self._inside.sign(payload, ec.ECDSA(SHA256()))


def test_a_key_management_service_signs(store: LocalStore, index: Artifact) -> None:
    kms = Kms()
    signer: Signer = kms
    assert isinstance(kms, Signer)
    assert one(sign_image(index, store, signer)).added == ("tag", "bundle")
    assert kms.asked == 2
    assert one(sign_image(index, store, signer)).added == ()
    assert kms.asked == 2


def test_a_signer_with_another_key_than_it_says(store: LocalStore, index: Artifact, other: KeySigner) -> None:
    kms = Kms()
    kms.public_key = other.public_key
    with pytest.raises(UsageError, match="does not verify"):
        sign_image(index, store, kms)
    assert tags(store) == []
    assert bundles(store, index.root) == []


class Keyless:
    """What signs with a certificate, in a way of its own."""

    def __init__(self, said: bytes | None = None) -> None:
        self.said = said

    def sign_statement(self, statement: bytes, /) -> bytes:
        payload = base64.b64encode(self.said or statement).decode()
        fields = {
            "mediaType": BUNDLE,
            "verificationMaterial": {"certificate": {"rawBytes": "AAAA"}, "tlogEntries": [{"logIndex": "1"}]},
            "dsseEnvelope": {"payload": payload, "payloadType": intoto.PAYLOAD_TYPE, "signatures": [{"sig": "c2ln"}]},
        }
        return json.dumps(fields).encode()


def test_a_signer_of_bundles(store: LocalStore, index: Artifact) -> None:
    signer: BundleSigner = Keyless()
    found = one(sign_image(index, store, signer))
    assert (found.added, found.tag, found.fingerprint) == (("bundle",), None, "")
    [bundle] = bundles(store, index.root)
    assert statement_in(store, bundle) == intoto.statement(index.root, intoto.SIGNATURE, {})
    with pytest.raises(UsageError, match="wanted a key"):
        sign_image(index, store, signer, formats=("tag",))


def test_a_signer_of_bundles_that_signs_something_else(store: LocalStore, index: Artifact) -> None:
    said = intoto.statement(Descriptor.of(b"x", "a/b"), intoto.SIGNATURE, {})
    with pytest.raises(UsageError, match="something else"):
        sign_image(index, store, Keyless(said))
    assert bundles(store, index.root) == []


# Attestations


def test_a_predicate_is_signed(store: LocalStore, index: Artifact, signer: KeySigner) -> None:
    found = attest(index, store, signer, "cyclonedx", SBOM, created=TIME)
    assert (found.predicate_type, found.added) == (intoto.CYCLONEDX, ("tag", "bundle"))
    [layer] = layers(store, index.root, "att")
    assert layer.media_type == "application/vnd.dsse.envelope.v1+json"
    assert layer.annotations == {"predicateType": intoto.CYCLONEDX, simple.SIGNATURE_ANNOTATION: ""}
    envelope = dsse.parse(read_blob(store, layer))
    [bundle] = bundles(store, index.root)
    assert statement_in(store, bundle) == envelope.payload
    assert (bundle.annotations or {})["dev.sigstore.bundle.predicateType"] == intoto.CYCLONEDX
    statement = intoto.parse_statement(envelope.payload)
    assert statement.is_about(index.digest)
    assert (statement.predicate_type, statement.predicate) == (intoto.CYCLONEDX, json.loads(SBOM))
    assert PublicKey.from_der(signer.public_key).verify(envelope.signatures[0][1], envelope.signed)
    # The same again, and something else of the same kind.
    assert attest(index, store, signer, "cyclonedx", SBOM).added == ()
    assert attest(index, store, signer, "cyclonedx", b'{"bomFormat":"CycloneDX"}').added == ("tag", "bundle")
    assert len(layers(store, index.root, "att")) == len(bundles(store, index.root)) == 2


def test_a_predicate_of_any_text(store: LocalStore, index: Artifact, signer: KeySigner) -> None:
    attest(index, store, signer, "custom", "déjà vu".encode(), created=TIME)
    statement = intoto.parse_statement(statement_in(store, bundles(store, index.root)[0]))
    assert statement.predicate_type == "https://cosign.sigstore.dev/attestation/v1"
    assert statement.predicate == {"Data": "déjà vu", "Timestamp": "2026-01-02T03:04:05Z"}


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"a":1,"a":2}', b"\xff", b" " * 5_000_000])
def test_what_is_no_predicate(store: LocalStore, index: Artifact, signer: KeySigner, raw: bytes) -> None:
    with pytest.raises(DocumentError):
        attest(index, store, signer, "vuln", raw)


def test_what_is_attached_is_signed(store: LocalStore, index: Artifact, signer: KeySigner) -> None:
    """The provenance in its own bytes; the SBOM of a platform as a statement about that one."""
    provenance = Provenance(parameters={"name": "x"}, version="1", codecs={})
    attach_provenance(index, store, provenance)
    [_, (_, arm64)] = [(str(item.platform), item) for item in read_index(index)]
    refer(store, arm64, sbom := sbom_of(arm64.digest), CYCLONEDX)
    refer(store, index.root, intoto.statement(index.root, "https://example.com/other", {}), intoto.PAYLOAD_TYPE)
    refer(store, index.root, b"a note", "text/plain")
    signed = attest_attached(index, store, signer, created=TIME)
    assert [(item.subject, str(item.platform), item.predicate_type) for item in signed] == [
        (index.root.bare, "None", intoto.SLSA_PROVENANCE),
        (arm64.bare, "linux/arm64", intoto.CYCLONEDX),
    ]
    assert statement_in(store, bundles(store, index.root)[0]) == provenance.statement(index.root)
    about = intoto.parse_statement(statement_in(store, bundles(store, arm64)[0]))
    assert about.is_about(arm64.digest)
    assert about.predicate == json.loads(sbom)
    assert [item.added for item in attest_attached(index, store, signer)] == [(), ()]


def sbom_of(*digests: Digest) -> bytes:
    hashes = [{"alg": "SHA-256", "content": digest.encoded} for digest in digests]
    component = {"type": "container", "name": "x", "hashes": hashes}
    return encode({**json.loads(SBOM), "metadata": {"component": component}})


def test_an_sbom_of_another_image_is_not_signed(store: LocalStore, index: Artifact, signer: KeySigner) -> None:
    """Or of several, or of none that it names: whoever attached it may have made it for another one."""
    another = Digest.of(b"another")
    image = Artifact(read_index(index)[0].bare, store)
    refer(store, index.root, sbom_of(another), CYCLONEDX)
    with pytest.raises(DocumentError, match=f"an SBOM about {another}, wanted {index.digest}"):
        attest_attached(index, store, signer)
    refer(store, image.root, sbom_of(image.digest, another), CYCLONEDX)
    with pytest.raises(DocumentError, match="an SBOM about"):
        attest_attached(image, store, signer)
    image = Artifact(read_index(index)[1].bare, store)
    refer(store, image.root, SBOM, CYCLONEDX)
    with pytest.raises(DocumentError, match="does not say which image"):
        attest_attached(image, store, signer)
    assert bundles(store, index.root) == []
    assert tags(store) == []


STATEMENT = {"_type": intoto.STATEMENT, "predicateType": intoto.SLSA_PROVENANCE, "predicate": {"x": 1}}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda ours, evil: {"subject": [ours, evil]}, "a statement about 2 images"),
        (lambda _, __: {"subject": []}, "a statement about 0 images"),
        (lambda ours, evil: {"subject": [ours], "Subject": [evil]}, "other fields: 'Subject'"),
        (lambda ours, _: {"subject": [ours], "note": "x"}, "other fields: 'note'"),
        (lambda ours, _: {"subject": [{**ours, "name": "x"}]}, "more than a digest"),
        (lambda ours, _: {"subject": [{"digest": {**ours["digest"], "sha512": "00"}}]}, "more than a digest"),
        (lambda ours, evil: {"subject": [{**ours, "Digest": evil["digest"]}]}, "other bytes"),
        (lambda ours, _: {"subject": [ours], "_type": "https://in-toto.io/Statement/v0.1"}, "other bytes"),
        (lambda ours, _: {"subject": [ours], "predicate": {"x": 2**60}}, "other bytes"),
    ],
)
def test_a_statement_of_a_stranger_is_not_signed(
    store: LocalStore,
    index: Artifact,
    signer: KeySigner,
    change: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]],
    found: str,
) -> None:
    """It would vouch for other images too, or say to other readers what we do not read in it."""
    ours, evil = ({"digest": {"sha256": digest.encoded}} for digest in (index.digest, Digest.of(b"evil")))
    refer(store, index.root, json.dumps({**STATEMENT, **change(ours, evil)}).encode(), intoto.PAYLOAD_TYPE)
    with pytest.raises(DocumentError, match=found):
        attest_attached(index, store, signer)
    assert bundles(store, index.root) == []
    assert tags(store) == []


def test_a_statement_in_other_bytes_is_not_signed(store: LocalStore, index: Artifact, signer: KeySigner) -> None:
    raw = intoto.statement(index.root, intoto.SLSA_PROVENANCE, {})
    refer(store, index.root, raw.replace(b",", b", "), intoto.PAYLOAD_TYPE)
    with pytest.raises(DocumentError, match="other bytes"):
        attest_attached(index, store, signer)


def read_index(index: Artifact) -> tuple[Descriptor, ...]:
    document = read_document(index.source, index.root)
    assert document is not None
    assert not isinstance(document, Manifest)
    return document.manifests


def test_nothing_attached(store: LocalStore, index: Artifact, signer: KeySigner) -> None:
    sign_image(index, store, signer)
    with pytest.raises(NotFoundError, match="neither provenance nor an SBOM"):
        attest_attached(index, store, signer)


@pytest.mark.parametrize(
    ("raw", "kind", "found"),
    [
        (
            intoto.statement(Descriptor.of(b"x", "a/b"), intoto.SLSA_PROVENANCE, {}),
            intoto.PAYLOAD_TYPE,
            "another image",
        ),
        (b"{}", intoto.PAYLOAD_TYPE, "_type"),
        (b"{}", CYCLONEDX, "none of CycloneDX"),
        (b"x", CYCLONEDX, "no JSON object"),
    ],
)
def test_what_is_attached_and_damaged_is_not_signed(
    store: LocalStore, index: Artifact, signer: KeySigner, raw: bytes, kind: str, found: str
) -> None:
    refer(store, index.root, raw, kind)
    with pytest.raises(DocumentError, match=found):
        attest_attached(index, store, signer)
    assert bundles(store, index.root) == []


# The command line


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write(tmp_path, TEST_KEY)


@pytest.fixture
def layout(hello: Path, tmp_path: Path) -> str:
    place = f"oci:{tmp_path}/image"
    with LayoutStore(tmp_path / "image") as out:
        copy(open_artifact(f"oci:{hello}:0.2.0"), out, tags=["0.2.0"])
    return place


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_command_signs_and_says_what(cli: Cli, layout: str, key: Path) -> None:
    result = cli("sign", layout, "--key", key, "--platforms", "--reference", NAME, "--created", "2026-01-02T03:04:05Z")
    assert result.code == 0, result.err
    assert result.err == ""
    digest = open_artifact(layout).digest
    lines = result.out.splitlines()
    assert lines[0] == f"signed {digest}"
    assert lines[1] == f"  tag     sha256-{digest.encoded}.sig"
    assert next(line for line in lines if "linux/" in line).endswith("(linux/amd64)")
    assert lines[-1].startswith("by key sha256:")
    again = cli("sign", layout, "--key", key, "--platforms", "--reference", NAME)
    assert again.out.startswith(f"already signed {digest}\n")
    assert again.code == 0


def test_the_object_of_the_command(cli: Cli, layout: str, key: Path) -> None:
    said: dict[str, Any] = json.loads(cli("sign", layout, "--key", key, "--json").out)
    image = open_artifact(layout)
    assert said["digest"] == image.digest
    assert said["key"] == PublicKey.from_der(load_signer(key).public_key).fingerprint
    [signed] = said["signed"]
    assert (signed["digest"], signed["platform"], signed["added"]) == (image.digest, None, ["tag", "bundle"])
    assert signed["tag"]["name"] == attached_tag(image.digest, "sig")
    assert Digest.is_valid(signed["tag"]["digest"])
    assert Digest.is_valid(signed["bundle"])
    assert json.loads(cli("sign", layout, "--key", key, "--json").out)["signed"][0]["added"] == []


def test_the_same_time_gives_the_same_bytes(
    cli: Cli, hello: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767323045")
    for name in ("one", "two"):
        assert cli("copy", f"oci:{hello}:0.2.0", f"oci-archive:{tmp_path}/{name}.tar").code == 0
        assert cli("sign", f"{tmp_path}/{name}.tar", "--key", key, "--platforms").code == 0
        assert cli("attest", f"{tmp_path}/{name}.tar", "--key", key, *predicate(tmp_path)).code == 0
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    image = open_artifact(f"oci-archive:{tmp_path}/one.tar:0.2.0")
    assert [claim.created for claim in claims(image.source, image.root)] == [TIME]  # type: ignore[arg-type]


def predicate(folder: Path) -> tuple[str, ...]:
    (folder / "bom.json").write_bytes(SBOM)
    return ("--type", "cyclonedx", "--predicate", f"{folder}/bom.json")


def test_without_a_time_it_is_now(cli: Cli, layout: str, key: Path) -> None:
    before = dt.datetime.now(dt.UTC).replace(microsecond=0)
    assert cli("sign", layout, "--key", key).code == 0
    image = open_artifact(layout)
    [claim] = claims(image.source, image.root)  # type: ignore[arg-type]
    assert claim.created is not None
    assert before <= claim.created <= dt.datetime.now(dt.UTC)


def test_a_repository_that_is_not_known_is_told(cli: Cli, layout: str, key: Path) -> None:
    assert "--reference" in cli("sign", layout, "--key", key).err
    assert cli("sign", layout, "--key", key).err == ""
    assert cli("sign", layout, "--key", key, "--reference", "grove/x").code == 2


def test_attest_signs_what_build_left(cli: Cli, packages: tuple[Path, Path], tmp_path: Path, key: Path) -> None:
    place = f"oci:{tmp_path}/built"
    assert cli("build", *packages, "-o", place, "--provenance").code == 0
    said = json.loads(cli("attest", place, "--key", key, "--json").out)
    assert [item["predicateType"] for item in said["signed"]] == [intoto.SLSA_PROVENANCE]
    assert cli("attest", place, "--key", key).out.startswith(f"already signed {intoto.SLSA_PROVENANCE} of sha256:")
    assert cli("attest", place, "--key", key, *predicate(tmp_path)).out.startswith(
        "signed https://cyclonedx.org/bom of"
    )


def test_attest_refuses(cli: Cli, layout: str, key: Path, tmp_path: Path) -> None:
    nothing = cli("attest", layout, "--key", key)
    assert nothing.code == 6
    assert "ocibuild build --provenance --sbom, or ocibuild sbom --attach" in nothing.err
    half = cli("attest", layout, "--key", key, "--type", "vuln")
    assert (half.code, "--type without --predicate" in half.err) == (2, True)
    half = cli("attest", layout, "--key", key, *predicate(tmp_path)[2:])
    assert (half.code, "--predicate without --type" in half.err) == (2, True)
    assert cli("attest", layout, "--key", key, "--type", "nothing", *predicate(tmp_path)[2:]).code == 2
    missing = cli("attest", layout, "--key", key, "--type", "vuln", "--predicate", tmp_path / "missing")
    assert missing.code == 2
    assert "cannot be read" in missing.err


@pytest.mark.parametrize("raw", [b"", b"[]", b"x", b"\xff", b'{"a":1,"a":2}'])
def test_a_predicate_that_is_none_is_named(cli: Cli, layout: str, key: Path, tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "bad.json").write_bytes(raw)
    refused = cli("attest", layout, "--key", key, "--type", "vuln", "--predicate", tmp_path / "bad.json")
    assert refused.code == 5
    assert f"{tmp_path}/bad.json: " in refused.err
    for text in ("dict", "codec", "Python"):
        assert text not in refused.err


@pytest.mark.usefixtures("_no_passphrase")
@pytest.mark.parametrize("form", [*FORMS, *ENCRYPTED])
@pytest.mark.parametrize("cut", ["whole", "in one line", "a line"])
def test_a_key_in_the_place_of_its_name_is_not_shown(cli: Cli, layout: str, form: str, cut: str) -> None:
    text = {**FORMS, **ENCRYPTED}[form].decode()
    longest = max(text.split(), key=len)
    given = {"whole": text, "in one line": " ".join(text.split()), "a line": longest}[cut]
    for option in ([], ["--json"]):
        refused = cli("sign", layout, f"--key={given}", *option)
        assert refused.code == 2
        assert "Give a file's name, not the key." in refused.err
        for line in text.split():
            assert len(line) < 20 or line not in refused.err + refused.out
        assert not option or json.loads(refused.out)["where"] == "--key"


@pytest.fixture
def _no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OCIBUILD_KEY_PASSPHRASE", "COSIGN_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())


@pytest.mark.usefixtures("_no_passphrase")
@pytest.mark.parametrize("form", ["pkcs8", "cosign"])
def test_the_passphrase_comes_from_the_environment(
    cli: Cli, layout: str, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, ENCRYPTED[form])
    missing = cli("sign", layout, "--key", path)
    assert missing.code == 9
    assert "OCIBUILD_KEY_PASSPHRASE" in missing.err
    monkeypatch.setenv("COSIGN_PASSWORD", SECRET.decode())
    assert cli("sign", layout, "--key", path).code == 0
    monkeypatch.setenv("OCIBUILD_KEY_PASSPHRASE", "wrong horse")  # it comes first
    wrong = cli("sign", layout, "--key", path, "--json")
    assert wrong.code == 9
    assert json.loads(wrong.out)["error"] == "AuthError"
    for text in ("wrong horse", SECRET.decode()):
        assert text not in wrong.out + wrong.err


@pytest.mark.usefixtures("_no_passphrase")
def test_the_passphrase_is_asked_for_on_a_terminal(
    cli: Cli, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    asked = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return SECRET.decode()

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", ask)
    path = write(tmp_path, ENCRYPTED["pkcs8"])
    assert cli("sign", layout, "--key", path).code == 0
    assert asked == [f"Passphrase of {path}: "]
    assert cli("sign", layout, "--key", write(tmp_path, FORMS["sec1"])).code == 0
    assert len(asked) == 1


def test_a_key_that_others_can_read_is_told(cli: Cli, layout: str, tmp_path: Path) -> None:
    path = write(tmp_path, TEST_KEY, mode=0o644)
    with pytest.warns(KeyWarning, match="others can read"):
        assert cli("sign", layout, "--key", path).code == 0


@pytest.mark.parametrize("created", ["yesterday", "-1", "2026-01-02T03:04:05", "99999999999"])
def test_a_time_that_is_none(cli: Cli, layout: str, key: Path, created: str) -> None:
    assert cli("sign", layout, "--key", key, f"--created={created}").code == 2
    assert contents(Path(layout.removeprefix("oci:"))).keys() >= {"index.json"}


def test_nothing_is_written_when_the_key_is_no_good(cli: Cli, layout: str, tmp_path: Path) -> None:
    folder = Path(layout.removeprefix("oci:"))
    before = contents(folder)
    assert cli("sign", layout, "--key", write(tmp_path, b"no key")).code == 2
    assert cli("sign", layout, "--key", tmp_path / "missing").code == 2
    assert contents(folder) == before


def test_signing_loads_what_it_needs_when_it_needs_it() -> None:
    """What builds and pushes never loads a library of cryptography."""
    import subprocess

    code = (
        "import sys, ocibuild.cli.build, ocibuild.cli.push, ocibuild.cli.check, ocibuild.provenance, ocibuild.sign\n"
        "import ocibuild.sign.attach\n"
        "print([name for name in ('cryptography', 'nacl') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == "[]"
