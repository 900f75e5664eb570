"""A store in memory: for tests, and for images small enough to hold."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import BinaryIO, Self

from ocibuild.errors import NotFoundError
from ocibuild.oci import Descriptor, Digest
from ocibuild.oci.reference import check_tag

from .graph import DOCUMENTS, referrer_of
from .verify import verifying

__all__ = ["MemoryStore"]


class MemoryStore:
    """Blobs in a dictionary.

    Example:
        >>> store = MemoryStore()
        >>> with store.ingest() as blob:
        ...     _ = blob.write(b"hello")
        ...     descriptor = blob.commit("text/plain")
        >>> store.fetch(descriptor).read()
        b'hello'
    """

    def __init__(self) -> None:
        self._blobs: dict[Digest, tuple[str, bytes]] = {}
        self._tags: dict[str, Descriptor] = {}
        self._referrers: dict[Digest, dict[Digest, Descriptor]] = {}
        self._lock = threading.Lock()

    def fetch(self, descriptor: Descriptor) -> BinaryIO:
        """See `Fetcher.fetch`."""
        with self._lock:
            found = self._blobs.get(descriptor.digest)
        if found is None:
            raise NotFoundError("no such blob in memory", where=descriptor.digest)
        return verifying(io.BytesIO(found[1]), descriptor)

    def exists(self, descriptor: Descriptor) -> bool:
        """See `Store.exists`."""
        with self._lock:
            found = self._blobs.get(descriptor.digest)
        return found is not None and len(found[1]) == descriptor.size

    def push(self, descriptor: Descriptor, content: BinaryIO) -> None:
        """See `Store.push`."""
        with verifying(content, descriptor, owns=False) as stream:
            self._keep(descriptor, stream.read())

    @contextmanager
    def ingest(self) -> Iterator[_MemoryWriter]:
        """See `LocalStore.ingest`."""
        yield _MemoryWriter(self)

    def resolve(self, name: str) -> Descriptor:
        """See `Store.resolve`."""
        with self._lock:
            if name in self._tags:
                return self._tags[name]
            found = self._blobs.get(Digest(name)) if Digest.is_valid(name) else None
        if found is not None and found[0] in DOCUMENTS:
            return Descriptor(media_type=found[0], digest=Digest(name), size=len(found[1]))
        raise NotFoundError(f"no {name!r} in memory")

    def tag(self, descriptor: Descriptor, name: str) -> None:
        """See `Store.tag`."""
        check_tag(name)
        if not self.exists(descriptor):
            raise NotFoundError("no such blob in memory", where=descriptor.digest)
        with self._lock:
            self._tags[name] = descriptor.bare

    def retag(self, descriptor: Descriptor, name: str, expected: Descriptor | None) -> bool:
        """See `Retagging.retag`."""
        check_tag(name)
        if not self.exists(descriptor):
            raise NotFoundError("no such blob in memory", where=descriptor.digest)
        with self._lock:
            now = self._tags.get(name)
            if (now and now.digest) != (expected and expected.digest):
                return False
            self._tags[name] = descriptor.bare
            return True

    def tags(self) -> dict[str, Descriptor]:
        """See `LocalStore.tags`."""
        with self._lock:
            return dict(sorted(self._tags.items()))

    def referrers(self, descriptor: Descriptor, *, artifact_type: str | None = None) -> list[Descriptor]:
        """See `Store.referrers`."""
        with self._lock:
            found = list(self._referrers.get(descriptor.digest, {}).values())
        return sorted(
            (item for item in found if artifact_type in (None, item.artifact_type)), key=lambda item: item.digest
        )

    def _keep(self, descriptor: Descriptor, data: bytes) -> None:
        link = referrer_of(data, descriptor) if descriptor.media_type in DOCUMENTS else None
        with self._lock:
            self._blobs[descriptor.digest] = (descriptor.media_type, data)
            if link is not None:
                self._referrers.setdefault(link[0].digest, {})[descriptor.digest] = link[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class _MemoryWriter(io.BytesIO):
    def __init__(self, store: MemoryStore) -> None:
        super().__init__()
        self._store = store

    def commit(self, media_type: str) -> Descriptor:
        data = self.getvalue()
        descriptor = Descriptor.of(data, media_type)
        self._store._keep(descriptor, data)  # noqa: SLF001 - the store's own writer
        return descriptor
