"""What the layers of an image hold: members as they come, and the files that remain when all layers are applied.

Layers are read as streams and never unpacked here. A layer's blob digest and diff ID have both been verified when its
last member has been handed on.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import msgspec

from .errors import LayerError, UsageError
from .layer.entry import Directory, Entry, File, Symlink
from .layer.plan import resolve
from .layer.read import Budget, Member, VerifiedArchive, read_members
from .oci import Descriptor, Digest, ImageConfig, Manifest
from .store import Artifact, Fetcher
from .store.graph import read_config, read_document

__all__ = ["Placed", "file_tree", "layer_members", "place_members", "read_image", "read_layers"]

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """A file of an image: its headers, the layer that put it there, and where its content is.

    Attributes:
        member: The headers; of a hard link, those of the file it names.
        layer: The layer that put it at its path.
        content: The layer and the number in it of the member that has the content.
    """

    member: Member
    layer: int
    content: tuple[int, int]


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
        LayerError: A member outside the root, or a layer that is damaged.
    """
    return place_members((layer, number, member) for layer, number, member, _ in read_layers(image))


def place_members(members: Iterable[tuple[int, int, Member]]) -> dict[str, Placed]:
    """The files by path, sorted, when members are applied in order; each comes with its layer's number and its own in it.

    Raises:
        LayerError: A member outside the root.
    """
    tree = _Tree()
    for layer, number, member in members:
        tree.apply(Placed(member=member, layer=layer, content=(layer, number)))
    return dict(sorted(tree.placed.items(), key=lambda item: item[0].encode()))


class _Tree:
    """The files so far. Folders that no member names are known by their children."""

    def __init__(self) -> None:
        self.placed: dict[str, Placed] = {}
        self._entries: dict[str, Entry] = {}
        self._children: dict[str, set[str]] = {}
        self._resolved: dict[str, str] = {}

    def apply(self, new: Placed) -> None:
        """Place one member, or remove what a whiteout hides."""
        path = self._inside(new.member.path)
        folder, _, name = path.rpartition("/")
        if name == _OPAQUE:
            self._remove_below(folder, new.layer)
        elif name.startswith(_WHITEOUT):
            self._remove(f"{folder}/{name.removeprefix(_WHITEOUT)}".lstrip("/"), new.layer)
        elif path:
            self._place(path, self._target(path, new))

    def _place(self, path: str, new: Placed) -> None:
        kind = new.member.kind
        if kind in ("char", "block", "fifo"):
            raise LayerError(f"a {kind} device or pipe", wanted="files, folders and links", where=path)
        folder = path.rpartition("/")[0]
        while folder and not isinstance(self._entries.get(folder), Directory):
            if folder in self._entries:
                raise LayerError("a member below a file or link", where=path)
            folder = folder.rpartition("/")[0]
        if kind != "directory" and path in self._children:
            self._remove_below(path, new.layer + 1)
        if kind == "symlink" or isinstance(self._entries.get(path), Symlink):
            self._resolved.clear()
        self.placed[path] = new
        self._entries[path] = _entry(path, new.member)
        while path:
            folder = path.rpartition("/")[0]
            known = self._children.setdefault(folder, set())
            if path in known:
                break
            known.add(path)
            path = folder

    def _target(self, path: str, new: Placed) -> Placed:
        """A hard link is the file it names, which must have come before."""
        if new.member.kind != "hardlink":
            return new
        target = self.placed.get(self._inside(new.member.link))
        if target is None or target.member.kind != "file":
            raise LayerError(f"a hard link to {new.member.link!r}, which is no file before it", where=path)
        return Placed(member=target.member, layer=new.layer, content=target.content)

    def _inside(self, path: str) -> str:
        """Where a member's path leads, its own last part not followed; empty for the root."""
        folder, _, name = path.strip("/").rpartition("/")
        if folder not in self._resolved:
            found = resolve(folder, self._entries)
            if found is None:
                raise LayerError(f"the path {path!r}, which leaves the root", wanted="paths inside the image")
            self._resolved[folder] = found
        parent = self._resolved[folder]
        if name == "..":
            raise LayerError(f"the path {path!r}", wanted="paths inside the image")
        return f"{parent}/{name}".lstrip("/") if name not in ("", ".") else parent

    def _remove(self, path: str, layer: int) -> None:
        """Hide a file or folder of the layers below the given one."""
        self._remove_below(path, layer)
        placed = self.placed.get(path)
        if placed is not None and placed.layer < layer:
            del self.placed[path]
            del self._entries[path]
            self._resolved.clear()
        if path not in self.placed and not self._children.get(path):
            self._children.get(path.rpartition("/")[0], set()).discard(path)

    def _remove_below(self, path: str, layer: int) -> None:
        todo, folders = list(self._children.get(path, ())), [path]
        while todo:
            below = todo.pop()
            folders.append(below)
            todo.extend(self._children.get(below, ()))
            placed = self.placed.get(below)
            if placed is not None and placed.layer < layer:
                del self.placed[below]
                del self._entries[below]
        for folder in reversed(folders):
            kept = {item for item in self._children.get(folder, ()) if item in self.placed or self._children.get(item)}
            if kept:
                self._children[folder] = kept
            else:
                self._children.pop(folder, None)
        self._resolved.clear()


def _entry(path: str, member: Member) -> Entry:
    if member.kind == "directory":
        return Directory(path=path)
    if member.kind == "symlink":
        return Symlink(path=path, target=member.link)
    return File(path=path, content=b"")
