"""Copying artifacts between stores: blobs several at a time, then what names them, then the tags."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO

import msgspec

from ocibuild.errors import ContentError, UsageError
from ocibuild.layer.stream import PullStream
from ocibuild.oci import Descriptor, Digest, Platform
from ocibuild.oci.media_types import INDEXES, MANIFESTS
from ocibuild.oci.reference import check_tag

from .base import Artifact, Fetcher, RemoteStore, Store
from .graph import DOCUMENTS, GRAPH_LIMIT, find_platform, walk

__all__ = ["copy"]

_CHUNK = 1024 * 1024

Tell = Callable[[Descriptor, int], None]
Done = Callable[[Descriptor], None]


def copy(
    artifact: Artifact,
    store: Store,
    *,
    tags: Iterable[str] = (),
    platform: Platform | None = None,
    referrers: bool = False,
    on_progress: Tell | None = None,
    on_done: Done | None = None,
    on_tag: Callable[[str], None] | None = None,
) -> Artifact:
    """Put an artifact and all it reaches into a store: build, push, pull, export and import are this one function.

    Blobs that are there already are not sent; digests never change; blobs come first, then manifests, then the root and
    its tags, so that nobody sees half an image. To and from a registry several blobs go at a time, and the manifests of
    an image that a registry has are not looked into.

    Args:
        artifact: What to copy.
        store: Where to.
        tags: Names to give it there, in this order.
        platform: Copy only this platform's image out of an index.
        referrers: Also copy what is attached: every manifest whose `subject` is one of those copied.
        on_progress: Called with a blob's descriptor and the number of its bytes that were just handled, from several
            threads; the number is negative when a transfer begins again.
        on_done: Called with each blob's descriptor once it is there, from several threads.
        on_tag: Called with each tag once it names the artifact.

    Returns:
        The copied artifact, with the store as its source.

    Raises:
        NotFoundError: The artifact, a blob of it, or the platform is not there.
        DigestMismatchError: A blob is damaged; nothing is tagged.
        StoreError, RegistryError: The store cannot be written.

    Example:
        >>> from ocibuild import MemoryStore, build_image, Platform
        >>> image = build_image([], platform=Platform.parse("linux/amd64"))
        >>> copy(image, MemoryStore(), tags=["1.0"]).digest == image.digest
        True
    """
    names = [check_tag(tag) for tag in tags]
    if platform is not None:
        artifact = find_platform(artifact, platform)
    transfer = _Transfer(artifact.source, store, on_progress or _untold, on_done or _untold)
    # A registry takes a manifest and its tag in one request.
    held_back = artifact.root if transfer.is_remote and names and not referrers else None
    copied = transfer.run([artifact.root], held_back=held_back)
    if referrers:
        _copy_referrers(transfer, copied)
    for name in names:
        if isinstance(store, RemoteStore):
            with artifact.source.fetch(artifact.root) as content:
                store.push_as(artifact.root, content, name)
        else:
            store.tag(artifact.root, name)
        if name == names[0] and held_back is not None:
            transfer.tell_done(held_back)
        if on_tag is not None:
            on_tag(name)
    return Artifact(artifact.root, store)


class _Transfer(msgspec.Struct, frozen=True):
    """One source, one destination, and who wants to know."""

    source: Fetcher
    store: Store
    tell: Tell
    done: Done

    @property
    def is_remote(self) -> bool:
        return isinstance(self.store, RemoteStore)

    def run(self, roots: Sequence[Descriptor], *, held_back: Descriptor | None = None) -> list[Descriptor]:
        """Copy what the roots reach, but for what is held back; the manifests and indexes of it."""
        # A registry has what its manifests name; a folder may have lost it.
        there = [root for root in roots if self.is_remote and self.store.exists(root)]
        known = {item.digest for root in there for item in walk(self.source, root)}
        reached = list({item.digest: item for root in roots for item in walk(self.source, root)}.values())
        missing = [item for item in reached if item.digest not in known]
        for item in reached:
            if item.digest in known and (held_back is None or item.digest != held_back.digest):
                self.tell_done(item)
        blobs = [item for item in missing if item.media_type not in DOCUMENTS]
        self._move_all(blobs, self.move)
        manifests = [item for item in missing if item.media_type in MANIFESTS and item != held_back]
        self._move_all(manifests, self.move_document)
        for item in missing:  # an index comes behind what it names
            if item.media_type in INDEXES and item != held_back:
                self.move_document(item)
        return [item for item in reached if item.media_type in DOCUMENTS]

    def _move_all(self, items: Sequence[Descriptor], move: Done) -> None:
        """Several at a time where the stores gain by it, the largest first. The first failure ends what has not begun."""
        jobs = max(getattr(self.source, "transfers", 1), getattr(self.store, "transfers", 1))
        if jobs == 1 or len(items) < 2:  # noqa: PLR2004
            for item in items:
                move(item)
            return
        from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

        with ThreadPoolExecutor(jobs, thread_name_prefix="ocibuild-copy") as pool:
            futures = [pool.submit(move, item) for item in sorted(items, key=lambda item: -item.size)]
            try:
                finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in finished:
                    future.result()
            finally:
                for future in futures:
                    future.cancel()

    def move(self, descriptor: Descriptor) -> None:
        """Bring one blob there, unless it is."""
        if self.store.exists(descriptor):
            self.tell_done(descriptor)
        else:
            self._push(descriptor)

    def move_document(self, descriptor: Descriptor) -> None:
        """Bring a manifest there. To a registry it goes unasked: asking costs as much as sending it."""
        (self._push if self.is_remote else self.move)(descriptor)

    def _push(self, descriptor: Descriptor) -> None:
        counted = _Counted(self.source, descriptor, self.tell)
        with io.BufferedReader(counted, _CHUNK) as stream:
            self.store.push(descriptor, stream)
            # What was mounted was never read.
            self.tell(descriptor, descriptor.size - counted.tell())
        self.done(descriptor)

    def tell_done(self, descriptor: Descriptor) -> None:
        """Tell of a blob that is there without having been read."""
        self.tell(descriptor, descriptor.size)
        self.done(descriptor)


def _untold(*_: object) -> None:
    """Nobody wants to know."""


def _copy_referrers(transfer: _Transfer, subjects: Sequence[Descriptor]) -> None:
    source = transfer.source
    if not hasattr(source, "referrers"):
        raise UsageError("a source that knows no referrers", wanted="an image in a store")
    copied: set[Digest] = {subject.digest for subject in subjects}
    asked: set[Digest] = set()
    todo = list(subjects)
    while todo:
        subject = todo.pop()
        if subject.digest in asked:
            continue
        asked.add(subject.digest)
        for referrer in source.referrers(subject):
            if referrer.digest in copied:
                continue
            if len(copied) > GRAPH_LIMIT:
                raise ContentError(f"more than {GRAPH_LIMIT} referrers")
            copied.add(referrer.digest)
            todo += transfer.run([referrer])


class _Counted(PullStream):
    """A blob that is fetched when it is first read, and tells how far it has come."""

    def __init__(self, source: Fetcher, descriptor: Descriptor, tell: Tell) -> None:
        self._source, self._descriptor, self._tell = source, descriptor, tell
        self._stream: BinaryIO | None = None
        self._at = 0

    @property
    def _opened(self) -> BinaryIO:
        if self._stream is None:
            self._stream = self._source.fetch(self._descriptor)
        return self._stream

    def pull(self, size: int) -> bytes:
        data = self._opened.read(size)
        self._at += len(data)
        self._tell(self._descriptor, len(data))
        return data

    def seekable(self) -> bool:
        return self._opened.seekable()

    def seek(self, offset: int, whence: int = 0) -> int:
        if self._stream is None and (offset, whence) == (0, 0):
            return 0
        found = self._opened.seek(offset, whence)
        self._tell(self._descriptor, found - self._at)
        self._at = found
        return found

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        super().close()
