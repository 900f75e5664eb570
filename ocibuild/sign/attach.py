"""Signing what is in a store, in both formats that verifiers read, and keeping the signatures beside it.

cosign's older format is a layer of the image that the tag `sha256-<hex>.sig` or `.att` names; the newer one a sigstore
bundle in a manifest that refers to the image. Neither alone is read by all: docs/reference/signing.md tells who reads which.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Collection, Iterator
from typing import Any

from ocibuild import cyclonedx, intoto
from ocibuild.errors import DocumentError, NotFoundError, UsageError
from ocibuild.oci import Descriptor, Digest, Index, Manifest, Platform
from ocibuild.store import Artifact, Store
from ocibuild.store.graph import platform_images, read_blob, read_document

from . import simple
from .predicates import predicate_type as full_type
from .predicates import read_object, read_predicate
from .signer import BundleSigner, Signer
from .writer import FORMATS, Signed, Writer

__all__ = ["FORMATS", "Signed", "attest", "attest_attached", "sign_image"]

_REFERRERS_LIMIT = 100


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
        NotFoundError, ContentError: The image is missing or damaged; or what the tag of the older format names is of no
            use, and then the bundles are written all the same.
        StoreError, RegistryError: The store cannot be read or written.
    """
    writer = Writer(store, signer, created, formats)
    signed = [
        writer.write(
            subject,
            platform,
            intoto.statement(subject, intoto.SIGNATURE, {}),
            claim=simple.encode(subject.digest, reference, created),
        )
        for subject, platform in _subjects(image, each_platform=each_platform)
    ]
    writer.check()
    return signed


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
    writer = Writer(store, signer, created, formats)
    kind = full_type(predicate_type)
    statement = intoto.statement(image.root, kind, read_predicate(kind, predicate, created))
    signed = writer.write(image.root.bare, None, statement)
    writer.check()
    return signed


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
        DocumentError: What is attached is damaged, about another image or several, or a statement in other bytes than ours.
        UsageError, ContentError, StoreError, RegistryError: As `sign_image`.
    """
    writer = Writer(store, signer, created, formats)
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
            hint="Attach them: ocibuild build --provenance --sbom, or ocibuild sbom --attach. Anything else: --predicate.",
        )
    signed = [writer.write(subject, platform, statement) for subject, platform, statement in found]
    writer.check()
    return signed


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
    for kind in (intoto.PAYLOAD_TYPE, cyclonedx.MEDIA_TYPE):
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
            if kind == cyclonedx.MEDIA_TYPE:
                yield intoto.statement(subject, intoto.CYCLONEDX, _sbom(raw, subject, item.digest))
                continue
            statement = intoto.parse_statement(raw, where=item.digest)
            if statement.predicate_type == intoto.SLSA_PROVENANCE:
                _check_statement(raw, statement, subject, item.digest)
                yield raw


def _check_statement(raw: bytes, statement: intoto.Statement, subject: Descriptor, where: Digest) -> None:
    """Refuse to sign what says more than that which is read in it, or says it of more: anybody may have attached it."""
    wanted = f"one about {subject.digest} alone"
    if len(statement.subjects) != 1:
        raise DocumentError(f"a statement about {len(statement.subjects)} images", wanted=wanted, where=where)
    if not statement.is_about(subject.digest):
        raise DocumentError("a statement about another image", wanted=subject.digest, where=where)
    with contextlib.suppress(UsageError):
        if raw == intoto.statement(subject, statement.predicate_type, statement.predicate):
            return
    others = sorted(read_object(raw, where=where).keys() - {"_type", "subject", "predicateType", "predicate"})
    if others:
        found = f"a statement with other fields: {', '.join(repr(name[:40]) for name in others[:5])}"
    elif statement.subjects[0] != intoto.Subject(digest={subject.digest.algorithm: subject.digest.encoded}):
        found = "a statement whose subject has more than a digest"
    else:
        found = "a statement in other bytes than the canonical ones"
    raise DocumentError(
        found,
        wanted="one as ocibuild build --provenance writes it",
        where=where,
        hint="What it says is signed with: --type slsaprovenance1 --predicate FILE",
    )


def _sbom(raw: bytes, subject: Descriptor, where: Digest) -> dict[str, Any]:
    found = read_object(raw, where=where)
    if found.get("bomFormat") != "CycloneDX":
        raise DocumentError("an SBOM that is none of CycloneDX", wanted='"bomFormat": "CycloneDX"', where=where)
    if not cyclonedx.is_about(raw, subject.digest):
        named = [name[:100] for name in sorted(cyclonedx.subject_digests(raw))]
        raise DocumentError(
            f"an SBOM about {', '.join(named[:3])}" if named else "an SBOM that does not say which image it is about",
            wanted=f"{subject.digest} in metadata.component.hashes",
            where=where,
            hint="What it says is signed with: --type cyclonedx --predicate FILE",
        )
    return found
