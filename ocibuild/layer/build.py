"""Building a layer: entries in, a blob and its diff ID out, each byte touched once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol

import msgspec

from ocibuild.oci import Descriptor, Digest

from .compress import Compression, Data
from .entry import Entry
from .format import check_codec
from .pack import Packed, Packing
from .workers import Workers, available_cores

__all__ = ["BlobWriter", "Ingester", "Layer", "build_layer"]


class BlobWriter(Protocol):
    """A blob being written; its digest is known when it is committed."""

    def write(self, data: Data, /) -> object:
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
    packed: Packed | None = None,
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
        packed: The bytes of these entries with this codec and time, where they are being packed already.
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
    with ExitStack() as stack:
        if packed is None:
            if workers is None:
                workers = stack.enter_context(Workers(threads or available_cores()))
            packed = Packing(entries, compression, mtime=mtime, workers=workers, on_progress=on_progress)
        blob = stack.enter_context(into.ingest())
        for data in packed:
            blob.write(data)
        if ready is not None:
            ready()
        descriptor = blob.commit(compression.media_type)
    return Layer(descriptor=descriptor, diff_id=Digest(f"sha256:{packed.diff_id}"), uncompressed_size=packed.size)
