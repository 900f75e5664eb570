"""Comparing two artifacts: indexes by platform, images by configuration and layers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from ocibuild.errors import UsageError
from ocibuild.oci import Descriptor, Manifest, Platform, media_types
from ocibuild.store import Artifact
from ocibuild.store.graph import read_blob, read_config, read_document

from .difference import Difference
from .documents import document_differences, is_same, spelling
from .fold import fold, joined
from .image import image_differences, left_out

__all__ = ["Comparison", "compare"]

_PLATFORM = ("os", "architecture", "variant", "platform.os", "platform.architecture", "platform.variant", "platform")


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
        StoreError, RegistryError: A store, the disk or a registry fails.

    Example:
        >>> import ocibuild
        >>> one, other = (ocibuild.build_image([], platform=ocibuild.Platform.parse("amd64"), labels={"v": v}) for v in "12")
        >>> [(item.kind, item.where, item.a, item.b) for item in compare(one, other).differences[0].walk()]
        [('image', 'linux/amd64', None, None), ('label', 'v', '1', '2')]
    """
    same: dict[str, int] = {}
    found: list[Difference] = []
    if a.digest != b.digest:
        ours, theirs = _Root.read(a, semantic), _Root.read(b, semantic)
        found += ours.differences(theirs, semantic)
        found += _images(ours, theirs, semantic, same)
        found = fold(found, max(len(ours.images), len(theirs.images)))
        if not found and not semantic:
            found += _leftover(ours, theirs)
    return Comparison(a=a.root, b=b.root, semantic=semantic, differences=tuple(found), same_files=same)


def _leftover(a: _Root, b: _Root) -> list[Difference]:
    """Why two roots are not the same where nothing that was compared differs."""
    kind = "index" if a.is_index else "manifest"
    ours, theirs = json.loads(a.raw), json.loads(b.raw)
    if is_same(ours, theirs):
        return [spelling(a.raw, b.raw, kind=kind)]
    return document_differences(ours, theirs, kind=kind)


_Key = tuple[Platform | None, int]


@dataclass(frozen=True, slots=True)
class _Child:
    """What an index names, or the root itself: its name, what the index says of it, and what it is if it is no blob."""

    name: str
    entry: dict[str, Any]
    image: Artifact


@dataclass(frozen=True, slots=True)
class _Root:
    """A root document, and its images by platform and how often that came before."""

    raw: bytes
    is_index: bool
    images: dict[_Key, _Child]

    @classmethod
    def read(cls, artifact: Artifact, semantic: bool) -> _Root:
        """The root and what it names; what is made for no platform, as attestations are, has no effect on a container."""
        document = read_document(artifact.source, artifact.root)
        if document is None:
            raise UsageError(f"{artifact.root.media_type}", wanted="an image or an index", where=artifact.digest)
        raw = read_blob(artifact.source, artifact.root)
        if isinstance(document, Manifest):
            is_image = document.config.media_type in media_types.CONFIGS
            platform = read_config(artifact.source, document).platform if is_image else None
            name = (str(platform) or "no platform") if is_image else "artifact"
            return cls(raw, False, {(_bare(platform), 0): _Child(name, {}, artifact)})
        seen: Counter[Platform | None] = Counter()
        images = {}
        for child, entry in zip(document.manifests, json.loads(raw)["manifests"], strict=True):
            platform = _bare(child.platform)
            if semantic and platform and platform.os == "unknown":
                continue
            count = seen[platform]
            seen[platform] += 1
            name = str(platform or "no platform") + f" #{count + 1}" * bool(count)
            images[platform, count] = _Child(name, entry, Artifact(child, artifact.source))
        return cls(raw, True, images)

    def differences(self, other: _Root, semantic: bool) -> Iterator[Difference]:
        """What the indexes say otherwise, their images aside."""
        if self.is_index != other.is_index:
            if not semantic:
                one, two = ("index" if item.is_index else "image without an index" for item in (self, other))
                yield Difference(kind="root", where="root", a=one, b=two)
            return
        if not self.is_index:
            return
        ours, theirs = json.loads(self.raw), json.loads(other.raw)
        without = left_out("manifests", semantic=semantic)
        yield from document_differences(ours, theirs, kind="index", without=without, semantic=semantic)
        left, right = ([key for key in one.images if key in two.images] for one, two in ((self, other), (other, self)))
        if left != right and not semantic:
            one, two = (joined(self.images[key].name for key in keys) for keys in (left, right))
            yield Difference(kind="order", where="manifests", a=one, b=two)


def _bare(platform: Platform | None) -> Platform | None:
    """The platform by which two images are matched: what else is said of it is compared."""
    if platform is None:
        return None
    found = platform.normalized()
    return Platform(os=found.os, architecture=found.architecture, variant=found.variant)


def _images(a: _Root, b: _Root, semantic: bool, same: dict[str, int]) -> Iterator[Difference]:
    """What differs of each platform's image; many may be one and the same."""
    seen: dict[tuple[Descriptor, Descriptor], tuple[list[Difference], int | None]] = {}
    for name, one, other in _paired(a, b):
        if one is None or other is None:
            digests = (None if item is None else item.image.digest for item in (one, other))
            yield Difference(kind="platform", where=name, a=next(digests), b=next(digests))
            continue
        below = _entry(one.entry, other.entry, semantic) if a.is_index and b.is_index else []
        if one.image.digest != other.image.digest:
            key = one.image.root.bare, other.image.root.bare
            if key not in seen:
                seen[key] = image_differences(one.image, other.image, semantic)
            found, count = seen[key]
            below += found
            if count is not None:
                same[name] = count
        names = one.name, other.name
        if names[0] != names[1] and not any(item.where in _PLATFORM for item in below):
            below.append(Difference(kind="config", where="platform", a=names[0], b=names[1]))
        if below:
            note = f"{same[name]} file{'s are' if same[name] != 1 else ' is'} the same" if name in same else ""
            yield Difference(kind="image", where=name, note=note, below=tuple(below))


def _paired(a: _Root, b: _Root) -> Iterator[tuple[str, _Child | None, _Child | None]]:
    """The images of both by platform; where each side has one alone, those two, whatever they are for."""
    if len(a.images) == len(b.images) == 1 and a.images.keys() != b.images.keys():
        [one], [other] = a.images.values(), b.images.values()
        yield f"{one.name} and {other.name}", one, other
        return
    children = {**b.images, **a.images}
    for key in sorted(children, key=lambda key: (children[key].name, str(key))):
        yield children[key].name, a.images.get(key), b.images.get(key)


def _entry(a: dict[str, Any], b: dict[str, Any], semantic: bool) -> list[Difference]:
    """What two indexes say of one image."""
    without = left_out("digest", "size", semantic=semantic)
    if semantic:
        a, b = ({**item, "platform": _plain(item.get("platform"))} for item in (a, b))
    return document_differences(a, b, kind="index entry", without=without, semantic=semantic)


def _plain(platform: Any) -> Any:
    """A platform without a variant that says nothing."""
    if platform is None:
        return None
    found = msgspec.convert(platform, Platform).normalized()
    return {key: value for key, value in platform.items() if key != "variant" or found.variant}
