"""Finding what is attached to an image, in any store: its referrers, and the images that cosign names after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from ocibuild.errors import ContentError, DocumentError, NotFoundError, UsageError
from ocibuild.oci import Descriptor, Digest, Index

from .attached import KINDS, attached_tag, is_attached_tag
from .base import Fetcher, RemoteStore, Store
from .entries import links_in, tags_in
from .graph import DOCUMENTS, walk

__all__ = ["Attachment", "find_attached", "named"]

_REFERRERS_LIMIT = 1000
_BYTES_LIMIT = 64 * 1024 * 1024


class Attachment(msgspec.Struct, frozen=True):
    """A manifest that is attached to another one.

    Attributes:
        descriptor: The manifest.
        subject: What it is attached to.
        tag: The tag that says so; empty for a referrer.
    """

    descriptor: Descriptor
    subject: Descriptor
    tag: str = ""


@runtime_checkable
class _Indexed(Protocol):
    """A layout or an archive."""

    def index(self) -> Index: ...


def find_attached(source: Fetcher, root: Descriptor) -> list[Attachment]:
    """What is attached to an image, to every manifest under it, and to what is attached; what is about before it.

    Found are the referrers, by the registry's API, its fallback tag or a layout's index, and the tags `.sig`, `.att` and
    `.sbom`. Only manifests are read. It ends whatever the lists say: nothing is looked at twice.

    Args:
        source: The store that the image is in.
        root: The image or index.

    Raises:
        UsageError: The source is no store.
        ContentError: More is attached than to any honest image, or what is listed cannot be followed.
        NotFoundError, DigestMismatchError: A manifest is missing or damaged; in a layout any that may be a referrer.
    """
    if not hasattr(source, "referrers"):
        raise UsageError("a source that knows no referrers", wanted="an image in a store")
    level = [item for item in walk(source, root) if item.media_type in DOCUMENTS]
    seen: set[Digest] = {item.digest for item in level}
    images = len(seen)
    found: list[Attachment] = []
    # Of a layout all is read at once: to look anew for each manifest's would take its square.
    index = source.index() if isinstance(source, _Indexed) else None
    links = links_in(source, index) if index is not None else None
    tags = tags_in(index, is_attached_tag) if index is not None else None
    size = 0
    while level:
        listed = [links.get(item.digest, []) for item in level] if links is not None else _ask(source, level)
        new = [
            Attachment(referrer, subject)
            for subject, referrers in zip(level, listed, strict=True)
            for referrer in referrers
            if referrer.digest not in seen
        ]
        subjects = {attached_tag(subject.digest, kind): subject for subject in level for kind in KINDS}
        there = named(source, subjects) if tags is None else {tag: tags[tag] for tag in subjects if tag in tags}
        new += [Attachment(item, subjects[tag], tag) for tag, item in there.items()]
        found += new
        level = []
        _check(len(found), root)
        for item in new:
            if item.descriptor.media_type not in DOCUMENTS:
                kind = item.descriptor.media_type
                raise DocumentError(f"an attached manifest of unknown type {kind}", where=item.descriptor.digest)
            for document in walk(source, item.descriptor):
                if document.media_type in DOCUMENTS and document.digest not in seen:
                    seen.add(document.digest)
                    level.append(document)
                    size += document.size
                    _check(len(seen) - images, root, size)
    return found


def _check(count: int, root: Descriptor, size: int = 0) -> None:
    if count > _REFERRERS_LIMIT:
        raise ContentError(f"more than {_REFERRERS_LIMIT} manifests attached", where=root.digest)
    if size > _BYTES_LIMIT:
        raise ContentError(f"more than {_BYTES_LIMIT} bytes of attached manifests", where=root.digest)


def named(store: Fetcher, names: Iterable[str]) -> dict[str, Descriptor]:
    """What tags name, as far as they are there, in the order asked for."""
    wanted = list(names)
    if isinstance(store, RemoteStore):
        there = store.find(wanted)
        return dict(_resolve(store, [name for name in wanted if name in there]))
    try:
        tags: dict[str, Descriptor] = store.tags()  # type: ignore[attr-defined]
    except NotFoundError:  # no layout yet
        return {}
    except AttributeError:
        return dict(_resolve(store, wanted))  # type: ignore[arg-type]
    return {name: tags[name] for name in wanted if name in tags}


def _resolve(store: Store, names: Iterable[str]) -> Iterator[tuple[str, Descriptor]]:
    for name in names:
        with contextlib.suppress(NotFoundError):
            yield name, store.resolve(name)


def _ask(source: Fetcher, subjects: Sequence[Descriptor]) -> list[list[Descriptor]]:
    """The referrers of each; several at a time where every question is a round trip."""
    assert hasattr(source, "referrers")
    jobs = getattr(source, "transfers", 1)
    if jobs == 1 or len(subjects) == 1:
        return [source.referrers(subject) for subject in subjects]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(jobs, thread_name_prefix="ocibuild-referrers") as pool:
        return list(pool.map(source.referrers, subjects))
