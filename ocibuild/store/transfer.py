"""Copying artifacts between stores: blobs several at a time, then what names them, then the tags."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO

import msgspec

from ocibuild.errors import DocumentError, NotFoundError, StoreError
from ocibuild.layer.stream import PullStream, drain
from ocibuild.oci import Descriptor, Digest, Platform
from ocibuild.oci.media_types import INDEXES, MANIFESTS
from ocibuild.oci.reference import check_tag

from .base import Artifact, Fetcher, RemoteStore, Retagging, Store
from .graph import DOCUMENTS, find_platform, identity, walk

__all__ = ["copy"]

_CHUNK = 1024 * 1024
_TRIES = 5

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
    an image that a registry has are not looked into. From an archive to a registry all that is to be sent is read and
    verified first: what was carried may have suffered.

    Args:
        artifact: What to copy.
        store: Where to.
        tags: Names to give it there, in this order.
        platform: Copy only this platform's image out of an index.
        referrers: Also copy what is attached: every manifest whose `subject` is one of those copied, and the images of
            signatures, attestations and SBOMs that cosign names after one. Signatures that the store has already under
            such a tag stay.
        on_progress: Called with a blob's descriptor and the number of its bytes that were just handled, from several
            threads; the number is negative when a transfer begins again.
        on_done: Called with each blob's descriptor once it is there, from several threads.
        on_tag: Called with each tag once it names the artifact.

    Returns:
        The copied artifact, with the store as its source.

    Raises:
        NotFoundError: The artifact, a blob of it, or the platform is not there.
        DigestMismatchError: A blob is damaged; nothing is tagged.
        ContentError: More is attached than to any honest image, or it cannot be followed; nothing is written.
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
    if names and artifact.root.media_type not in DOCUMENTS:
        raise DocumentError(f"{artifact.root.media_type}", wanted="an image or an index", where=artifact.digest)
    transfer = _Transfer(artifact.source, store, on_progress or _untold, on_done or _untold)
    # A registry takes a manifest and its tag in one request.
    held_back = artifact.root if transfer.is_remote and names and not referrers else None
    attached = _plan(transfer, artifact.root) if referrers else None
    there = transfer.there([artifact.root])
    if transfer.is_remote and getattr(artifact.source, "is_carried", False):
        roots = [artifact.root, *((*attached.roots, *attached.merged.values()) if attached is not None else ())]
        _verify(artifact.source, [root for root in roots if root.digest not in there])
    transfer.run([artifact.root], there, held_back=held_back)
    if attached is not None:
        attached.run(transfer)
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


def _verify(source: Fetcher, roots: Iterable[Descriptor]) -> None:
    """Read all that some roots reach, so that damage is found before anything is written."""
    reached = {identity(item): item for root in roots for item in walk(source, root)}
    for item in reached.values():
        if item.media_type not in DOCUMENTS:  # those the walk has read
            with source.fetch(item) as stream:
                drain(stream)


class _Transfer(msgspec.Struct, frozen=True):
    """One source, one destination, and who wants to know."""

    source: Fetcher
    store: Store
    tell: Tell
    done: Done

    @property
    def is_remote(self) -> bool:
        return isinstance(self.store, RemoteStore)

    def there(self, roots: Iterable[Descriptor]) -> set[Digest]:
        """The roots that need not be looked into: a registry has what its manifests name; a folder may have lost it."""
        return {root.digest for root in roots if self.is_remote and self.store.exists(root)}

    def run(self, roots: Sequence[Descriptor], there: set[Digest], *, held_back: Descriptor | None = None) -> None:
        """Copy what the roots reach, but for what is held back and what the roots reach that are there."""
        reached = {root.digest: {identity(item): item for item in walk(self.source, root)} for root in roots}
        known = set[tuple[Digest, bool]]().union(*(items for digest, items in reached.items() if digest in there))
        every = {key: item for items in reached.values() for key, item in items.items()}
        missing = [item for key, item in every.items() if key not in known]
        for key, item in every.items():
            if key in known and (held_back is None or item.digest != held_back.digest):
                self.tell_done(item)
        blobs = [item for item in missing if item.media_type not in DOCUMENTS]
        self._move_all(blobs, self.move)
        manifests = [item for item in missing if item.media_type in MANIFESTS and item != held_back]
        self._move_all(manifests, self.move_document)
        for item in missing:  # an index comes behind what it names
            if item.media_type in INDEXES and item != held_back:
                self.move_document(item)

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
        """Tell of a blob that is there without having been read: done before any progress."""
        self.done(descriptor)
        self.tell(descriptor, descriptor.size)


class _Attached(msgspec.Struct, frozen=True):
    """What is to be copied besides an image.

    Attributes:
        roots: Manifests to copy, in this order.
        there: Those of them that the destination has.
        tags: The tags that are to name one of them.
        merged: Images of signatures, by the tag that names others at the destination, which are to stay.
    """

    roots: tuple[Descriptor, ...]
    there: set[Digest]
    tags: dict[str, Descriptor]
    merged: dict[str, Descriptor]

    def run(self, transfer: _Transfer) -> None:
        """Copy: referrers one by one, as two at a time could lose each other from the list that stands for the API."""
        for root in self.roots:
            transfer.run([root], self.there)
        for tag, root in self.merged.items():
            _merge(transfer, tag, root)
        quiet = msgspec.structs.replace(transfer, tell=_untold, done=_untold)
        for tag, root in self.tags.items():
            if isinstance(transfer.store, Retagging) and not tag.endswith(".sbom"):
                _merge(quiet, tag, root)
            else:
                transfer.store.tag(root, tag)


def _merge(transfer: _Transfer, tag: str, ours: Descriptor) -> None:
    """Add signatures to those that a tag names now: others may have signed since the plan was made."""
    from .merge import Merged, merge

    source, store = transfer.source, transfer.store
    for _ in range(_TRIES):
        try:
            theirs = store.resolve(tag)
        except NotFoundError:
            theirs = None
        root = ours if theirs is None else merge(source, ours, store, theirs)
        if root == theirs:
            return
        if isinstance(root, Merged):
            root = root.put(source, store)
        else:
            transfer.run([root], set())
        if not isinstance(store, Retagging):
            store.tag(root, tag)
            return
        if store.retag(root, tag, theirs):
            return
    raise StoreError(f"the tag {tag} changes all the time", where=ours.digest, hint="Try again.")


def _plan(transfer: _Transfer, root: Descriptor) -> _Attached:
    """What is attached to an image, and what of it the destination lacks. Nothing is written yet."""
    from .merge import Merged, merge
    from .referrers import find_attached, named

    store = transfer.store
    found = find_attached(transfer.source, root)
    referrers = {item.descriptor.digest: item for item in found if not item.tag}
    there = transfer.there(item.descriptor for item in referrers.values())
    if there:
        # A registry may have a manifest and not list it: what wrote it was killed in between.
        subjects = {item.subject.digest: item.subject for item in referrers.values() if item.descriptor.digest in there}
        there &= {item.digest for subject in subjects.values() for item in store.referrers(subject)}
    wanted = {item.tag: item.descriptor for item in found if item.tag}
    kept, merged = set[str](), dict[str, Descriptor]()
    for tag, theirs in named(store, wanted).items():
        ours = wanted[tag]
        if ours.digest == theirs.digest:
            there |= transfer.there([ours])
            kept.add(tag)
            continue
        # An SBOM is one document, and moves as any tag does; signatures that are only there stay.
        whole = ours if tag.endswith(".sbom") else merge(transfer.source, ours, store, theirs)
        if isinstance(whole, Merged):
            merged[tag] = ours
        elif whole.digest != ours.digest:
            del wanted[tag]
    roots = [item.descriptor for item in found if not item.tag or (item.tag in wanted and item.tag not in merged)]
    tags = {tag: ours for tag, ours in wanted.items() if tag not in kept and tag not in merged}
    return _Attached(tuple(roots), there, tags, merged)


def _untold(*_: object) -> None:
    """Nobody wants to know."""


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
