"""Building an image again, from its sources and the settings it was built with, to see that the digests are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ocibuild.diff import Comparison, compare
from ocibuild.errors import NotFoundError, UsageError
from ocibuild.layer import Compression
from ocibuild.layer.stream import drain
from ocibuild.oci import Digest, Manifest, Platform, media_types
from ocibuild.oci.annotations import CREATED, full_key
from ocibuild.postgres.build import build_extension, seconds_of
from ocibuild.postgres.label import labels as default_labels
from ocibuild.postgres.sources import Source
from ocibuild.provenance import Provenance, find_provenance, installed_codecs
from ocibuild.store import Artifact, LocalStore, RemoteStore
from ocibuild.store.graph import find_platform, platform_images, read_config, read_document, walk
from ocibuild.version import FORMAT

__all__ = ["Level", "Rebuilt", "Settings", "narrowed", "rebuild", "recorded_settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an image was built with, as far as it shows.

    Attributes:
        labels: The labels of its configurations.
        annotations: The annotations that are no labels.
        platforms: Its platforms.
        compression: Its layers' codec.
        created: When it was made, in seconds since 1970.
        provenance: What is said of its making, if anything is.
    """

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    platforms: tuple[Platform, ...]
    compression: Compression
    created: int | None
    provenance: Provenance | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One thing that must be the same: the digest in the image, and in what was built."""

    platform: str
    name: str
    image: str
    built: str

    @property
    def is_equal(self) -> bool:
        """Whether it is."""
        return self.image == self.built


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What came of building an image again.

    Attributes:
        image: The image that was there.
        built: The one built from the sources.
        settings: What it was built with now.
        recorded: What the image shows of how it was built.
        taken: The labels that were taken from the image: the sources do not say them.
        levels: The digests, from the index down to the diff IDs.
        comparison: Why they differ.
    """

    image: Artifact
    built: Artifact
    settings: Settings
    recorded: Settings
    taken: tuple[str, ...]
    levels: tuple[Level, ...]
    comparison: Comparison

    @property
    def is_equal(self) -> bool:
        """Whether the digests of the two roots are equal."""
        return self.image.digest == self.built.digest

    @property
    def only_compression(self) -> bool:
        """Whether the archives are the same, and their compressed bytes are not."""
        is_whole = all(level.image and level.built for level in self.levels)
        archives = [level for level in self.levels if level.name.startswith("diff ID")]
        kinds = {item.kind for item in self.comparison.differences for item in item.walk()}
        return (
            not self.is_equal
            and is_whole
            and all(level.is_equal for level in archives)
            and kinds <= {"image", "layer", "codec"}
        )

    @property
    def codecs(self) -> tuple[str, str]:
        """The codec versions that made the image's layers, as far as that is known, and those that made these."""
        codecs = self.recorded.provenance.codecs if self.recorded.provenance else {}
        return codecs.get(self.recorded.compression.value, ""), installed_codecs().get(
            self.settings.compression.value, ""
        )

    def to_dict(self) -> dict[str, Any]:
        """The result as `--json` prints it."""
        recorded, installed = self.codecs
        return {
            "equal": self.is_equal,
            "onlyCompression": self.only_compression,
            "image": self.image.digest,
            "built": self.built.digest,
            "taken": list(self.taken),
            "codec": {"image": recorded or None, "built": installed or None},
            "levels": [
                {"platform": item.platform, "name": item.name, "image": item.image, "built": item.built}
                for item in self.levels
            ],
            "differences": self.comparison.to_dict()["differences"],
        }


def recorded_settings(image: Artifact) -> Settings:
    """The settings an image was built with: what its documents show, and its provenance.

    Raises:
        UsageError: It is no image, or was made by another format than this program's.
        ContentError: It is damaged.
    """
    images = platform_images(image)
    if not images:
        raise UsageError("an index without images", wanted="an image", where=image.digest)
    provenance = find_provenance(image)
    if provenance is not None and provenance.format != FORMAT:
        raise UsageError(
            f"an image of format {provenance.format}",
            wanted=f"format {FORMAT}",
            where=image.digest,
            hint=f"Rebuild it with ocibuild {provenance.version}, which made it.",
        )
    root = read_document(image.source, image.root)
    _, first = images[0]
    manifest = _manifest(first)
    config = read_config(image.source, manifest)
    labels = config.labels
    notes = (root.annotations if root is not None else None) or {}
    types = {compression.media_type: compression for compression in Compression}
    return Settings(
        labels=labels,
        annotations={key: value for key, value in notes.items() if labels.get(key) != value},
        platforms=tuple(platform for platform, _ in images),
        compression=next(
            (types[item.media_type] for item in manifest.layers if item.media_type in types), Compression.GZIP
        ),
        created=seconds_of(config.created) if config.created is not None else None,
        provenance=provenance,
    )


def rebuild(
    image: Artifact,
    sources: Iterable[Source],
    *,
    into: LocalStore | None = None,
    labels: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    recorded: Settings | None = None,
    distro: str | None = None,
    threads: int | None = None,
    reproducible: bool = True,
    on_progress: Callable[[int], None] | None = None,
) -> Rebuilt:
    """Build an image again and compare.

    Args:
        image: The image or index, in any store; a single image is compared with that of its platform.
        sources: What it is said to be made of, from `open_source`.
        into: Where to build; a spool by default.
        labels: Labels to set otherwise than in the image; an empty value leaves one out.
        settings: Those of the image by default.
        recorded: Those of the image, where they have been read.
        distro: The Debian release of the server's image, for labels that the settings do not have.
        threads: Compression threads, by default one a core.
        reproducible: Refuse an installed codec that gives other bytes than the format.
        on_progress: Called with the number of archive bytes that were just read.

    Raises:
        UsageError: It is no image, or was made by another format than this program's.
        SourceError: The sources cannot be packed.
        ContentError: The image is damaged.

    Example:
        >>> from ocibuild import postgres
        >>> sources = [postgres.open_source(f"fixtures/packages/{arch}/pgrx_hello-pg18") for arch in ("amd64", "arm64")]
        >>> image = postgres.build_extension(sources, labels={"licenses": "Apache-2.0"}, created=1_700_000_000)
        >>> rebuild(image, sources).is_equal
        True
    """
    recorded = recorded or recorded_settings(image)
    known = settings or recorded
    _check_blobs(image)
    chosen = {**known.labels, **{full_key(key): value for key, value in (labels or {}).items()}}
    packed = list(sources)
    derived = {key: label.value for key, label in default_labels(packed, distro=distro).items()}
    if known.created is None:
        chosen.setdefault(CREATED, "")
    built = build_extension(
        packed,
        into=into,
        labels=chosen,
        annotations=known.annotations,
        platforms=known.platforms,
        distro=distro,
        compression=known.compression,
        created=known.created,
        threads=threads,
        reproducible=reproducible,
        on_progress=on_progress,
    )
    if image.root.media_type not in media_types.INDEXES:
        built = find_platform(built, known.platforms[0])
    return Rebuilt(
        image=image,
        built=built,
        settings=known,
        recorded=recorded,
        taken=tuple(sorted(key for key, value in known.labels.items() if derived.get(key) != value)),
        levels=tuple(_levels(image, built)),
        comparison=compare(image, built),
    )


def _levels(image: Artifact, built: Artifact) -> Iterator[Level]:
    """Every digest of both, in the order of an image's anatomy."""
    is_index = image.root.media_type in media_types.INDEXES
    if is_index:
        yield Level(platform="", name="index", image=image.digest, built=built.digest)
    ours, theirs = ({str(name): item for name, item in platform_images(side)} for side in (image, built))
    for name in sorted(ours.keys() | theirs.keys()):
        left, right = (dict(_digests(side[name])) if name in side else {} for side in (ours, theirs))
        if "layer 2" in left or "layer 2" in right:
            left, right = ({_numbered(key): value for key, value in side.items()} for side in (left, right))
        for key in sorted(left.keys() | right.keys(), key=[*left, *right].index):
            yield Level(platform=name, name=key, image=left.get(key, ""), built=right.get(key, ""))


def _numbered(name: str) -> str:
    return f"{name} 1" if name in ("layer", "diff ID") else name


def _check_blobs(image: Artifact) -> None:
    """See that the image is whole: its digest says nothing of blobs that are gone or damaged.

    Raises:
        NotFoundError, ContentError: A blob is missing or damaged.
    """
    for blob in walk(image.source, image.root):
        if not isinstance(image.source, RemoteStore):
            with image.source.fetch(blob) as stream:
                drain(stream)
        elif not image.source.exists(blob):
            raise NotFoundError("no such blob in the registry", where=blob.digest, hint="Push the image again.")


def _manifest(image: Artifact) -> Manifest:
    manifest = read_document(image.source, image.root)
    if not isinstance(manifest, Manifest):
        raise UsageError(f"{image.root.media_type} in an index", wanted="image manifests", where=image.digest)
    return manifest


def _digests(image: Artifact) -> Iterator[tuple[str, Digest]]:
    manifest = _manifest(image)
    config = read_config(image.source, manifest)
    yield "manifest", image.digest
    yield "config", manifest.config.digest
    many = len(manifest.layers) > 1
    for number, (layer, diff_id) in enumerate(zip(manifest.layers, config.rootfs.diff_ids, strict=True), start=1):
        count = f" {number}" if many else ""
        yield f"layer{count}", layer.digest
        yield f"diff ID{count}", diff_id


def narrowed(settings: Settings, **given: Any) -> Settings:
    """The settings with those that were given in place of the image's; None leaves one as it is."""
    return replace(settings, **{key: value for key, value in given.items() if value is not None})
