"""Layers that a store has already: found by the diff ID that its images' configurations name, believed by their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import partial

from ocibuild.errors import ContentError, NotFoundError, StoreError
from ocibuild.layer import Compression, Entry, Layer, plan
from ocibuild.layer.compress import compress
from ocibuild.layer.tar import BlockPool, tar_blocks
from ocibuild.layer.workers import Workers
from ocibuild.oci import Descriptor, Digest, Manifest, Platform

from .attached import is_attached_tag
from .base import Artifact, LocalStore
from .graph import platform_images, read_config, read_document

__all__ = ["find_layer", "known_layers"]

_IMAGES_LIMIT = 100


def known_layers(store: LocalStore, platform: Platform, compression: Compression) -> dict[Digest, Descriptor]:
    """The layers of a store's images for a platform, by diff ID; images that cannot be read are passed over.

    Args:
        store: Where to look.
        platform: The platform of the images.
        compression: How the layers are compressed. zstd frames are not known by their beginning, so none is given.
    """
    found: dict[Digest, Descriptor] = {}
    try:
        roots = {item.digest: item for name, item in store.tags().items() if not is_attached_tag(name)}
    except (ContentError, NotFoundError, StoreError):
        return found
    for root in list(roots.values())[:_IMAGES_LIMIT] if compression is not Compression.ZSTD else ():
        try:
            for name, image in platform_images(Artifact(root, store)):
                manifest = read_document(store, image.root)
                if name.matches(platform) and isinstance(manifest, Manifest):
                    config = read_config(store, manifest)
                    pairs = zip(config.rootfs.diff_ids, manifest.layers, strict=True)
                    found.update({key: layer for key, layer in pairs if layer.media_type == compression.media_type})
        except (ContentError, NotFoundError, StoreError, ValueError):
            continue
    return found


def find_layer(
    entries: Iterable[Entry],
    known: Mapping[Digest, Descriptor],
    store: LocalStore,
    *,
    compression: Compression,
    mtime: int,
    workers: Workers,
) -> Layer | None:
    """The layer of the given entries, if it is among those known; this costs reading and hashing, no compression.

    A layer that another program compressed is passed over: what is built does not depend on what was there. It is told by
    the first block, which is compressed and compared.

    Raises:
        EntryError: A file cannot be read.
    """
    # Most often there is one: its blob is read meanwhile.
    likely = next(iter(known.values()))
    begun = workers.submit(partial(store.exists, likely))
    hasher = hashlib.sha256()
    size = 0
    pool = BlockPool()
    beginning = b""
    for block in tar_blocks(plan(entries), pool=pool, mtime=mtime):
        beginning = beginning or b"".join(compress([block], compression))
        hasher.update(block)
        size += len(block)
        pool.give(block)
    diff_id = Digest.from_hash(hasher)
    descriptor = known.get(diff_id)
    if descriptor is None:
        return None
    # One that is gone or damaged is built anew, which replaces it.
    if not (begun.result() if descriptor == likely else store.exists(descriptor)):
        return None
    with store.fetch(descriptor) as stream:
        if stream.read(len(beginning)) != beginning:
            return None
    return Layer(descriptor=descriptor, diff_id=diff_id, uncompressed_size=size)
