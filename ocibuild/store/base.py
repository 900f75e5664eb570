"""The protocols of stores, and the artifact they hold.

Rules kept by every store: a blob is named by its digest and never changes; `fetch` verifies while it reads; pushing a
blob that is present changes nothing; pushing a manifest with a `subject` makes it findable by `referrers`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import BinaryIO, Protocol, Self, runtime_checkable

import msgspec

from ocibuild.layer.build import BlobWriter
from ocibuild.oci import Descriptor, Digest

__all__ = ["Artifact", "Fetcher", "LocalStore", "RemoteStore", "Retagging", "Store"]


class Fetcher(Protocol):
    """What can give blobs."""

    def fetch(self, descriptor: Descriptor, /) -> BinaryIO:
        """A fresh reader of the blob that raises before the last byte if size or digest are wrong.

        Raises:
            NotFoundError: The blob is not here.
            DigestMismatchError: While reading: the bytes are not the descriptor's.
        """


class Store(Fetcher, Protocol):
    """Blobs by digest, some of them named by tags. A context manager, and safe to use from several threads."""

    def exists(self, descriptor: Descriptor, /) -> bool:
        """Whether the blob is here and whole. True holds until the store is closed."""

    def push(self, descriptor: Descriptor, content: BinaryIO, /) -> None:
        """Keep a blob. A manifest with a `subject` becomes a referrer of it.

        Raises:
            DigestMismatchError: The content is not the descriptor's; nothing is kept.
            StoreError: The store cannot be written.
        """

    def resolve(self, name: str, /) -> Descriptor:
        """The descriptor behind a tag or digest.

        Raises:
            NotFoundError: There is none.
        """

    def tag(self, descriptor: Descriptor, name: str, /) -> None:
        """Name a manifest or index that is here; a tag that named another one moves."""

    def referrers(self, descriptor: Descriptor, /, *, artifact_type: str | None = None) -> list[Descriptor]:
        """The manifests whose `subject` is the given one, each with its artifact type and annotations."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class LocalStore(Store, Protocol):
    """A store on this machine, which also takes blobs whose digest is known only at their end.

    Layouts, archives and stores in memory are `Retagging` too.
    """

    def ingest(self) -> AbstractContextManager[BlobWriter]:
        """A writer that hashes while it writes; leaving it without `commit` leaves nothing behind."""

    def tags(self) -> dict[str, Descriptor]:
        """Every tag and what it names, sorted."""


@runtime_checkable
class Retagging(Protocol):
    """A store that can move a tag only if nobody else has moved it meanwhile."""

    def retag(self, descriptor: Descriptor, name: str, /, expected: Descriptor | None) -> bool:
        """Name a manifest or index that is here, if the tag still names what is expected (None: nothing).

        Returns:
            Whether it was named. If not, nothing has changed: look again at what the tag names.
        """


@runtime_checkable
class RemoteStore(Store, Protocol):
    """A store behind a network: every call costs a round trip, and several go at a time."""

    @property
    def transfers(self) -> int:
        """How many blobs `copy` moves at a time."""

    def find(self, names: Iterable[str], /) -> dict[str, Digest]:
        """What tags and digests name, as far as they are there, asked for together."""

    def push_as(self, descriptor: Descriptor, content: BinaryIO, name: str, /) -> None:
        """Keep a manifest or index and name it, in one step."""


class Artifact(msgspec.Struct, frozen=True):
    """A root descriptor and the source of every blob it reaches: an image, an index, a signature.

    Attributes:
        root: The descriptor of a manifest or index.
        source: Where its blobs are read from.
    """

    root: Descriptor
    source: Fetcher

    @property
    def digest(self) -> Digest:
        """The digest that names the artifact."""
        return self.root.digest
