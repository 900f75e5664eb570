"""Documents attached to an image: each the only layer of a manifest whose `subject` the image is (image-spec, "subject")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ocibuild.oci import Descriptor, Manifest, media_types
from ocibuild.oci.canonical import encode

from .base import Artifact, Store
from .graph import push_blob, read_document

__all__ = ["attach_document", "attached_documents"]

_COUNT_LIMIT = 100
_BYTES_LIMIT = 256 * 1024 * 1024


def attach_document(
    store: Store,
    subject: Descriptor,
    raw: bytes,
    media_type: str,
    *,
    annotations: Mapping[str, str] | None = None,
) -> Descriptor:
    """Keep a document beside an image, found by `referrers` under its media type.

    Args:
        store: Where the image is.
        subject: The image or index.
        raw: The document.
        media_type: Its type, which becomes the artifact type.
        annotations: Of the manifest.

    Returns:
        The descriptor of the manifest that refers to the image.

    Raises:
        StoreError: The store cannot be written.
    """
    manifest = Manifest(
        media_type=media_types.IMAGE_MANIFEST,
        artifact_type=media_type,
        config=push_blob(store, b"{}", media_types.EMPTY),
        layers=(push_blob(store, raw, media_type),),
        subject=subject.bare,
        annotations=dict(annotations) if annotations else None,
    )
    return push_blob(store, encode(manifest), media_types.IMAGE_MANIFEST)


def attached_documents(image: Artifact, media_type: str) -> Iterator[bytes]:
    """The documents of a type that are attached to an image, in the order of their digests: of very many the first ones.

    Raises:
        NotFoundError, ContentError: One is missing or damaged.
    """
    referrers = getattr(image.source, "referrers", None)
    found = referrers(image.root, artifact_type=media_type) if referrers is not None else []
    left = _BYTES_LIMIT
    for item in sorted(found, key=lambda item: item.digest)[:_COUNT_LIMIT]:
        manifest = read_document(image.source, item)
        layer = manifest.layers[0] if isinstance(manifest, Manifest) and manifest.layers else None
        if layer is None or layer.media_type != media_type:
            continue
        left -= layer.size
        if left < 0:
            return
        with image.source.fetch(layer) as stream:
            yield stream.read()
