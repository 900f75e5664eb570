"""Assembly: layers become an image, images become an index. Pure, but for the store they are written into."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ocibuild.errors import UsageError
from ocibuild.layer.build import Layer
from ocibuild.oci import (
    Descriptor,
    History,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    RootFS,
    RuntimeConfig,
    media_types,
)
from ocibuild.oci.canonical import encode
from ocibuild.store.base import Artifact, LocalStore
from ocibuild.store.graph import push_blob, read_config, read_document
from ocibuild.store.spool import Spool
from ocibuild.store.transfer import copy

__all__ = ["build_image", "build_index"]

CREATED_BY = "ocibuild"
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def build_image(
    layers: Iterable[Layer],
    *,
    platform: Platform,
    into: LocalStore | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    user: str | None = None,
    created: str | None = None,
) -> Artifact:
    """An image of the given layers for one platform.

    Args:
        layers: Lowest first, from `build_layer`; their blobs are in `into`.
        platform: What the image runs on.
        into: The store to write to; without one, a spool that lives as long as the artifact.
        labels: The configuration's labels.
        annotations: The manifest's annotations.
        user: The configuration's user, such as `65532:65532`.
        created: RFC 3339 date and time; left out when unknown.

    Returns:
        The image; its root is the manifest's descriptor with the platform.

    Raises:
        UsageError: A time that is none, or text that is not UTF-8.
        StoreError: The store cannot be written.

    Example:
        >>> image = build_image([], platform=Platform.parse("linux/arm64"), labels={"a": "b"})
        >>> image.root.platform.architecture
        'arm64'
    """
    store = into if into is not None else Spool()
    platform = platform.normalized()
    if created and not _RFC3339.fullmatch(created):
        raise UsageError(f"the time {created!r}", wanted="RFC 3339, such as 2024-01-31T12:00:00Z")
    created = created or None
    built = tuple(layers)
    runtime = RuntimeConfig(user=user or None, labels=dict(labels) if labels else None)
    config = ImageConfig(
        architecture=platform.architecture,
        os=platform.os,
        variant=platform.variant or None,
        os_version=platform.os_version or None,
        os_features=platform.os_features or None,
        created=created,
        config=runtime if runtime != RuntimeConfig() else None,
        rootfs=RootFS(type="layers", diff_ids=tuple(layer.diff_id for layer in built)),
        history=tuple(History(created=created, created_by=CREATED_BY) for _ in built) or None,
    )
    manifest = Manifest(
        media_type=media_types.IMAGE_MANIFEST,
        config=push_blob(store, encode(config), media_types.IMAGE_CONFIG),
        layers=tuple(layer.descriptor for layer in built),
        annotations=dict(annotations) if annotations else None,
    )
    root = push_blob(store, encode(manifest), media_types.IMAGE_MANIFEST)
    return Artifact(_for_platform(root, platform), store)


def build_index(
    images: Iterable[Artifact],
    *,
    into: LocalStore | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Artifact:
    """An index of images, one a platform, sorted by platform.

    Args:
        images: From `build_image`, or read from any store.
        into: The store to write to; images that are elsewhere are copied there. Without one, a spool.
        annotations: The index's annotations.

    Raises:
        UsageError: Two images for one platform, or something that is not an image.
        StoreError: The store cannot be written.

    Example:
        >>> images = [build_image([], platform=Platform.parse(name)) for name in ("arm64", "amd64")]
        >>> build_index(images).root.media_type
        'application/vnd.oci.image.index.v1+json'
    """
    store = into if into is not None else Spool()
    manifests: dict[Platform, Descriptor] = {}
    for image in images:
        document = read_document(image.source, image.root)
        if not isinstance(document, Manifest):
            raise UsageError(f"{image.root.media_type}", wanted="an image manifest", where=image.digest)
        platform = (image.root.platform or read_config(image.source, document).platform).normalized()
        if platform in manifests:
            raise UsageError(f"two images for {platform}", wanted="one a platform", where=image.digest)
        manifests[platform] = _for_platform(image.root, platform)
        copy(image, store)
    index = Index(
        media_type=media_types.IMAGE_INDEX,
        manifests=tuple(
            manifests[platform] for platform in sorted(manifests, key=lambda item: (str(item), item.os_version or ""))
        ),
        annotations=dict(annotations) if annotations else None,
    )
    return Artifact(push_blob(store, encode(index), media_types.IMAGE_INDEX), store)


def _for_platform(root: Descriptor, platform: Platform) -> Descriptor:
    bare = root.bare
    return Descriptor(
        media_type=bare.media_type,
        digest=bare.digest,
        size=bare.size,
        platform=platform,
        artifact_type=root.artifact_type,
    )
