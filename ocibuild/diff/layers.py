"""Two images' layers: matched by diff ID, the rest in order; what compresses them, and what their archives hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import BinaryIO

from ocibuild.contents import layer_members
from ocibuild.layer.read import Budget, Member, VerifiedArchive
from ocibuild.layer.stream import drain
from ocibuild.oci import Descriptor, Digest, ImageConfig, Manifest, media_types
from ocibuild.store import Artifact, Fetcher
from ocibuild.store.graph import read_blob, read_config

from .archives import alone, archive_differences, join
from .codec import CodecFacts, codec_differences, describe_codec
from .difference import Difference
from .files import explain
from .records import Archive, Record, read_archive

__all__ = ["Layer", "Side", "layer_differences", "verify_claims"]

_Key = tuple[Digest, str, Digest]
_Seen = dict[tuple[_Key | None, _Key | None], str]

_HEADER = 10  # gzip's


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of one side.

    Attributes:
        source: Where the blob is.
        blob: Its descriptor.
        diff_id: The archive in it.
        number: Its number in the image.
        budgets: What all layers of the image may expand to: when they are read, and when they are looked into.
        kept: The archives of the image that have been read, or None of those that were only verified: each is read once.
    """

    source: Fetcher
    blob: Descriptor
    diff_id: Digest
    number: int
    budgets: tuple[Budget, Budget]
    kept: dict[_Key, Archive | None]

    @property
    def key(self) -> _Key:
        """What makes two layers the same."""
        return self.blob.digest, self.blob.media_type, self.diff_id

    def members(self, wanted: Collection[int]) -> Iterator[tuple[int, Member, BinaryIO]]:
        """The members of those numbers."""
        if wanted:
            last = max(wanted)
            found = layer_members(self.source, self.blob, self.diff_id, budget=self.budgets[1])
            for number, (member, content) in enumerate(found):
                if number in wanted:
                    yield number, member, content
                if number == last:
                    return

    def archive(self) -> Archive:
        """The records of the archive."""
        found = self.kept.get(self.key)
        if found is None:
            found = self.kept[self.key] = read_archive(self.source, self.blob, self.diff_id, self.budgets[0])
        return found

    def records(self) -> list[tuple[str, Record]]:
        """The members, by path."""
        return [(record.member.path, record) for record in self.archive().records]

    def codec(self) -> CodecFacts:
        """How the blob was compressed."""
        with self.source.fetch(self.blob) as stream:
            return describe_codec(stream, self.blob.media_type)

    def beginning(self) -> tuple[str, bytes]:
        """The media type and the codec's header, or as much of it as there is."""
        with self.source.fetch(self.blob) as stream:
            return self.blob.media_type, stream.read(_HEADER)

    def verify(self) -> None:
        """Read the archive, once, to see that it is what the configuration says."""
        if self.key in self.kept:
            return
        with self.source.fetch(self.blob) as stream:
            archive = VerifiedArchive(stream, self.blob.media_type, self.diff_id, self.budgets[0])
            drain(archive)  # type: ignore[arg-type]
            archive.finish()
        self.kept[self.key] = None


@dataclass(frozen=True, slots=True)
class Side:
    """One image: its documents as they came, and its layers; `config` is None for what is no image."""

    raw: bytes
    raw_config: bytes | None
    manifest: Manifest
    config: ImageConfig | None
    layers: tuple[Layer, ...]

    @classmethod
    def read(cls, image: Artifact, manifest: Manifest) -> Side:
        """The documents of an image."""
        raw = read_blob(image.source, image.root)
        if manifest.config.media_type not in media_types.CONFIGS or not media_types.LAYERS.issuperset(
            layer.media_type for layer in manifest.layers
        ):
            return cls(raw, None, manifest, None, ())
        config = read_config(image.source, manifest)
        sizes = {layer.digest: layer.size for layer in manifest.layers}.values()
        budgets, kept = (Budget(*sizes), Budget(*sizes)), dict[_Key, Archive | None]()
        pairs = zip(manifest.layers, config.rootfs.diff_ids, strict=True)
        layers = tuple(
            Layer(image.source, blob, diff_id, at, budgets, kept) for at, (blob, diff_id) in enumerate(pairs)
        )
        return cls(raw, read_blob(image.source, manifest.config), manifest, config, layers)


def layer_differences(a: Side, b: Side) -> list[Difference]:
    """The differences of the layers, each with its number when there are several."""
    ours, theirs = _by_diff_id(a.layers), _by_diff_id(b.layers)
    found: list[Difference] = []
    left = [key for key in ours if key in theirs]
    right = [key for key in theirs if key in ours]
    if left != right:
        numbers = [", ".join(str(ours[key].number + 1) for key in keys) for keys in (left, right)]
        found.append(
            Difference(
                kind="order", where="layers", a=numbers[0], b=numbers[1], note="the same layers in another order"
            )
        )
    gone = [ours[key] for key in ours if key not in theirs]
    new = [theirs[key] for key in theirs if key not in ours]
    pairs = [(ours[key], theirs[key]) for key in left if ours[key].key != theirs[key].key]
    seen: _Seen = {}
    for pair in [*pairs, *zip_longest(gone, new)]:
        names = dict.fromkeys(f"layer {layer.number + 1}" for layer in pair if layer)
        found += _node(*pair, " and ".join(names), seen, is_single=len(a.layers) == len(b.layers) == 1)
    return found


def verify_claims(a: Side, b: Side) -> None:
    """Read the archives of blobs that differ, of two images that say they hold the same.

    Raises:
        LayerError, DigestMismatchError: One of them does not.
    """
    differing = [pair for pair in zip(a.layers, b.layers, strict=True) if pair[0].key != pair[1].key]
    for pair in differing:
        for layer in pair:
            layer.verify()


def _by_diff_id(layers: tuple[Layer, ...]) -> dict[tuple[Digest, int], Layer]:
    seen: Counter[Digest] = Counter()
    found = {}
    for layer in layers:
        found[layer.diff_id, seen[layer.diff_id]] = layer
        seen[layer.diff_id] += 1
    return found


def _node(a: Layer | None, b: Layer | None, name: str, seen: _Seen, *, is_single: bool) -> list[Difference]:
    """The differences of one layer, under a line of its own where there are several layers."""
    key = a.key if a else None, b.key if b else None
    if key in seen:
        return [Difference(kind="layer", where=name, note=f"as {seen[key]}")]
    seen[key] = name
    below = tuple(_layer(a, b))
    if a and b:
        return list(below) if is_single or not below else [Difference(kind="layer", where=name, below=below)]
    return [
        Difference(
            kind="layer", where=name, a=a.blob.digest if a else None, b=b.blob.digest if b else None, below=below
        )
    ]


def _layer(a: Layer | None, b: Layer | None) -> list[Difference]:
    if a is None or b is None:
        return list(alone(a.records() if a else (), b.records() if b else ()))
    if a.diff_id != b.diff_id:
        return _archives(a, b)
    # Two blobs of one archive, which is first seen to be one.
    a.verify()
    b.verify()
    found = list(codec_differences(a.codec(), b.codec()))
    if not found and a.blob.digest != b.blob.digest and a.blob.digest.algorithm == b.blob.digest.algorithm:
        found.append(Difference(kind="codec", note="the compressed bytes differ while the archive is the same"))
    return found


def _archives(a: Layer, b: Layer) -> list[Difference]:
    ours, theirs = a.archive(), b.archive()
    found, changes = archive_differences(ours, theirs)
    found = join(found, explain(changes, a.members, b.members))
    if not found and a.diff_id.algorithm == b.diff_id.algorithm:
        note = "the archives differ outside what their headers say: in padding, or in what no reader looks at"
        found.append(Difference(kind="tar", note=note))
    # Blobs of other archives differ anyway; who wrote them is looked into where they begin in another way.
    if a.beginning() != b.beginning():
        found += codec_differences(a.codec(), b.codec())
    return found
