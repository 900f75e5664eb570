"""Two images' layers: matched by diff ID, the rest in order; what compresses them, and what their archives hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ocibuild.contents import layer_members
from ocibuild.layer.read import Budget, Member, VerifiedArchive
from ocibuild.layer.stream import drain
from ocibuild.oci import Descriptor, Digest, ImageConfig, Manifest, media_types
from ocibuild.store import Artifact, Fetcher
from ocibuild.store.graph import read_blob, read_config, read_document

from .archives import alone, archive_differences, join
from .codec import CodecFacts, codec_differences, describe_codec
from .difference import Difference
from .files import Members, explain
from .records import Record, read_archive

__all__ = ["Layer", "Side", "layer_differences", "verify_claims"]

_HEADER = 10  # gzip's


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of one side, its number in the image, and what it may expand to."""

    source: Fetcher
    blob: Descriptor
    diff_id: Digest
    number: int
    budget: int

    def members(self) -> Iterator[tuple[int, Member, BinaryIO]]:
        """The members, numbered."""
        found = layer_members(self.source, self.blob, self.diff_id, budget=Budget(self.budget))
        for number, (member, content) in enumerate(found):
            yield number, member, content

    def records(self) -> list[tuple[str, Record]]:
        """The members, by path."""
        archive = read_archive(self.source, self.blob, self.diff_id, Budget(self.budget))
        return [(record.member.path, record) for record in archive.records]

    def codec(self) -> CodecFacts:
        """How the blob was compressed."""
        with self.source.fetch(self.blob) as stream:
            return describe_codec(stream, self.blob.media_type)

    def beginning(self) -> tuple[str, bytes]:
        """The media type and the codec's header, or as much of it as there is."""
        with self.source.fetch(self.blob) as stream:
            return self.blob.media_type, stream.read(_HEADER)

    def verify(self) -> None:
        """Read the archive to see that it is what the configuration says."""
        with self.source.fetch(self.blob) as stream:
            archive = VerifiedArchive(stream, self.blob.media_type, self.diff_id, Budget(self.budget))
            drain(archive)  # type: ignore[arg-type]
            archive.finish()


@dataclass(frozen=True, slots=True)
class Side:
    """One image: its documents as they came, and its layers; `config` is None for what is no image."""

    raw: bytes
    raw_config: bytes | None
    manifest: Manifest
    config: ImageConfig | None
    layers: tuple[Layer, ...]

    @classmethod
    def read(cls, image: Artifact) -> Side:
        """The documents of an image."""
        manifest = read_document(image.source, image.root)
        assert isinstance(manifest, Manifest)
        raw = read_blob(image.source, image.root)
        if manifest.config.media_type not in media_types.CONFIGS or not media_types.LAYERS.issuperset(
            layer.media_type for layer in manifest.layers
        ):
            return cls(raw, None, manifest, None, ())
        config = read_config(image.source, manifest)
        budget = sum(layer.size for layer in manifest.layers)
        pairs = zip(manifest.layers, config.rootfs.diff_ids, strict=True)
        layers = tuple(Layer(image.source, blob, diff_id, at, budget) for at, (blob, diff_id) in enumerate(pairs))
        return cls(raw, read_blob(image.source, manifest.config), manifest, config, layers)


def layer_differences(a: Side, b: Side) -> list[Difference]:
    """The differences of the layers, each with its number when there are several."""
    ours, theirs = _by_diff_id(a.layers), _by_diff_id(b.layers)
    found: list[Difference] = []
    left = [key for key in ours if key in theirs]
    right = [key for key in theirs if key in ours]
    if left != right:
        numbers = ", ".join(str(ours[key].number + 1) for key in right)
        expected = ", ".join(str(ours[key].number + 1) for key in left)
        found.append(
            Difference(kind="order", where="layers", a=expected, b=numbers, note="the same layers in another order")
        )
    for key in left:
        one, other = ours[key], theirs[key]
        if one.blob.digest != other.blob.digest or one.blob.media_type != other.blob.media_type:
            found += _node(one, other, _compressed(one, other), len(a.layers))
    gone = [ours[key] for key in ours if key not in theirs]
    new = [theirs[key] for key in theirs if key not in ours]
    for one, other in zip(gone, new, strict=False):
        found += _node(one, other, _archives(one, other), max(len(a.layers), len(b.layers)))
    for layer in gone[len(new) :]:
        below = tuple(alone(layer.records(), ()))
        found.append(Difference(kind="layer", where=f"layer {layer.number + 1}", a=layer.blob.digest, below=below))
    for layer in new[len(gone) :]:
        below = tuple(alone((), layer.records()))
        found.append(Difference(kind="layer", where=f"layer {layer.number + 1}", b=layer.blob.digest, below=below))
    return found


def verify_claims(a: Side, b: Side) -> None:
    """Read the archives of blobs that differ, of two images that say they hold the same.

    Raises:
        LayerError, DigestMismatchError: One of them does not.
    """
    for one, other in zip(a.layers, b.layers, strict=True):
        if one.blob.digest != other.blob.digest:
            one.verify()
            other.verify()


def _by_diff_id(layers: tuple[Layer, ...]) -> dict[tuple[Digest, int], Layer]:
    seen: Counter[Digest] = Counter()
    found = {}
    for layer in layers:
        found[layer.diff_id, seen[layer.diff_id]] = layer
        seen[layer.diff_id] += 1
    return found


def _node(a: Layer, b: Layer, below: list[Difference], count: int) -> list[Difference]:
    """The differences of one layer, under a line of its own where there are several layers."""
    if count == 1:
        return below
    name = f"layer {a.number + 1}" if a.number == b.number else f"layer {a.number + 1} and layer {b.number + 1}"
    return [Difference(kind="layer", where=name, below=tuple(below))]


def _compressed(a: Layer, b: Layer) -> list[Difference]:
    """Two blobs of one archive, which is first seen to be one."""
    a.verify()
    b.verify()
    return list(codec_differences(a.codec(), b.codec()))


def _archives(a: Layer, b: Layer) -> list[Difference]:
    ours = read_archive(a.source, a.blob, a.diff_id, Budget(a.budget))
    theirs = read_archive(b.source, b.blob, b.diff_id, Budget(b.budget))
    found, changes = archive_differences(ours, theirs)
    sides: tuple[Members, Members] = (a.members, b.members)
    explained = explain({change.path: (change.a, change.b) for change in changes}, *sides)
    for change in changes:
        # Beyond what is looked into.
        if change.path not in explained:
            one, other = (
                f"{side.records[at].member.size:,} bytes" for side, at in ((ours, change.a), (theirs, change.b))
            )
            explained[change.path] = Difference(kind="file", where=change.path, a=one, b=other, note="not looked into")
    found = join(found, explained)
    # Blobs of other archives differ anyway; who wrote them is looked into where they begin in another way.
    if a.beginning() != b.beginning():
        found += [item for item in codec_differences(a.codec(), b.codec()) if item.a != item.b]
    return found
