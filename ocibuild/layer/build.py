"""Building a layer: entries in, a blob and its diff ID out, each byte touched once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol

import msgspec

from ocibuild.oci import Descriptor, Digest

from .compress import Compression, compress
from .entry import Entry
from .format import check_codec
from .plan import plan
from .tar import tar_chunks
from .workers import Workers

__all__ = ["BlobWriter", "Ingester", "Layer", "build_layer"]


class BlobWriter(Protocol):
    """A blob being written; its digest is known when it is committed."""

    def write(self, data: bytes, /) -> object:
        """Append bytes."""

    def commit(self, media_type: str) -> Descriptor:
        """Make the blob present under its digest and give its descriptor."""


class Ingester(Protocol):
    """Where blobs can be written whose digest is not known yet."""

    def ingest(self) -> AbstractContextManager[BlobWriter]:
        """A writer; leaving it without `commit` leaves nothing behind."""


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """A layer blob and the digest of the archive inside it.

    Attributes:
        descriptor: The blob: compressed digest and size.
        diff_id: The digest of the uncompressed archive (image-spec, config.md, "Layer DiffID").
        uncompressed_size: The bytes of that archive.
    """

    descriptor: Descriptor
    diff_id: Digest
    uncompressed_size: int


def build_layer(
    entries: Iterable[Entry],
    *,
    into: Ingester,
    compression: Compression = Compression.GZIP,
    mtime: int = 0,
    threads: int | None = None,
    workers: Workers | None = None,
    ready: Callable[[], object] | None = None,
    reproducible: bool = True,
    on_progress: Callable[[int], None] | None = None,
) -> Layer:
    """Write the layer of the given entries into a store.

    Args:
        entries: In any order; `plan` checks, completes and sorts them.
        into: A store that takes blobs of unknown digest: memory, layout, archive or spool.
        compression: The codec.
        mtime: The modification time of every entry, whole seconds since 1970.
        threads: Compression threads, by default one a core; the bytes do not depend on it.
        workers: Compression threads that several layers share, in place of `threads`.
        ready: Called before the blob gets its name; what it raises leaves nothing behind.
        reproducible: Refuse an installed codec that gives other bytes than the format; when false, warn.
        on_progress: Called with the number of archive bytes that were just read.

    Raises:
        EntryError: An entry that has no place in a layer, or a file that cannot be read.
        StoreError: The blob cannot be written.
        CodecError: The installed codec gives other bytes.

    Example:
        >>> from ocibuild import File, MemoryStore
        >>> layer = build_layer([File(path="share/extension/x.sql", content=b"select 1;")], into=MemoryStore())
        >>> layer.uncompressed_size
        3072
        >>> layer.diff_id[:19]
        'sha256:...'
    """
    check_codec(compression, reproducible=reproducible)
    hasher = hashlib.sha256()
    size = 0

    def archive() -> Iterator[bytes]:
        nonlocal size
        for block in tar_chunks(planned, mtime=mtime):
            hasher.update(block)
            size += len(block)
            if on_progress is not None:
                on_progress(len(block))
            yield block

    planned = plan(entries)
    with ExitStack() as stack:
        if workers is None:
            workers = stack.enter_context(Workers(threads or available_cores()))
        blob = stack.enter_context(into.ingest())
        for data in compress(archive(), compression, workers=workers):
            blob.write(data)
        if ready is not None:
            ready()
        descriptor = blob.commit(compression.media_type)
    return Layer(descriptor=descriptor, diff_id=Digest.from_hash(hasher), uncompressed_size=size)


def available_cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
