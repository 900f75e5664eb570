"""Images as sources: to label one anew, to check it, to join platforms that were built on several machines."""

from __future__ import annotations

from pathlib import Path

from ocibuild.contents import file_tree, read_layers
from ocibuild.errors import LayerError, SourceError, UsageError
from ocibuild.layer.entry import Directory, Entry, Symlink
from ocibuild.layer.read import read_members
from ocibuild.oci import Manifest, Platform
from ocibuild.oci.annotations import CREATED
from ocibuild.store import Artifact
from ocibuild.store.graph import platform_images, read_config, read_document, single_image

from .base import Package, Source, make_source
from .scratch import Scratch

__all__ = ["image_sources", "is_archive_of_images"]

_LAYOUT_NAMES = ("blobs", "index.json", "oci-layout", "manifest.json", "repositories")


def image_sources(image: Artifact, *, where: Path, platform: Platform | None = None) -> list[Source]:
    """The sources in an image or an index: one a platform, its labels as what its packaging says.

    Args:
        image: From `open_artifact`.
        where: What to name in an error.
        platform: The only one that is wanted.

    Raises:
        UsageError: No image for that platform.
        ContentError: A layer that is damaged or unsafe.
    """
    if platform is not None:
        return [_source(single_image(image, platform), where, platform)]
    return [_source(one, where, found) for found, one in platform_images(image)]


def _source(image: Artifact, where: Path, platform: Platform) -> Source:
    manifest = read_document(image.source, image.root)
    if not isinstance(manifest, Manifest):
        raise UsageError(f"{image.root.media_type} for {platform}", wanted="an image", where=image.digest)
    config = read_config(image.source, manifest)
    labels = dict(config.config.labels or {}) if config.config else {}
    labels.pop(CREATED, None)
    scratch = Scratch(where, sum(layer.size for layer in manifest.layers))
    entries = _entries(image, scratch)
    package = Package(labels=labels, origin="the image")
    return make_source(where, "image", entries, platform=platform, package=package, keeps=(scratch,))


def _entries(image: Artifact, scratch: Scratch) -> list[Entry]:
    tree = file_tree(image)
    wanted: dict[tuple[int, int], list[str]] = {}
    entries: list[Entry] = []
    for path, placed in tree.items():
        scratch.count(path)
        if placed.member.kind == "file":
            wanted.setdefault(placed.content, []).append(path)
        elif placed.member.kind == "symlink":
            entries.append(Symlink(path=path, target=placed.member.link))
        else:
            entries.append(Directory(path=path, mode=placed.member.mode & 0o777))
    for layer, number, _, content in read_layers(image) if wanted else ():
        paths = wanted.get((layer, number), [])
        if not paths:
            continue
        file = scratch.keep(paths[0], content, mode=tree[paths[0]].member.mode & 0o777)
        entries += [file, *(scratch.link(file, path) for path in paths[1:])]
    return sorted(entries, key=lambda entry: entry.path.encode())


def is_archive_of_images(path: Path) -> bool:
    """Whether a plain tar file holds an OCI layout, by its members' names.

    Raises:
        SourceError: It cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            for member, _ in read_members(stream):
                if member.path.removeprefix("./") == "oci-layout":
                    return True
                if member.path.removeprefix("./").partition("/")[0] not in (*_LAYOUT_NAMES, ".", ""):
                    return False
    except LayerError:
        return False
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=path) from error
    return False
