"""What may vouch for an image: the documents attached to it, gathered from any store and bounded; nothing is believed yet.

Sigstore bundles are referrers of the image; cosign's older signatures and attestations are the layers of the manifests
that the tags `sha256-….sig` and `sha256-….att` name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from ocibuild.errors import ContentError, DocumentError, NotFoundError, OcibuildError, UsageError, WrongSignatureError
from ocibuild.oci import Descriptor, Manifest, media_types
from ocibuild.oci.canonical import DOCUMENT_LIMIT
from ocibuild.sign.bundle import BUNDLE
from ocibuild.sign.dsse import ENVELOPE
from ocibuild.sign.simple import SIMPLE_SIGNING
from ocibuild.store import Artifact, Store
from ocibuild.store.attached import attached_tag
from ocibuild.store.graph import read_blob, read_document

__all__ = ["BYTES_LIMIT", "COUNT_LIMIT", "Document", "Evidence", "Refusal", "gather"]

COUNT_LIMIT = 64
"""How many documents an image may have attached."""

BYTES_LIMIT = 16 * 1024 * 1024
"""The bytes of all of them; one has at most `DOCUMENT_LIMIT`."""

# Some clients list a bundle by the media type of its configuration.
_LISTED = (BUNDLE, media_types.EMPTY)
_LAYERS = {"sig": SIMPLE_SIGNING, "att": ENVELOPE}


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One signature or attestation as it was found: its bytes have the digest they are named by, no more is known.

    Attributes:
        kind: `bundle`, `sig` or `att`.
        where: For a person: the manifest, or the tag and layer.
        raw: The bytes.
        annotations: Of the bundle's manifest, or of the layer.
    """

    kind: str
    where: str
    raw: bytes
    annotations: dict[str, str]


class Refusal(msgspec.Struct, frozen=True):
    """A document that does not vouch for the image, and why."""

    where: str
    error: OcibuildError

    def __str__(self) -> str:
        wanted = f", wanted {self.error.wanted}" if self.error.wanted else ""
        return f"{self.where}: {self.error.found}{wanted}"


class Evidence(msgspec.Struct, frozen=True):
    """All documents that can be read, and those that cannot."""

    documents: tuple[Document, ...]
    refused: tuple[Refusal, ...]


def gather(image: Artifact) -> Evidence:
    """What is attached to an image.

    Raises:
        UsageError: The image is in no store.
        DocumentError: More is attached than any honest image has.
        RegistryError, StoreError: The store cannot be read.
    """
    if not hasattr(image.source, "referrers") or not hasattr(image.source, "resolve"):
        raise UsageError("a source that knows no signatures", wanted="an image in a store", where=image.digest)
    found = _Gathering(image)
    found.add_bundles()
    for kind in _LAYERS:
        found.add_layers(kind)
    return Evidence(tuple(found.documents), tuple(found.refused))


class _Gathering:
    """What was found so far, and how much more may be."""

    def __init__(self, image: Artifact) -> None:
        self.image = image
        self.store: Store = image.source  # type: ignore[assignment]
        self.documents: list[Document] = []
        self.refused: list[Refusal] = []
        self._count = self._bytes = 0

    def add_bundles(self) -> None:
        listed: list[Descriptor] = []
        with self._attempt("referrers"):
            listed = self.store.referrers(self.image.root)
        for item in listed:
            if item.artifact_type not in _LISTED:
                continue
            self._claim(item.size)
            where = f"bundle {item.digest}"
            manifest = None
            with self._attempt(where):
                manifest = _bundle_manifest(self.store, item, self.image.root)
            if manifest is not None:
                self._claim(manifest.layers[0].size, count=0)
                self._read("bundle", where, manifest.layers[0], manifest.annotations)

    def add_layers(self, kind: str) -> None:
        tag = attached_tag(self.image.digest, kind)
        layers: tuple[Descriptor, ...] = ()
        with self._attempt(tag):
            try:
                root = self.store.resolve(tag)
            except NotFoundError:
                return
            manifest = read_document(self.store, root)
            if not isinstance(manifest, Manifest):
                raise DocumentError(f"{root.media_type}", wanted="a manifest whose layers are signatures")
            layers = manifest.layers
        for number, layer in enumerate(layers, 1):
            where = f"{tag}, layer {number}"
            self._claim(layer.size)
            if layer.media_type == _LAYERS[kind]:
                self._read(kind, where, layer, layer.annotations)
            else:
                error = DocumentError(f"a layer of type {layer.media_type}", wanted=_LAYERS[kind])
                self.refused.append(Refusal(where, error))

    def _read(self, kind: str, where: str, layer: Descriptor, annotations: dict[str, str] | None) -> None:
        with self._attempt(where):
            raw = read_blob(self.store, layer)
            self.documents.append(Document(kind=kind, where=where, raw=raw, annotations=annotations or {}))

    def _claim(self, size: int, *, count: int = 1) -> None:
        """Count what is about to be read. One that is too large is refused unread, and takes no room."""
        self._count += count
        self._bytes += size if size <= DOCUMENT_LIMIT else 0
        for found, limit, what in ((self._count, COUNT_LIMIT, "signatures"), (self._bytes, BYTES_LIMIT, "bytes")):
            if found > limit:
                raise DocumentError(
                    f"more than {limit} {what} attached",
                    wanted="what can be read with care",
                    where=self.image.digest,
                    hint="Remove those that nobody wants.",
                )

    @contextmanager
    def _attempt(self, where: str) -> Iterator[None]:
        """What is damaged, missing or another image's is told of, and is no end: a good signature may follow."""
        try:
            yield
        except (ContentError, NotFoundError, WrongSignatureError) as error:
            self.refused.append(Refusal(where, error))


def _bundle_manifest(store: Store, listed: Descriptor, subject: Descriptor) -> Manifest | None:
    """The manifest that holds a bundle about the subject; None for a referrer of another kind."""
    manifest = read_document(store, listed)
    if not isinstance(manifest, Manifest):
        raise DocumentError(f"{listed.media_type}", wanted="a manifest that holds a bundle")
    if manifest.effective_artifact_type != BUNDLE and all(item.media_type != BUNDLE for item in manifest.layers):
        if listed.artifact_type == BUNDLE:
            raise DocumentError(f"an artifact of type {manifest.effective_artifact_type}", wanted=BUNDLE)
        return None
    if manifest.subject is None or manifest.subject.digest != subject.digest:
        told = manifest.subject.digest if manifest.subject else "nothing"
        raise WrongSignatureError(f"it refers to {told}", wanted=f"{subject.digest}, which it is listed for")
    if len(manifest.layers) != 1:
        raise DocumentError(f"{len(manifest.layers)} layers", wanted="one, the bundle")
    if manifest.layers[0].media_type != BUNDLE:
        raise DocumentError(f"a layer of type {manifest.layers[0].media_type}", wanted=BUNDLE)
    return manifest
