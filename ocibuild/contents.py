"""What the layers of an image hold: members as they come, and the files that remain when all layers are applied.

Layers are read as streams and never unpacked here. A layer's blob digest and diff ID have both been verified when its
last member has been handed on.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from .errors import DigestMismatchError, LayerError, UsageError
from .layer.entry import Directory, Entry, File, Symlink
from .layer.plan import resolve
from .layer.read import Member, open_layer, read_members
from .oci import Descriptor, Digest, ImageConfig, Manifest
from .store import Artifact, Fetcher
from .store.graph import read_config, read_document

__all__ = ["Placed", "file_tree", "layer_members", "read_image"]

# No honest archive expands more: 1032 is the limit of deflate itself.
_RATIO = 1100
_FLOOR = 64 * 1024 * 1024
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A file of an image: its headers, and which member of which layer holds its content."""

    member: Member
    layer: int
    number: int


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


def layer_members(source: Fetcher, layer: Descriptor, diff_id: Digest) -> Iterator[tuple[Member, BinaryIO]]:
    """Each member of a layer and a reader of its content, good until the next is asked for.

    Raises:
        LayerError: The layer is not a tar archive, or expands beyond any honest one.
        DigestMismatchError: The blob or the archive in it has another digest.
    """
    with source.fetch(layer) as blob:
        archive = _Hashed(open_layer(blob, layer.media_type), max(_FLOOR, _RATIO * layer.size), diff_id)
        yield from read_members(io.BufferedReader(archive, 256 * 1024))
        while blob.read(1024 * 1024):
            pass
        archive.finish()


def file_tree(image: Artifact) -> dict[str, Placed]:
    """The files of an image by path, sorted, when its layers are applied in order (image-spec, layer.md).

    A path leads through symbolic links inside the root only, as a runtime would follow them.

    Raises:
        LayerError: A member outside the root, or a layer that is damaged.
    """
    manifest, config = read_image(image)
    placed: dict[str, Placed] = {}
    tree: dict[str, Entry] = {}
    for number, (layer, diff_id) in enumerate(zip(manifest.layers, config.rootfs.diff_ids, strict=True)):
        lower = set(placed)
        for count, (member, _) in enumerate(layer_members(image.source, layer, diff_id)):
            _apply(Placed(member=member, layer=number, number=count), placed, tree, lower)
    return dict(sorted(placed.items(), key=lambda item: item[0].encode()))


def _apply(new: Placed, placed: dict[str, Placed], tree: dict[str, Entry], lower: set[str]) -> None:
    member = new.member
    path = _inside(member.path, tree)
    if not path:
        return
    folder, _, name = path.rpartition("/")
    if name == _OPAQUE:
        _remove_below(folder, placed, tree, lower)
        return
    if name.startswith(_WHITEOUT):
        hidden = f"{folder}/{name.removeprefix(_WHITEOUT)}".lstrip("/")
        _remove_below(hidden, placed, tree, lower)
        if hidden in lower:
            placed.pop(hidden, None)
            tree.pop(hidden, None)
        return
    if member.kind == "hardlink":
        target = placed.get(_inside(member.link, tree))
        if target is None or target.member.kind != "file":
            raise LayerError(f"a hard link to {member.link!r}, which is no file before it", where=path)
        new = target
    elif member.kind in ("char", "block", "fifo"):
        raise LayerError(f"a {member.kind} device or pipe", wanted="files, folders and links", where=path)
    if member.kind != "directory":
        _remove_below(path, placed, tree, set(placed))
    placed[path] = new
    tree[path] = _entry(path, member)


def _inside(path: str, tree: dict[str, Entry]) -> str:
    """Where a member's path leads, its own last part not followed."""
    folder, _, name = path.strip("/").rpartition("/")
    parent = resolve(folder, tree)
    if parent is None or name == "..":
        raise LayerError(f"the path {path!r}, which leaves the root", wanted="paths inside the image")
    return f"{parent}/{name}".lstrip("/") if name not in ("", ".") else parent


def _remove_below(path: str, placed: dict[str, Placed], tree: dict[str, Entry], which: set[str]) -> None:
    prefix = f"{path}/" if path else ""
    for other in [item for item in placed if item.startswith(prefix) and item in which]:
        del placed[other]
        tree.pop(other, None)


def _entry(path: str, member: Member) -> Entry:
    if member.kind == "directory":
        return Directory(path=path)
    if member.kind == "symlink":
        return Symlink(path=path, target=member.link)
    return File(path=path, content=b"")


class _Hashed(io.RawIOBase):
    """An archive that is hashed and counted while it is read."""

    def __init__(self, stream: BinaryIO, limit: int, diff_id: Digest) -> None:
        self._stream, self._left, self._diff_id = stream, limit, diff_id
        self._limit = limit
        self._hasher = hashlib.new(diff_id.algorithm)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise LayerError(f"a layer that expands to more than {self._limit} bytes")
        self._hasher.update(data)
        buffer[: len(data)] = data
        return len(data)

    def finish(self) -> None:
        found = Digest.from_hash(self._hasher)
        if found != self._diff_id:
            raise DigestMismatchError(f"a layer whose archive is {found}", wanted=f"the diff ID {self._diff_id}")
