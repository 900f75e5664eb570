"""Functions over stores: reading documents, and walking what an artifact reaches."""

from __future__ import annotations

import io
from collections.abc import Iterator

from ocibuild.errors import ContentError, DocumentError, NotFoundError, UsageError
from ocibuild.oci import Descriptor, Digest, ImageConfig, Index, Manifest, Platform, media_types
from ocibuild.oci.canonical import DOCUMENT_LIMIT, decode

from .base import Artifact, Fetcher, Store

__all__ = [
    "DOCUMENTS",
    "find_platform",
    "identity",
    "platform_images",
    "push_blob",
    "read_blob",
    "read_config",
    "read_document",
    "referrer_of",
    "single_image",
    "walk",
]

DOCUMENTS = media_types.MANIFESTS | media_types.INDEXES
"""The media types that name other blobs."""

GRAPH_LIMIT = 10_000


def read_blob(source: Fetcher, descriptor: Descriptor) -> bytes:
    """A document's bytes, verified.

    Raises:
        DocumentError: It says it is larger than any document that registries must accept.
        NotFoundError, DigestMismatchError: As the source's `fetch`.
    """
    if descriptor.size > DOCUMENT_LIMIT:
        raise DocumentError(
            f"a document of {descriptor.size} bytes", wanted=f"at most {DOCUMENT_LIMIT}", where=descriptor.digest
        )
    with source.fetch(descriptor) as stream:
        return stream.read()


def push_blob(store: Store, raw: bytes, media_type: str) -> Descriptor:
    """Keep bytes that are in memory; their descriptor.

    Raises:
        StoreError: The store cannot be written.
    """
    descriptor = Descriptor.of(raw, media_type)
    store.push(descriptor, io.BytesIO(raw))
    return descriptor


def read_document(source: Fetcher, descriptor: Descriptor) -> Manifest | Index | None:
    """The manifest or index behind a descriptor; None for any other blob.

    Raises:
        DocumentError: The document is not what its descriptor says.
    """
    if descriptor.media_type in media_types.INDEXES:
        document: Manifest | Index = decode(read_blob(source, descriptor), Index, where=descriptor.digest)
    elif descriptor.media_type in media_types.MANIFESTS:
        document = decode(read_blob(source, descriptor), Manifest, where=descriptor.digest)
    else:
        return None
    if document.media_type not in (None, descriptor.media_type):
        raise DocumentError(
            f"mediaType {document.media_type}", wanted=f"{descriptor.media_type}, as named", where=descriptor.digest
        )
    return document


def read_config(source: Fetcher, manifest: Manifest) -> ImageConfig:
    """The configuration of an image.

    Raises:
        DocumentError: The manifest is not an image's, or its configuration is damaged.
    """
    if manifest.config.media_type not in media_types.CONFIGS:
        raise DocumentError(f"a configuration of type {manifest.config.media_type}", wanted=media_types.IMAGE_CONFIG)
    config = decode(read_blob(source, manifest.config), ImageConfig, where=manifest.config.digest)
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        raise DocumentError(
            f"{len(config.rootfs.diff_ids)} diff IDs for {len(manifest.layers)} layers", where=manifest.config.digest
        )
    return config


def walk(source: Fetcher, root: Descriptor) -> Iterator[Descriptor]:
    """Every blob the root reaches, each once, children before what names them. `subject` is not followed.

    What is named as a manifest and as a blob comes as both, as it is two things to a registry.

    Args:
        source: Where documents are read from.
        root: Where to begin.

    Raises:
        ContentError: The graph is larger than any honest one, or an index names a manifest of an unknown type.
        NotFoundError, DigestMismatchError, DocumentError: A manifest is missing or damaged.
    """
    seen: set[tuple[Digest, bool]] = set()
    stack: list[tuple[Descriptor, bool]] = [(root, False)]
    while stack:
        descriptor, children_done = stack.pop()
        if children_done:
            yield descriptor
            continue
        # A digest cannot name itself, so a graph of verified manifests has no cycle; `seen` ends shared branches.
        key = identity(descriptor)
        if key in seen:
            continue
        seen.add(key)
        if len(seen) > GRAPH_LIMIT:
            raise ContentError(f"more than {GRAPH_LIMIT} blobs reached", where=root.digest)
        stack.append((descriptor, True))
        document = read_document(source, descriptor)
        if document is None:
            continue
        children = _children(document)
        if isinstance(document, Index) and (
            unknown := next((c for c in children if c.media_type not in DOCUMENTS), None)
        ):
            # What it names could not be followed: a copy would be incomplete, and a collection would lose it.
            raise DocumentError(f"a manifest of unknown type {unknown.media_type}", where=unknown.digest)
        stack.extend((child, False) for child in reversed(children))


def identity(descriptor: Descriptor) -> tuple[Digest, bool]:
    """What tells apart the things to copy: the digest, and whether it names a document to follow."""
    return descriptor.digest, descriptor.media_type in DOCUMENTS


def _children(document: Manifest | Index) -> tuple[Descriptor, ...]:
    if isinstance(document, Index):
        return document.manifests
    return (document.config, *document.layers)


def find_platform(artifact: Artifact, platform: Platform) -> Artifact:
    """The image of one platform: the artifact itself when it is a single image.

    Raises:
        NotFoundError: No image for it; the message lists the platforms there are.
    """
    found = platform_images(artifact)
    for candidate, image in found:
        if candidate.matches(platform):
            return image
    raise NotFoundError(f"no image for {platform}", wanted=f"one of: {_names(found)}", where=artifact.digest)


def single_image(artifact: Artifact, platform: Platform | None = None) -> Artifact:
    """The image of one platform, which need not be named where there is only one.

    Raises:
        UsageError: Several platforms and none named.
        NotFoundError: No image for the one named.
    """
    if platform is not None:
        return find_platform(artifact, platform)
    found = platform_images(artifact)
    if len(found) == 1:
        return found[0][1]
    hint = f"Add --platform, one of: {_names(found)}"
    raise UsageError(f"{len(found)} platforms", wanted="one of them", where=artifact.digest, hint=hint)


def _names(found: list[tuple[Platform, Artifact]]) -> str:
    return ", ".join(str(platform) for platform, _ in found) or "none"


def platform_images(artifact: Artifact) -> list[tuple[Platform, Artifact]]:
    """The images of an artifact and their platforms; attestations, which name none, are left out."""
    document = read_document(artifact.source, artifact.root)
    if isinstance(document, Index):
        return [
            (child.platform, Artifact(child, artifact.source))
            for child in document.manifests
            if child.platform is not None and child.platform.os != "unknown"
        ]
    if isinstance(document, Manifest):
        return [(read_config(artifact.source, document).platform, artifact)]
    raise UsageError(f"{artifact.root.media_type}", wanted="an image or an index", where=artifact.digest)


def referrer_of(raw: bytes, descriptor: Descriptor) -> tuple[Descriptor, Descriptor] | None:
    """For a manifest or index with a `subject`: the subject, and the descriptor to list for it (image-spec, 1.1)."""
    document: Manifest | Index
    if descriptor.media_type in media_types.INDEXES:
        document = decode(raw, Index, where=descriptor.digest)
    else:
        document = decode(raw, Manifest, where=descriptor.digest)
    if document.subject is None:
        return None
    artifact_type = document.effective_artifact_type if isinstance(document, Manifest) else document.artifact_type
    listed = Descriptor(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size,
        artifact_type=artifact_type,
        annotations=document.annotations,
    )
    return document.subject, listed
