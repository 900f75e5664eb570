"""Building an extension's image: one image a platform, one index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from ocibuild.errors import UsageError
from ocibuild.image import build_image, build_index
from ocibuild.layer import Compression, build_layer
from ocibuild.oci import Platform
from ocibuild.oci.annotations import CREATED, full_key
from ocibuild.store import Artifact, LocalStore, Spool

from .label import check_text
from .label import labels as default_labels
from .root import image_roots
from .sources import Source

__all__ = ["USER", "build_extension"]

USER = "65532:65532"
"""The user of CloudNativePG's extension images."""

_LATEST = 253402300799  # 9999-12-31T23:59:59Z, the last second RFC 3339 can say


def build_extension(
    sources: Iterable[Source],
    *,
    into: LocalStore | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    platforms: Iterable[Platform | str] = (),
    distro: str | None = None,
    compression: Compression = Compression.GZIP,
    created: int | None = None,
    threads: int | None = None,
    reproducible: bool = True,
    on_progress: Callable[[int], None] | None = None,
) -> Artifact:
    """The image of an extension: an index with one image a platform.

    Args:
        sources: From `open_source`, one or several a platform; those of one platform are joined, scripts alone go with all.
        into: The store to write to; without one, a spool that lives as long as the artifact.
        labels: Labels of every configuration, also annotations of the manifests and the index. Short keys are allowed;
            what is not given comes from the sources.
        annotations: Annotations alone.
        platforms: The platforms wanted; by default those of the sources, or amd64 and arm64 for scripts alone.
        distro: The Debian release of the server's image, for its label.
        compression: The layers' codec.
        created: When the image was made, in whole seconds since 1970; also the files' modification time. Left out of
            the configuration when None.
        threads: Compression threads, by default one a core.
        reproducible: Refuse an installed codec that gives other bytes than the format; when false, warn.
        on_progress: Called with the number of archive bytes that were just read.

    Returns:
        The index.

    Raises:
        SourceError: No source, two files at one path, or a library or control file that cannot be read.
        StoreError: The store cannot be written.
        CodecError: The installed codec gives other bytes.

    Example:
        >>> from ocibuild import postgres
        >>> sources = [postgres.open_source(f"fixtures/packages/{arch}/pgrx_hello-pg18") for arch in ("amd64", "arm64")]
        >>> postgres.build_extension(sources).digest[:15]
        'sha256:...'
    """
    found = list(sources)
    for source in found:
        for error in source.unreadable.values():
            raise error
    roots = image_roots(found, platforms=platforms)
    chosen = {full_key(key): value for key, value in (labels or {}).items()}
    merged = {key: label.value for key, label in default_labels(found, given=chosen, distro=distro).items()}
    stamp = None if created is None else _rfc3339(created)
    if stamp is not None:
        merged.setdefault(CREATED, stamp)
    notes = dict(merged)
    for key, value in (annotations or {}).items():
        check_text(key, value)
        notes[full_key(key)] = value
    store = into if into is not None else Spool()
    images = []
    for root in roots:
        layer = build_layer(
            root.entries.values(),
            into=store,
            compression=compression,
            mtime=created or 0,
            threads=threads,
            reproducible=reproducible,
            on_progress=on_progress,
        )
        image = build_image(
            [layer], platform=root.platform, into=store, labels=merged, annotations=notes, user=USER, created=stamp
        )
        images.append(image)
    return build_index(images, into=store, annotations=notes)


def _rfc3339(seconds: int) -> str:
    if not 0 <= seconds <= _LATEST:
        raise UsageError(f"the time {seconds}", wanted="whole seconds since 1970")
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
