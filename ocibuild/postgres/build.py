"""Building an extension's image: one image a platform, one index."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from ocibuild.errors import UsageError
from ocibuild.image import build_image, build_index
from ocibuild.layer import Compression, Layer, build_layer
from ocibuild.layer.format import check_codec
from ocibuild.layer.workers import StoppedError, Workers, available_cores
from ocibuild.oci import Platform
from ocibuild.oci.annotations import CREATED, full_key
from ocibuild.store import Artifact, LocalStore
from ocibuild.store.known import find_layer, known_layers
from ocibuild.times import rfc3339

from .label import check_text
from .label import labels as default_labels
from .root import ImageRoot, image_roots
from .sources import Source

if TYPE_CHECKING:
    from ocibuild.layer.ahead import Ahead

__all__ = ["USER", "begin_layers", "build_extension", "seconds_of"]

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
    layers: Callable[[], list[Layer]] | None = None,
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
        layers: What `begin_layers` gave for these sources and settings; by default they are built now.

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
    if into is None:
        from ocibuild.store import Spool

        into = Spool()
    with ExitStack() as stack:
        if layers is None:
            settings: dict[str, Any] = {"compression": compression, "created": created, "threads": threads}
            layers = stack.enter_context(
                begin_layers(roots, into=into, reproducible=reproducible, on_progress=on_progress, **settings)
            )
        built = layers()
    images = [
        build_image(
            [layer], platform=root.platform, into=into, labels=merged, annotations=notes, user=USER, created=stamp
        )
        for root, layer in zip(roots, built, strict=True)
    ]
    return build_index(images, into=into, annotations=notes)


@contextmanager
def begin_layers(
    roots: Sequence[ImageRoot],
    *,
    into: LocalStore,
    compression: Compression = Compression.GZIP,
    created: int | None = None,
    threads: int | None = None,
    reproducible: bool = True,
    ahead: Ahead | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[Callable[[], list[Layer]]]:
    """Begin to build the layer of each root, side by side; what is given waits for them.

    None of them is kept before it is asked for, and none when the context is left by an error: checks can run meanwhile.

    Args:
        roots: From `image_roots`.
        into: The store to write to.
        compression: The layers' codec.
        created: The files' modification time.
        threads: Compression threads, by default one a core.
        reproducible: Refuse an installed codec that gives other bytes than the format; when false, warn.
        ahead: What is being packed already.
        on_progress: Called with the number of archive bytes that were just read.

    Raises:
        EntryError: While they are asked for: a file cannot be read.
        StoreError: The same: the store cannot be written.
        CodecError: The installed codec gives other bytes.
    """
    asked = threading.Event()
    check_codec(compression, reproducible=reproducible)

    def ready() -> None:
        asked.wait()
        if builders.stopped:
            raise StoppedError

    def progress(size: int) -> None:
        if builders.stopped:
            raise StoppedError
        if on_progress is not None:
            on_progress(size)

    def build(root: ImageRoot) -> Layer:
        entries, mtime = list(root.entries.values()), created or 0
        packed = (
            None if ahead is None else ahead.packed(entries, compression=compression, mtime=mtime, on_progress=progress)
        )
        return (None if packed else _known_layer(root, into, compression, mtime, workers)) or build_layer(
            entries,
            into=into,
            compression=compression,
            mtime=mtime,
            workers=workers,
            ready=ready,
            reproducible=reproducible,
            packed=packed,
            on_progress=progress,
        )

    def layers() -> list[Layer]:
        asked.set()
        return [task.result() for task in tasks]

    # zstd has threads of its own, and much memory in each.
    together = 1 if compression is Compression.ZSTD else len(roots)
    with Workers(threads or available_cores()) as workers, Workers(together) as builders:
        tasks = [builders.submit(partial(build, root)) for root in roots]
        try:
            yield layers
        except BaseException:
            builders.stopped = True
            raise
        finally:
            asked.set()


def _known_layer(
    root: ImageRoot, store: LocalStore, compression: Compression, mtime: int, workers: Workers
) -> Layer | None:
    """The layer of a root where the store has it: an image that is built again is not compressed again."""
    known = known_layers(store, root.platform, compression)
    if not known:
        return None
    return find_layer(root.entries.values(), known, store, compression=compression, mtime=mtime, workers=workers)


def seconds_of(text: str) -> int | None:
    """Whole seconds since 1970 of an RFC 3339 date and time; None for what is none.

    Without a zone it would be another moment on every machine, so that is none either.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int(moment.timestamp()) if moment.tzinfo is not None else None


def _rfc3339(seconds: int) -> str:
    if not 0 <= seconds <= _LATEST:
        raise UsageError(f"the time {seconds}", wanted="whole seconds since 1970")
    return rfc3339(datetime.fromtimestamp(seconds, UTC))
