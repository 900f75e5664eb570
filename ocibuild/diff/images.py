"""Comparing two artifacts: indexes by platform, images by configuration and layers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ocibuild.errors import UsageError
from ocibuild.oci import Descriptor, Manifest, media_types
from ocibuild.store import Artifact
from ocibuild.store.graph import read_blob, read_config, read_document

from .difference import Difference
from .documents import document_differences, spelling
from .layers import Side, layer_differences, verify_claims
from .trees import tree_differences

__all__ = ["Comparison", "compare"]

_IDENTITY = ("digest", "size", "platform")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came of comparing two artifacts.

    Attributes:
        a: The first root.
        b: The second.
        semantic: What has no effect on a container was left out.
        differences: The differences, the most telling first; none where the two are equal.
        same_files: By platform, how many files are the same; only where their trees were compared.
    """

    a: Descriptor
    b: Descriptor
    semantic: bool
    differences: tuple[Difference, ...]
    same_files: dict[str, int]

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        """The comparison as `--json` prints it."""
        return {
            "equal": self.is_equal,
            "semantic": self.semantic,
            "a": self.a.digest,
            "b": self.b.digest,
            "differences": [item.to_dict() for item in self.differences],
            "sameFiles": self.same_files,
        }


def compare(a: Artifact, b: Artifact, *, semantic: bool = False) -> Comparison:
    """Why two images or indexes differ.

    Args:
        a: The first, in any store.
        b: The second.
        semantic: Leave out what has no effect on a container: times, history, codecs, how an archive is written, and which
            layer a file comes from. Files, their modes and owners, labels, annotations and the settings of a container
            stay.

    Returns:
        The differences. Equal digests are equal without being read. Files are told apart by SHA-256, and those that
        differ are looked into: text by line, ELF files by section and symbol, control files by key.

    Raises:
        UsageError: One of them is neither image nor index.
        NotFoundError, ContentError: Something of one is missing or damaged.

    Example:
        >>> import ocibuild
        >>> one, other = (ocibuild.build_image([], platform=ocibuild.Platform.parse("amd64"), labels={"v": v}) for v in "12")
        >>> [(item.kind, item.where, item.a, item.b) for item in compare(one, other).differences[0].walk()]
        [('image', 'linux/amd64', None, None), ('label', 'v', '1', '2')]
    """
    same: dict[str, int] = {}
    found: list[Difference] = []
    if a.digest != b.digest:
        ours, theirs = _read(a), _read(b)
        found += ours.differences(theirs, semantic)
        found += _images(ours, theirs, semantic, same)
        if not found and not semantic:
            found.append(spelling(ours.raw, theirs.raw, kind="index" if ours.is_index else "manifest"))
    return Comparison(a=a.root, b=b.root, semantic=semantic, differences=tuple(_fold(found)), same_files=same)


@dataclass(frozen=True, slots=True)
class _Root:
    """A root document and its images by platform."""

    raw: bytes
    is_index: bool
    images: dict[str, Artifact]

    def differences(self, other: _Root, semantic: bool) -> Iterator[Difference]:
        """What the indexes say otherwise, their images aside."""
        if self.is_index != other.is_index:
            if not semantic:
                names = ("index" if item.is_index else "image without an index" for item in (self, other))
                yield Difference(kind="root", where="root", a=next(names), b=next(names))
            return
        if not self.is_index:
            return
        ours, theirs = json.loads(self.raw), json.loads(other.raw)
        yield from document_differences(
            ours, theirs, kind="index", without=_left_out("manifests", semantic=semantic), semantic=semantic
        )
        left, right = ([key for key in one.images if key in two.images] for one, two in ((self, other), (other, self)))
        if left != right and not semantic:
            yield Difference(kind="order", where="manifests", a=", ".join(left), b=", ".join(right))


def _left_out(*names: str, semantic: bool) -> tuple[str, ...]:
    return (*names, "mediaType", "schemaVersion") if semantic else names


def _read(artifact: Artifact) -> _Root:
    document = read_document(artifact.source, artifact.root)
    if document is None:
        raise UsageError(f"{artifact.root.media_type}", wanted="an image or an index", where=artifact.digest)
    raw = read_blob(artifact.source, artifact.root)
    images: dict[str, Artifact] = {}
    if isinstance(document, Manifest):
        is_image = document.config.media_type in media_types.CONFIGS
        name = (str(read_config(artifact.source, document).platform) or "no platform") if is_image else "artifact"
        return _Root(raw, False, {name: artifact})
    for child in document.manifests:
        name = str(child.platform.normalized()) if child.platform else "no platform"
        count = sum(key.partition(" #")[0] == name for key in images)
        images[f"{name} #{count + 1}" if count else name] = Artifact(child, artifact.source)
    return _Root(raw, True, images)


def _images(a: _Root, b: _Root, semantic: bool, same: dict[str, int]) -> Iterator[Difference]:
    for name, one, other in _paired(a, b):
        if one is None or other is None:
            yield Difference(kind="platform", where=name, a=_digest(one), b=_digest(other))
            continue
        below = _entry(one.root, other.root, semantic) if a.is_index and b.is_index else []
        if one.digest != other.digest:
            below += _image(one, other, semantic, name, same)
        if below:
            note = f"{same[name]} file{'s are' if same[name] != 1 else ' is'} the same" if name in same else ""
            yield Difference(kind="image", where=name, note=note, below=tuple(below))


def _paired(a: _Root, b: _Root) -> Iterator[tuple[str, Artifact | None, Artifact | None]]:
    """The images of both by platform; where each side has one alone, those two, whatever they are for."""
    if len(a.images) == len(b.images) == 1 and a.images.keys() != b.images.keys():
        [(left, one)], [(right, other)] = a.images.items(), b.images.items()
        yield f"{left} and {right}", one, other
        return
    for name in sorted(a.images.keys() | b.images.keys()):
        yield name, a.images.get(name), b.images.get(name)


def _entry(a: Descriptor, b: Descriptor, semantic: bool) -> list[Difference]:
    """What two indexes say of one image."""
    ours, theirs = (json.loads(msgspec.json.encode(item, enc_hook=str)) for item in (a, b))
    return document_differences(
        ours, theirs, kind="index entry", without=_left_out(*_IDENTITY, semantic=semantic), semantic=semantic
    )


def _image(a: Artifact, b: Artifact, semantic: bool, name: str, same: dict[str, int]) -> Iterator[Difference]:
    ours, theirs = Side.read(a), Side.read(b)
    found = list(_documents(ours, theirs, semantic))
    if ours.config is None or theirs.config is None:
        found += _blobs(ours.manifest.layers, theirs.manifest.layers)
    elif not semantic:
        found += layer_differences(ours, theirs)
    elif ours.config.rootfs == theirs.config.rootfs:
        verify_claims(ours, theirs)
    else:
        below, same[name] = tree_differences(ours, theirs)
        found += below
    if not found and not semantic:
        found.append(spelling(ours.raw, theirs.raw, kind="manifest"))
    # What a history says follows from the layers.
    return iter(sorted(found, key=lambda item: item.where.startswith("history")))


def _documents(a: Side, b: Side, semantic: bool) -> Iterator[Difference]:
    ours, theirs = json.loads(a.raw), json.loads(b.raw)
    without = _left_out("layers", "config", semantic=semantic)
    yield from document_differences(ours, theirs, kind="manifest", without=without, semantic=semantic)
    left, right = (
        {key: value for key, value in item["config"].items() if key not in _IDENTITY} for item in (ours, theirs)
    )
    yield from document_differences(
        left, right, kind="configuration's descriptor", without=_left_out(semantic=semantic)
    )
    if a.raw_config is None or b.raw_config is None:
        if a.manifest.config.digest != b.manifest.config.digest:
            yield Difference(kind="config", where="digest", a=a.manifest.config.digest, b=b.manifest.config.digest)
        return
    if a.raw_config != b.raw_config:
        one, other = json.loads(a.raw_config), json.loads(b.raw_config)
        found = document_differences(one, other, kind="config", without=("rootfs",), semantic=semantic)
        yield from found
        if not found and not semantic and one == other:
            yield spelling(a.raw_config, b.raw_config, kind="config")


def _blobs(a: Iterable[Descriptor], b: Iterable[Descriptor]) -> Iterator[Difference]:
    """The blobs of what is no image, by their digests."""
    ours, theirs = list(a), list(b)
    for number in range(max(len(ours), len(theirs))):
        one, other = (item[number] if number < len(item) else None for item in (ours, theirs))
        if one is None or other is None or one.digest != other.digest:
            yield Difference(kind="blob", where=f"layer {number + 1}", a=_digest(one), b=_digest(other))


def _digest(item: Artifact | Descriptor | None) -> str | None:
    return None if item is None else item.digest


def _fold(found: list[Difference]) -> list[Difference]:
    """The same said once: of platforms that differ in the same way, and of labels that are annotations too."""
    images = [_labels_once(item) for item in found if item.kind == "image"]
    rest = [item for item in found if item.kind != "image"]
    for number, item in enumerate(rest):
        same = [next((below for below in image.below if _is_same(item, below)), None) for image in images]
        if item.kind == "annotation" and images and all(same):
            is_label = all(below is not None and below.kind == "label" for below in same)
            note = "and annotation, in the index and every image" if is_label else "in the index and every image"
            rest[number] = replace(item, kind="label" if is_label else "annotation", note=note)
            images = [
                replace(image, below=tuple(below for below in image.below if not _is_same(item, below)))
                for image in images
            ]
    by_below: dict[tuple[Difference, ...], list[Difference]] = {}
    for image in images:
        if image.below:
            by_below.setdefault((*image.below, Difference(kind=image.note)), []).append(image)
    return rest + [replace(group[0], where=", ".join(image.where for image in group)) for group in by_below.values()]


def _labels_once(image: Difference) -> Difference:
    """A label that is an annotation of the manifest too is said once."""
    labels = [item for item in image.below if item.kind == "label"]
    both = [
        item for item in image.below if item.kind == "annotation" and any(_is_same(item, label) for label in labels)
    ]
    below = [
        replace(item, note="and annotation")
        if item.kind == "label" and any(_is_same(note, item) for note in both)
        else item
        for item in image.below
        if item not in both
    ]
    return replace(image, below=tuple(below))


def _is_same(annotation: Difference, other: Difference) -> bool:
    return other.kind in ("annotation", "label") and (other.where, other.a, other.b) == (
        annotation.where,
        annotation.a,
        annotation.b,
    )
