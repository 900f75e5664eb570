"""Copying artifacts between stores: blobs several at a time, then what names them, then the tags."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import BinaryIO

from ocibuild.errors import ContentError, UsageError
from ocibuild.layer.stream import PullStream
from ocibuild.oci import Descriptor, Digest, Platform
from ocibuild.oci.reference import check_tag

from .base import Artifact, Fetcher, Store
from .graph import DOCUMENTS, GRAPH_LIMIT, find_platform, walk

__all__ = ["copy"]

_CHUNK = 1024 * 1024

Tell = Callable[[Descriptor, int], None]


def copy(
    artifact: Artifact,
    store: Store,
    *,
    tags: Iterable[str] = (),
    platform: Platform | None = None,
    referrers: bool = False,
    on_progress: Tell | None = None,
) -> Artifact:
    """Put an artifact and all it reaches into a store: build, push, pull, export and import are this one function.

    Blobs that are there already are not sent; digests never change; blobs come first, then manifests, then the root and
    its tags, so that nobody sees half an image. To and from a registry several blobs go at a time, and a manifest that
    a registry has is not looked into.

    Args:
        artifact: What to copy.
        store: Where to.
        tags: Names to give it there, in this order.
        platform: Copy only this platform's image out of an index.
        referrers: Also copy what is attached: every manifest whose `subject` is one of those copied.
        on_progress: Called with a blob's descriptor and the number of its bytes that were just handled, from several
            threads; the number is negative when a transfer begins again.

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
    copied = _transfer(artifact.source, store, [artifact.root], on_progress)
    if referrers:
        _copy_referrers(artifact.source, store, copied, on_progress)
    for name in names:
        store.tag(artifact.root, name)
    return Artifact(artifact.root, store)


def _transfer(source: Fetcher, store: Store, roots: Sequence[Descriptor], tell: Tell | None) -> list[Descriptor]:
    """Copy what the roots reach; the manifests and indexes of it."""
    # A registry has what its manifests name; a folder may have lost it.
    is_remote = hasattr(store, "transfers")
    there: list[Descriptor] = []

    def skip(descriptor: Descriptor) -> bool:
        if not (is_remote and store.exists(descriptor)):
            return False
        there.append(descriptor)
        for item in walk(source, descriptor) if tell is not None else ():
            _told(item, tell)
        return True

    reached = list({item.digest: item for root in roots for item in walk(source, root, skip=skip)}.values())
    documents = [item for item in reached if item.media_type in DOCUMENTS]
    blobs = [item for item in reached if item.media_type not in DOCUMENTS]
    jobs = max(getattr(source, "transfers", 1), getattr(store, "transfers", 1))
    if jobs == 1 or len(blobs) < 2:  # noqa: PLR2004
        for descriptor in blobs:
            _move(source, store, descriptor, tell)
    else:
        _move_all(source, store, blobs, tell, jobs)
    for descriptor in documents:
        _move(source, store, descriptor, tell, known_missing=is_remote)
    return [*documents, *(item for root in there for item in _documents_below(source, root))]


def _documents_below(source: Fetcher, root: Descriptor) -> Iterator[Descriptor]:
    return (item for item in walk(source, root) if item.media_type in DOCUMENTS)


def _move_all(source: Fetcher, store: Store, blobs: Sequence[Descriptor], tell: Tell | None, jobs: int) -> None:
    """Several at a time, the largest first. The first failure ends what has not begun."""
    in_order = sorted(blobs, key=lambda item: -item.size)
    with ThreadPoolExecutor(jobs, thread_name_prefix="ocibuild-copy") as pool:
        futures = [pool.submit(_move, source, store, descriptor, tell) for descriptor in in_order]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        finally:
            for future in futures:
                future.cancel()


def _move(
    source: Fetcher, store: Store, descriptor: Descriptor, tell: Tell | None, *, known_missing: bool = False
) -> None:
    if not known_missing and store.exists(descriptor):
        _told(descriptor, tell)
        return
    with source.fetch(descriptor) as stream:
        if tell is None:
            store.push(descriptor, stream)
        else:
            store.push(descriptor, io.BufferedReader(_Counted(stream, descriptor, tell), _CHUNK))


def _told(descriptor: Descriptor, tell: Tell | None) -> None:
    if tell is not None:
        tell(descriptor, descriptor.size)


def _copy_referrers(source: Fetcher, store: Store, subjects: list[Descriptor], tell: Tell | None) -> None:
    if not hasattr(source, "referrers"):
        raise UsageError("a source that knows no referrers", wanted="an image in a store")
    seen: set[Digest] = {subject.digest for subject in subjects}
    todo = list(subjects)
    while todo:
        for referrer in source.referrers(todo.pop()):
            if referrer.digest in seen:
                continue
            if len(seen) > GRAPH_LIMIT:
                raise ContentError(f"more than {GRAPH_LIMIT} referrers")
            seen.add(referrer.digest)
            _transfer(source, store, [referrer], tell)
            todo.append(referrer)


class _Counted(PullStream):
    """A reader that tells how far it has come."""

    def __init__(self, stream: BinaryIO, descriptor: Descriptor, tell: Tell) -> None:
        self._stream, self._descriptor, self._tell = stream, descriptor, tell
        self._at = 0

    def pull(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._at += len(data)
        self._tell(self._descriptor, len(data))
        return data

    def seekable(self) -> bool:
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = 0) -> int:
        found = self._stream.seek(offset, whence)
        self._tell(self._descriptor, found - self._at)
        self._at = found
        return found

    def tell(self) -> int:
        return self._at
