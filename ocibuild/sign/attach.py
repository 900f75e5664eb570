"""Signing what is in a store, in both formats that verifiers read, and keeping the signatures beside it.

cosign's older format is a layer of the image that the tag `sha256-<hex>.sig` or `.att` names; the newer one a sigstore
bundle in a manifest that refers to the image. Neither alone is read by all: docs/reference/signing.md tells who reads which.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Collection, Iterator
from typing import Final

import msgspec

from ocibuild import intoto
from ocibuild.errors import DocumentError, NotFoundError, UsageError
from ocibuild.oci import Descriptor, Digest, Index, Manifest, Platform
from ocibuild.oci.canonical import decode
from ocibuild.store import Artifact, Store
from ocibuild.store.graph import platform_images, read_blob, read_document

from . import dsse, simple
from .bundle import PREDICATE_ANNOTATION, encode_bundle, parse_bundle
from .dsse import Envelope
from .keep import Kept, keep_bundle, keep_layer
from .keys import PublicKey
from .predicates import predicate_type as full_type
from .predicates import read_predicate
from .signer import BundleSigner, Signer

__all__ = ["FORMATS", "Signed", "attest", "attest_attached", "sign_image"]

FORMATS: Final = ("tag", "bundle")
"""The two formats: an image that a tag names, and a bundle that refers to what is signed."""

_SBOM: Final = "application/vnd.cyclonedx+json"
_REFERRERS_LIMIT = 100


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """What was signed, by whom, and where that is kept.

    Attributes:
        subject: The image or index.
        platform: Its platform, for one image of an index.
        predicate_type: What is said of it; for a signature `intoto.SIGNATURE`.
        fingerprint: Of the public key; empty where the signer brings a bundle of its own.
        tag: The tag of the older format, and what it names now; None where it was not asked for.
        bundle: The manifest of the newer format, likewise.
        added: The formats that were written; those left were there already.
    """

    subject: Descriptor
    platform: Platform | None = None
    predicate_type: str
    fingerprint: str
    tag: tuple[str, Descriptor] | None = None
    bundle: Descriptor | None = None
    added: tuple[str, ...] = ()


def sign_image(
    image: Artifact,
    store: Store,
    signer: Signer | BundleSigner,
    *,
    reference: str = "",
    each_platform: bool = False,
    created: dt.datetime | None = None,
    formats: Collection[str] = FORMATS,
) -> list[Signed]:
    """Sign an image or index. A valid signature of the same key that is there is not added again.

    Args:
        image: What to sign.
        store: Where the signatures go: the store that the image is in.
        signer: Who signs.
        reference: The repository, with its registry, that the older format names.
        each_platform: Sign also each platform's image of an index.
        created: When; left out where None.
        formats: Those to write.

    Returns:
        What was signed: the image, then its platforms.

    Raises:
        UsageError: A format that is none, a time without zone, or a signer whose signature its own key does not verify.
        NotFoundError, ContentError: The image, or what is attached to it, is missing or damaged.
        StoreError, RegistryError: The store cannot be read or written.
    """
    writer = _Writer(store, signer, created, formats)
    return [
        writer.write(
            subject,
            platform,
            intoto.statement(subject, intoto.SIGNATURE, {}),
            claim=simple.encode(subject.digest, reference, created),
        )
        for subject, platform in _subjects(image, each_platform=each_platform)
    ]


def attest(
    image: Artifact,
    store: Store,
    signer: Signer | BundleSigner,
    predicate_type: str,
    predicate: bytes,
    *,
    created: dt.datetime | None = None,
    formats: Collection[str] = FORMATS,
) -> Signed:
    """Sign what is said of an image.

    Args:
        image: What it is said of.
        store: Where it goes: the store that the image is in.
        signer: Who signs.
        predicate_type: What is said: a URI, or a short name of `PREDICATE_TYPES`.
        predicate: A JSON object's bytes; for the type `custom` any text.
        created: When; left out where None.
        formats: Those to write.

    Raises:
        DocumentError: The predicate is no JSON object, or larger than what can be read again.
        UsageError, NotFoundError, ContentError, StoreError, RegistryError: As `sign_image`.
    """
    writer = _Writer(store, signer, created, formats)
    kind = full_type(predicate_type)
    statement = intoto.statement(image.root, kind, read_predicate(kind, predicate, created))
    return writer.write(image.root.bare, None, statement)


def attest_attached(
    image: Artifact,
    store: Store,
    signer: Signer | BundleSigner,
    *,
    created: dt.datetime | None = None,
    formats: Collection[str] = FORMATS,
) -> list[Signed]:
    """Sign what is attached unsigned to an image and to its platforms: SLSA provenance and CycloneDX SBOMs.

    A statement is signed in its own bytes; an SBOM becomes the predicate of one. Whoever could write to the store could
    attach them: sign where they were made, before the image is pushed.

    Args:
        image: The image or index.
        store: The store that it is in.
        signer: Who signs.
        created: When; left out where None.
        formats: Those to write.

    Raises:
        NotFoundError: Nothing of the kind is attached, or it is missing.
        DocumentError: What is attached is damaged, or about another image.
        UsageError, ContentError, StoreError, RegistryError: As `sign_image`.
    """
    writer = _Writer(store, signer, created, formats)
    found = [
        (subject, platform, statement)
        for subject, platform in _subjects(image, each_platform=True)
        for statement in _attached(store, subject)
    ]
    if not found:
        raise NotFoundError(
            "neither provenance nor an SBOM is attached",
            wanted="one of them",
            where=image.digest,
            hint="They are attached by: ocibuild build --provenance, and ocibuild sbom. Anything else: --predicate.",
        )
    return [writer.write(subject, platform, statement) for subject, platform, statement in found]


def _subjects(image: Artifact, *, each_platform: bool) -> list[tuple[Descriptor, Platform | None]]:
    """What is to be signed: the root, then the platforms' images, each once."""
    document = read_document(image.source, image.root)
    if document is None:
        raise UsageError(f"{image.root.media_type}", wanted="an image or an index", where=image.digest)
    found: dict[Digest, tuple[Descriptor, Platform | None]] = {image.digest: (image.root.bare, None)}
    if each_platform and isinstance(document, Index):
        for platform, child in platform_images(image):
            found.setdefault(child.digest, (child.root.bare, platform))
    return list(found.values())


def _attached(store: Store, subject: Descriptor) -> Iterator[bytes]:
    """The statements to sign: those attached, and one for each SBOM."""
    for kind in (intoto.PAYLOAD_TYPE, _SBOM):
        listed = store.referrers(subject, artifact_type=kind)
        if len(listed) > _REFERRERS_LIMIT:
            wanted = f"at most {_REFERRERS_LIMIT} to sign"
            raise DocumentError(f"{len(listed)} documents of type {kind} attached", wanted=wanted, where=subject.digest)
        for item in listed:
            manifest = read_document(store, item)
            if not isinstance(manifest, Manifest) or [layer.media_type for layer in manifest.layers] != [kind]:
                raise DocumentError("an attached document that is not one blob", wanted=kind, where=item.digest)
            if manifest.subject is None or manifest.subject.digest != subject.digest:
                raise DocumentError("a document about another image", wanted=subject.digest, where=item.digest)
            raw = read_blob(store, manifest.layers[0])
            if kind == _SBOM:
                yield intoto.statement(subject, intoto.CYCLONEDX, _sbom(raw, item.digest))
                continue
            statement = intoto.parse_statement(raw, where=item.digest)
            if statement.predicate_type == intoto.SLSA_PROVENANCE:
                if not statement.is_about(subject.digest):
                    raise DocumentError("a statement about another image", wanted=subject.digest, where=item.digest)
                yield raw


def _sbom(raw: bytes, where: object) -> dict[str, object]:
    found: dict[str, object] = decode(raw, dict, where=where)
    if found.get("bomFormat") != "CycloneDX":
        raise DocumentError("an SBOM that is none of CycloneDX", wanted='"bomFormat": "CycloneDX"', where=where)
    return found


class _Writer:
    """A signer, and the store that its signatures go to."""

    def __init__(
        self, store: Store, signer: Signer | BundleSigner, created: dt.datetime | None, formats: Collection[str]
    ) -> None:
        if unknown := [name for name in formats if name not in FORMATS]:
            raise UsageError(f"the format {unknown[0]!r}", wanted=f"one of: {', '.join(FORMATS)}")
        if created is not None and created.tzinfo is None:
            raise UsageError("a time without its zone", wanted="a datetime with tzinfo", where="created")
        self.store, self.signer, self.created, self.formats = store, signer, created, formats
        if isinstance(signer, BundleSigner):
            self.key = None
            if tuple(formats) == ("tag",):
                raise UsageError("a signer of bundles", wanted="a key, for the format 'tag'")
        else:
            self.key = PublicKey.from_der(signer.public_key, where="signer")

    def write(
        self, subject: Descriptor, platform: Platform | None, statement: bytes, *, claim: bytes | None = None
    ) -> Signed:
        """Sign a statement, and for a signature the claim of the older format; keep what is not there already."""
        kind = intoto.parse_statement(statement).predicate_type
        added, layer, bundle = [], None, None
        # The older one first: who finds a bundle does not look for it any more.
        if "tag" in self.formats and self.key is not None:
            layer = self._claim(subject, claim) if claim is not None else self._attestation(subject, statement, kind)
            added += ["tag"] if layer.is_new else []
        if "bundle" in self.formats:
            bundle = self._bundle(subject, statement, kind)
            added += ["bundle"] if bundle.is_new else []
        return Signed(
            subject=subject,
            platform=platform,
            predicate_type=kind,
            fingerprint=self.key.fingerprint if self.key else "",
            tag=(layer.name, layer.descriptor) if layer else None,
            bundle=bundle.descriptor if bundle else None,
            added=tuple(added),
        )

    def _sign(self, payload: bytes) -> bytes:
        assert self.key is not None
        assert isinstance(self.signer, Signer)
        signature = self.signer.sign(payload)
        if not self.key.verify(signature, payload):
            raise UsageError(
                "a signer whose signature its public key does not verify",
                wanted="ECDSA on P-256 over the SHA-256 of the payload, in DER",
                where=self.key.fingerprint,
            )
        return signature

    def _claim(self, subject: Descriptor, claim: bytes) -> Kept:
        ours, key = simple.parse(claim), self.key
        assert key is not None

        def is_ours(raw: bytes, annotations: dict[str, str]) -> bool:
            found = simple.parse(raw)
            signature = dsse.base64_bytes(annotations.get(simple.SIGNATURE_ANNOTATION, ""), where="signature")
            is_same = (found.digest, found.reference) == (ours.digest, ours.reference)
            return is_same and key.verify(signature, raw)

        def make() -> tuple[bytes, dict[str, str]]:
            return claim, {simple.SIGNATURE_ANNOTATION: base64.b64encode(self._sign(claim)).decode()}

        return keep_layer(self.store, subject, "sig", simple.SIMPLE_SIGNING, is_ours, make)

    def _attestation(self, subject: Descriptor, statement: bytes, kind: str) -> Kept:
        def is_ours(raw: bytes, _: dict[str, str]) -> bool:
            return self._says(dsse.parse(raw), statement, subject)

        def make() -> tuple[bytes, dict[str, str]]:
            # cosign wants the annotation of a signature, which is in the envelope.
            return dsse.encode(self._envelope(statement)), {"predicateType": kind, simple.SIGNATURE_ANNOTATION: ""}

        return keep_layer(self.store, subject, "att", dsse.ENVELOPE, is_ours, make)

    def _bundle(self, subject: Descriptor, statement: bytes, kind: str) -> Kept:
        def is_ours(raw: bytes, annotations: dict[str, str]) -> bool:
            if annotations.get(PREDICATE_ANNOTATION, kind) != kind:
                return False
            return self._says(parse_bundle(raw).envelope, statement, subject)

        def make() -> bytes:
            if isinstance(self.signer, BundleSigner):
                raw = self.signer.sign_statement(statement)
                if parse_bundle(raw, where="signer").envelope.payload != statement:
                    raise UsageError("a signer that has signed something else", wanted="a bundle over the statement")
                return raw
            assert self.key is not None
            return encode_bundle(self._envelope(statement), self.key.hint)

        return keep_bundle(self.store, subject, kind, self.created, is_ours, make)

    def _envelope(self, statement: bytes) -> Envelope:
        signature = self._sign(dsse.pae(intoto.PAYLOAD_TYPE, statement))
        return Envelope(payload_type=intoto.PAYLOAD_TYPE, payload=statement, signatures=(("", signature),))

    def _says(self, envelope: Envelope, statement: bytes, subject: Descriptor) -> bool:
        """Whether an envelope says the same of the same image, signed by our key."""
        if self.key is None or envelope.payload_type != intoto.PAYLOAD_TYPE:
            return False
        ours, found = intoto.parse_statement(statement), intoto.parse_statement(envelope.payload)
        is_same = (ours.predicate_type, ours.predicate) == (found.predicate_type, found.predicate)
        if not is_same or not found.is_about(subject.digest):
            return False
        return any(self.key.verify(signature, envelope.signed) for _, signature in envelope.signatures)
