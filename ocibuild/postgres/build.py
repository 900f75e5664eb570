"""Building an extension's image: one image a platform, one index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from ocibuild.errors import SourceError, UsageError
from ocibuild.image import build_image, build_index
from ocibuild.layer import Compression, Entry, File, build_layer
from ocibuild.layer.entry import Directory
from ocibuild.oci import Platform
from ocibuild.oci.annotations import CREATED, full_key
from ocibuild.store import Artifact, LocalStore, Spool

from .labels import check_text
from .labels import labels as default_labels
from .sources import Source
from .sources.base import content_digest

__all__ = ["USER", "build_extension", "merge"]

USER = "65532:65532"
"""The user of CloudNativePG's extension images."""

_LATEST = 253402300799  # 9999-12-31T23:59:59Z, the last second RFC 3339 can say


def build_extension(
    sources: Iterable[Source],
    *,
    into: LocalStore | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    compression: Compression = Compression.GZIP,
    created: int | None = None,
    threads: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Artifact:
    """The image of an extension: an index with one image a platform.

    Args:
        sources: From `open_source`, one or several a platform; those of one platform are merged.
        into: The store to write to; without one, a spool that lives as long as the artifact.
        labels: Labels of every configuration, also annotations of the manifests and the index. Short keys are allowed;
            what is not given comes from the sources.
        annotations: Annotations alone.
        compression: The layers' codec.
        created: When the image was made, in whole seconds since 1970; also the files' modification time. Left out of
            the configuration when None.
        threads: Compression threads, by default one a core.
        on_progress: Called with the number of archive bytes that were just read.

    Returns:
        The index.

    Raises:
        SourceError: No source, sources that do not fit together, or two files at one path.
        StoreError: The store cannot be written.

    Example:
        >>> from ocibuild import postgres
        >>> sources = [postgres.open_source(f"fixtures/packages/{arch}/pgrx_hello-pg18") for arch in ("amd64", "arm64")]
        >>> postgres.build_extension(sources).digest[:15]
        'sha256:...'
    """
    found = list(sources)
    by_platform = merge(found)
    chosen = {full_key(key): value for key, value in (labels or {}).items()}
    merged = {key: label.value for key, label in default_labels(found, given=chosen).items()}
    stamp = None if created is None else _rfc3339(created)
    if stamp is not None:
        merged.setdefault(CREATED, stamp)
    notes = dict(merged)
    for key, value in (annotations or {}).items():
        check_text(key, value)
        notes[full_key(key)] = value
    store = into if into is not None else Spool()
    images = []
    for platform, entries in by_platform.items():
        layer = build_layer(
            entries, into=store, compression=compression, mtime=created or 0, threads=threads, on_progress=on_progress
        )
        image = build_image(
            [layer], platform=platform, into=store, labels=merged, annotations=notes, user=USER, created=stamp
        )
        images.append(image)
    return build_index(images, into=store, annotations=notes)


def merge(sources: Sequence[Source]) -> dict[Platform, list[Entry]]:
    """The entries of each platform, platforms sorted.

    Raises:
        SourceError: No source; sources of different extensions, versions or PostgreSQL majors; two files at one path.
    """
    if not sources:
        raise SourceError("no source", wanted="what cargo pgrx package wrote", hint="Name a folder.")
    _same(sources, "name", lambda source: source.name)
    _same(sources, "version", lambda source: source.version)
    _same(sources, "PostgreSQL major", lambda source: source.major)
    found: dict[Platform, dict[str, tuple[Source, Entry]]] = {}
    for source in sources:
        entries = found.setdefault(source.platform, {})
        for entry in source.entries:
            other = entries.setdefault(entry.path, (source, entry))
            if other[1] is not entry and not _equal(other[1], entry):
                raise SourceError(
                    f"two files at {entry.path} of {source.platform}",
                    wanted="one, or two with the same content",
                    where=f"{other[0].where} and {source.where}",
                )
    return {platform: [entry for _, entry in found[platform].values()] for platform in sorted(found, key=str)}


def _same(sources: Sequence[Source], what: str, value: Callable[[Source], object]) -> None:
    told = [(value(source), source) for source in sources if value(source) is not None]
    for other, source in told[1:]:
        if other != told[0][0]:
            raise SourceError(
                f"{what} {other} in {source.where}, but {told[0][0]} in {told[0][1].where}",
                wanted=f"one {what}",
                hint="One of the trees is stale or of another extension: package again.",
            )


def _equal(one: Entry, other: Entry) -> bool:
    if isinstance(one, File) and isinstance(other, File):
        return one.size == other.size and one.mode == other.mode and content_digest(one) == content_digest(other)
    return one == other or (isinstance(one, Directory) and isinstance(other, Directory))


def _rfc3339(seconds: int) -> str:
    if not 0 <= seconds <= _LATEST:
        raise UsageError(f"the time {seconds}", wanted="whole seconds since 1970")
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
