"""Where signatures are kept: as a layer of the image that a tag names, and as a manifest that refers to what is signed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Final

import msgspec

from ocibuild.errors import ContentError, DocumentError, NotFoundError, StoreError
from ocibuild.oci import Descriptor, Manifest, media_types
from ocibuild.oci.annotations import CREATED
from ocibuild.oci.canonical import encode
from ocibuild.store import Artifact, MemoryStore, Store, copy
from ocibuild.store.attached import attached_tag
from ocibuild.store.base import Retagging
from ocibuild.store.documents import attach_document
from ocibuild.store.graph import push_blob, read_blob, read_document
from ocibuild.store.merge import Merged, merge
from ocibuild.times import rfc3339

from .bundle import BUNDLE, CONTENT_ANNOTATION, PREDICATE_ANNOTATION

__all__ = ["Kept", "keep_bundle", "keep_layer"]

_NO_TIME: Final = "0001-01-01T00:00:00Z"
_READ_LIMIT = 100
_BYTES_LIMIT = 32 * 1024 * 1024
_TRIES = 20
# cosign lists its bundles by the media type of their configuration, where a registry has no referrers API.
_LISTED: Final = (BUNDLE, media_types.EMPTY)

IsOurs = Callable[[bytes, dict[str, str]], bool]
"""Tells from a document and its annotations whether it is the signature that is to be made."""


class Kept(msgspec.Struct, frozen=True):
    """Where a signature is.

    Attributes:
        descriptor: The manifest that holds it.
        name: The tag of that, if any.
        is_new: Whether it was not there before.
    """

    descriptor: Descriptor
    name: str = ""
    is_new: bool = True


def keep_layer(
    store: Store,
    subject: Descriptor,
    kind: str,
    media_type: str,
    is_ours: IsOurs,
    make: Callable[[], tuple[bytes, dict[str, str]]],
) -> Kept:
    """Add a signature to the image of signatures; those there stay as they are.

    Args:
        store: Where it is.
        subject: What is signed.
        kind: `sig` or `att`.
        media_type: Of the layer.
        is_ours: Whether a layer is the one to be made.
        make: The layer's bytes and annotations.

    Raises:
        DocumentError: The tag names something else, or what nothing can be added to.
        StoreError: Others write the tag again and again.
    """
    name = attached_tag(subject.digest, kind)
    there = _named(store, name)
    if there is not None and _has(store, there, media_type, is_ours):
        return Kept(there, name, is_new=False)
    raw, annotations = make()
    memory = MemoryStore()
    layer = msgspec.structs.replace(push_blob(memory, raw, media_type), annotations=annotations)
    ours = _signature_image(memory, layer)
    # Signing may have taken long, and others may have signed meanwhile.
    there, is_new = _named(store, name), False
    for _ in range(_TRIES):
        if there is not None and layer in _layers(store, there):
            return Kept(there, name, is_new=is_new)
        is_new = _write(memory, store, ours, there, name) or is_new
        # Nothing locks the tag of a registry: somebody may have written theirs over ours.
        there = _named(store, name)
    if there is not None and layer in _layers(store, there):
        return Kept(there, name, is_new=is_new)
    raise StoreError("the tag of the signatures changes all the time", where=name, hint="Sign again.")


def _write(memory: MemoryStore, store: Store, ours: Descriptor, there: Descriptor | None, name: str) -> bool:
    """Put our image of signatures, merged with the one that is there, in its place; False where that has changed."""
    made = ours if there is None else merge(memory, ours, store, there)
    if made == there:
        raise DocumentError("our signature, described otherwise", wanted="none, or a whole one", where=made.digest)
    if isinstance(made, Merged):
        root = made.put(memory, store)
    else:
        root = made
        copy(Artifact(root, memory), store)
    if isinstance(store, Retagging):
        return store.retag(root, name, there)
    store.tag(root, name)
    return True


def _signature_image(memory: MemoryStore, layer: Descriptor) -> Descriptor:
    """An image of one signature, in the form that cosign gives it."""
    config = {
        "architecture": "",
        "config": {},
        "created": _NO_TIME,
        "history": [{"created": _NO_TIME}],
        "os": "",
        "rootfs": {"diff_ids": [str(layer.digest)], "type": "layers"},
    }
    manifest = Manifest(
        media_type=media_types.IMAGE_MANIFEST,
        config=push_blob(memory, encode(config), media_types.IMAGE_CONFIG),
        layers=(layer,),
    )
    return push_blob(memory, encode(manifest), media_types.IMAGE_MANIFEST)


def _named(store: Store, name: str) -> Descriptor | None:
    try:
        return store.resolve(name)
    except NotFoundError:
        return None


def _layers(store: Store, image: Descriptor) -> tuple[Descriptor, ...]:
    document = read_document(store, image)
    if not isinstance(document, Manifest):
        raise DocumentError(f"{image.media_type}", wanted="an image of signatures", where=image.digest)
    return document.layers


def _has(store: Store, image: Descriptor, media_type: str, is_ours: IsOurs) -> bool:
    layers = [layer for layer in _layers(store, image) if layer.media_type == media_type]
    return any(_is(store, layer, layer.annotations, is_ours) for layer in _readable(layers))


def _readable(items: list[Descriptor]) -> list[Descriptor]:
    """As many as are looked through for a signature that need not be made again."""
    found, left = [], _BYTES_LIMIT
    for item in items[:_READ_LIMIT]:
        left -= item.size
        if left < 0:
            break
        found.append(item)
    return found


def _is(store: Store, blob: Descriptor, annotations: dict[str, str] | None, is_ours: IsOurs) -> bool:
    """What cannot be read is not the one: it stays, and ours is added."""
    try:
        return is_ours(read_blob(store, blob), annotations or {})
    except (ContentError, NotFoundError):
        return False


def keep_bundle(
    store: Store,
    subject: Descriptor,
    predicate_type: str,
    created: dt.datetime | None,
    is_ours: IsOurs,
    make: Callable[[], bytes],
) -> Kept:
    """Add a bundle that refers to what is signed.

    Args:
        store: Where both are.
        subject: What is signed.
        predicate_type: What the bundle says of it.
        created: When; left out where None.
        is_ours: Whether a bundle is the one to be made.
        make: The bundle's bytes.

    Raises:
        StoreError, RegistryError: The store cannot be read or written.
    """
    for item in _readable([item for item in store.referrers(subject) if item.artifact_type in _LISTED]):
        try:
            manifest = read_document(store, item)
        except (ContentError, NotFoundError):
            continue
        if not isinstance(manifest, Manifest) or len(manifest.layers) != 1 or manifest.subject is None:
            continue
        layer = manifest.layers[0]
        is_bundle = layer.media_type == BUNDLE and manifest.subject.digest == subject.digest
        if is_bundle and _is(store, layer, manifest.annotations, is_ours):
            return Kept(item.bare, is_new=False)
    annotations = {CONTENT_ANNOTATION: "dsse-envelope", PREDICATE_ANNOTATION: predicate_type}
    if created is not None:
        annotations[CREATED] = rfc3339(created)
    return Kept(attach_document(store, subject, make(), BUNDLE, annotations=annotations))
