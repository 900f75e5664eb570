"""What the layers of an image hold: members as they come, and the files that remain when all layers are applied.

Layers are read as streams and never unpacked here. A layer's blob digest and diff ID have both been verified when its
last member has been handed on.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from .applied import AppliedTree, Placed
from .errors import UsageError
from .layer.read import Budget, Member, VerifiedArchive, read_members
from .oci import Descriptor, Digest, ImageConfig, Manifest
from .store import Artifact, Fetcher
from .store.graph import read_config, read_document

__all__ = ["Placed", "file_tree", "layer_members", "place_members", "read_image", "read_layers"]


def read_image(image: Artifact) -> tuple[Manifest, ImageConfig]:
    """The manifest and configuration of a single image.

    Raises:
        UsageError: The artifact is an index or something else.
    """
    manifest = read_document(image.source, image.root)
    if not isinstance(manifest, Manifest):
        raise UsageError(
            f"{image.root.media_type}", wanted="an image of one platform", where=image.digest, hint="Add --platform."
        )
    return manifest, read_config(image.source, manifest)


def layer_members(
    source: Fetcher,
    layer: Descriptor,
    diff_id: Digest,
    *,
    budget: Budget | None = None,
    on_header: Callable[[bytes], object] | None = None,
) -> Iterator[tuple[Member, BinaryIO]]:
    """Each member of a layer and a reader of its content, good until the next is asked for.

    Args:
        source: Where the blob is.
        layer: The blob.
        diff_id: What the image's configuration says of the archive in it.
        budget: What all layers of an image share; this one's own by default.
        on_header: Called with the raw headers, as `read_members` does.

    Raises:
        LayerError: The layer is not a tar archive, or expands beyond any honest one.
        DigestMismatchError: The blob or the archive in it has another digest.
    """
    with source.fetch(layer) as blob:
        archive = VerifiedArchive(blob, layer.media_type, diff_id, budget or Budget(layer.size))
        yield from read_members(io.BufferedReader(archive, 256 * 1024), on_header=on_header)
        archive.finish()


def read_layers(image: Artifact) -> Iterator[tuple[int, int, Member, BinaryIO]]:
    """Every member of every layer of a single image, with the number of its layer and its own in it.

    Raises:
        LayerError, DigestMismatchError: As `layer_members`.
    """
    manifest, config = read_image(image)
    budget = Budget(*(layer.size for layer in manifest.layers))
    for number, (layer, diff_id) in enumerate(zip(manifest.layers, config.rootfs.diff_ids, strict=True)):
        members = layer_members(image.source, layer, diff_id, budget=budget)
        for count, (member, content) in enumerate(members):
            yield number, count, member, content


def file_tree(image: Artifact) -> dict[str, Placed]:
    """The files of an image by path, sorted, when its layers are applied in order (image-spec, layer.md).

    A path leads through symbolic links inside the root only, as a runtime would follow them.

    Raises:
        LayerError: A member outside the root, a device, pipe or hard link to a symbolic link, or a layer that is damaged.
    """
    return _place(
        ((layer, number, member) for layer, number, member, _ in read_layers(image)), AppliedTree(strict=True)
    )


def place_members(members: Iterable[tuple[int, int, Member]], *, root: bool = False) -> dict[str, Placed]:
    """The files by path, sorted, when members are applied in order; each comes with its layer's number and its own in it.

    All that an image may hold is placed: devices, pipes and hard links to symbolic links too.

    Args:
        members: Of all layers, from the lowest on.
        root: Whether the root's own member, if there is one, is wanted: its path is empty.

    Raises:
        LayerError: A member outside the root, or names and links beyond any honest image.
    """
    tree = AppliedTree()
    placed = _place(members, tree)
    return {"": tree.root, **placed} if root and tree.root else placed


def _place(members: Iterable[tuple[int, int, Member]], tree: AppliedTree) -> dict[str, Placed]:
    for layer, number, member in members:
        tree.apply(Placed(member=member, layer=layer, content=(layer, number), headers=(layer, number)))
    return {path: tree.seen(tree.placed[path]) for path in sorted(tree.placed, key=str.encode)}
