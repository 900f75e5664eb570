"""Images of signatures under one tag: what two of them hold, in one.

cosign keeps every signature of an image as a layer of the image that `sha256-….sig` names, every attestation as one of
`.att`. Who writes such a tag anew would drop what others have signed.
"""

from __future__ import annotations

import io
from typing import Any

import msgspec

from ocibuild.errors import DocumentError
from ocibuild.oci import Descriptor, Digest, Manifest, media_types
from ocibuild.oci.canonical import decode, encode

from .base import Fetcher, Store
from .graph import push_blob, read_blob, read_document

__all__ = ["Merged", "merge"]

_NO_TIME = "0001-01-01T00:00:00Z"


class Merged(msgspec.Struct, frozen=True):
    """An image of signatures that is to be written: its documents, and the layers that the store lacks."""

    config: bytes
    manifest: Manifest
    layers: tuple[Descriptor, ...]

    def write(self, source: Fetcher, store: Store, tag: str) -> Descriptor:
        """Put it into a store and name it.

        Raises:
            StoreError, RegistryError: The store cannot be written.
        """
        root = self.put(source, store)
        store.tag(root, tag)
        return root

    def put(self, source: Fetcher, store: Store) -> Descriptor:
        """Put it into a store, the missing layers taken from a source; it has no name yet.

        Raises:
            StoreError, RegistryError: The store cannot be written.
        """
        for layer in self.layers:
            if not store.exists(layer):
                with source.fetch(layer) as content:
                    store.push(layer, content)
        push_blob(store, self.config, self.manifest.config.media_type)
        raw = encode(self.manifest)
        root = Descriptor.of(raw, media_types.IMAGE_MANIFEST)
        store.push(root, io.BytesIO(raw))
        return root


def merge(source: Fetcher, ours: Descriptor, store: Fetcher, theirs: Descriptor) -> Descriptor | Merged:
    """One image of signatures out of two: theirs, then those of ours that are not among them.

    Args:
        source: Where ours is.
        ours: The image that is to come.
        store: Where theirs is.
        theirs: The one that the tag names there.

    Returns:
        One of the two given, where it holds all that the other has; else a new one, not written yet.

    Raises:
        DocumentError: One of them is no image of signatures.
        NotFoundError, DigestMismatchError: One of them is missing or damaged.
    """
    if ours.digest == theirs.digest:
        return theirs
    new, there = _manifest(source, ours), _manifest(store, theirs)
    known = {_identity(layer) for layer in there.layers}
    added = [place for place, layer in enumerate(new.layers) if _identity(layer) not in known]
    if not added:
        return theirs
    if known <= {_identity(layer) for layer in new.layers}:
        return ours
    config = _config(store, there)
    if config is not None:
        diff_ids = _diff_ids(_config(source, new), new)
        config["rootfs"]["diff_ids"] += [diff_ids[place] for place in added]
        if isinstance(history := config.get("history"), list):
            history += [{"created": _NO_TIME} for _ in added]
    raw = read_blob(store, there.config) if config is None else encode(config)
    layers = tuple(new.layers[place] for place in added)
    described = Descriptor.of(raw, there.config.media_type)
    manifest = msgspec.structs.replace(there, config=described, layers=(*there.layers, *layers))
    return Merged(raw, msgspec.structs.replace(manifest, media_type=media_types.IMAGE_MANIFEST), layers)


def _manifest(source: Fetcher, descriptor: Descriptor) -> Manifest:
    document = read_document(source, descriptor)
    if not isinstance(document, Manifest):
        raise DocumentError(f"{descriptor.media_type}", wanted="an image of signatures", where=descriptor.digest)
    return document


def _identity(layer: Descriptor) -> tuple[str, Digest, bytes]:
    """What tells one signature from another: the same payload may be signed by several."""
    return layer.media_type, layer.digest, encode(layer.annotations or {})


def _config(source: Fetcher, manifest: Manifest) -> dict[str, Any] | None:
    """The configuration, where it is one of an image that can take more layers."""
    if manifest.config.media_type not in media_types.CONFIGS:
        return None
    found = decode(read_blob(source, manifest.config), dict, where=manifest.config.digest)
    rootfs = found.get("rootfs")
    if not isinstance(rootfs, dict) or not isinstance(rootfs.get("diff_ids"), list):
        raise DocumentError("a configuration without diff IDs", wanted="an image's", where=manifest.config.digest)
    return found


def _diff_ids(config: dict[str, Any] | None, manifest: Manifest) -> list[Any]:
    """The layers' diff IDs; they are not compressed, so that their digests will do."""
    found = config["rootfs"]["diff_ids"] if config is not None else []
    return found if len(found) == len(manifest.layers) else [layer.digest for layer in manifest.layers]
