"""The entries of a layout's `index.json`: tags, digests, referrers (image-spec, image-layout.md, "index.json file")."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ocibuild.errors import ContentError, DocumentError, NotFoundError
from ocibuild.oci import Descriptor, Digest, Index, media_types
from ocibuild.oci.annotations import REF_NAME
from ocibuild.oci.canonical import decode

from .attached import is_attached_tag
from .base import Fetcher
from .graph import DOCUMENTS, read_blob, read_document, referrer_of

__all__ = [
    "add_entry",
    "digests_of",
    "document_descriptor",
    "entry_name",
    "links_in",
    "referrers_in",
    "resolve_in",
    "tags_in",
]


_ENTRIES_LIMIT = 50_000
_LISTS_LIMIT = 64 * 1024 * 1024


def entry_name(entry: Descriptor) -> str:
    """The tag of an entry, empty where it has none. A digest is no tag, whatever says so: it names its own bytes only."""
    name = (entry.annotations or {}).get(REF_NAME, "")
    return "" if Digest.is_valid(name) else name


def tags_in(index: Index, is_wanted: Callable[[str], bool] = bool) -> dict[str, Descriptor]:
    """Every tag that is wanted and what it names, sorted.

    Raises:
        DocumentError: One names two manifests.
    """
    found: dict[str, Descriptor] = {}
    for item in index.manifests:
        name = entry_name(item)
        if name and is_wanted(name) and found.setdefault(name, item.bare).digest != item.digest:
            raise _ambiguous(name)
    return dict(sorted(found.items()))


def digests_of(index: Index, tag: str) -> set[Digest]:
    """What a tag names among the entries: one manifest, where the index is sound."""
    return {item.digest for item in index.manifests if entry_name(item) == tag}


def _ambiguous(tag: str) -> DocumentError:
    """Of two readers one takes the first entry and one the last."""
    hint = "Name the image by its digest, or give it the tag anew."
    return DocumentError(f"the tag {tag!r} on two images", wanted="one image a tag", where="index.json", hint=hint)


def resolve_in(index: Index, name: str, *, where: object) -> Descriptor | None:
    """What a tag or digest names among the entries; None for a digest that none of them has.

    Raises:
        NotFoundError: No such tag; the message lists those there are, but for what is attached to images.
        DocumentError: The tag names two manifests.
    """
    if Digest.is_valid(name):
        return next((item.bare for item in index.manifests if item.digest == name), None)
    found = [item.bare for item in index.manifests if entry_name(item) == name] if name else []
    if len({item.digest for item in found}) > 1:
        raise _ambiguous(name)
    if found:
        return found[0]
    tags = sorted({entry_name(item) for item in index.manifests} - {""})
    known = ", ".join(tag for tag in tags if not is_attached_tag(tag)) or "none"
    raise NotFoundError(f"no tag {name!r}", wanted=f"one of: {known}", where=where)


def document_descriptor(source: Fetcher, digest: Digest, size: int, *, where: object) -> Descriptor:
    """The descriptor of a manifest or index that no entry names, once its bytes are known to be good.

    Raises:
        NotFoundError: The blob is neither.
    """
    raw = read_blob(source, Descriptor(media_type="application/octet-stream", digest=digest, size=size))
    fields = decode(raw, dict, where=digest)
    default = media_types.IMAGE_INDEX if "manifests" in fields else media_types.IMAGE_MANIFEST
    media_type = fields.get("mediaType", default)
    if not isinstance(media_type, str) or media_type not in DOCUMENTS:
        raise NotFoundError(f"{digest} is not an image", where=where)
    return Descriptor(media_type=media_type, digest=digest, size=size)


def referrers_in(
    source: Fetcher, index: Index, descriptor: Descriptor, *, artifact_type: str | None = None
) -> list[Descriptor]:
    """The entries whose `subject` is the given manifest, as they are listed for it, sorted by digest."""
    found: dict[Digest, Descriptor] = {}
    for item in _listed(source, index, is_strict=False):
        try:
            link = referrer_of(read_blob(source, item), item)
        except (NotFoundError, ContentError):
            continue  # another image's damage is not this one's
        if link and link[0].digest == descriptor.digest and artifact_type in (None, link[1].artifact_type):
            found[item.digest] = link[1]
    return [found[digest] for digest in sorted(found)]


def links_in(source: Fetcher, index: Index) -> dict[Digest, list[Descriptor]]:
    """The referrers of every manifest, as `referrers_in` gives them; none is passed over because it cannot be read.

    Raises:
        NotFoundError, ContentError: An entry is missing, damaged, or of an unknown type: it might be a referrer.
    """
    found: dict[Digest, list[Descriptor]] = {}
    for item in sorted(_listed(source, index, is_strict=True), key=lambda item: item.digest):
        if link := referrer_of(read_blob(source, item), item):
            found.setdefault(link[0].digest, []).append(link[1])
    return found


def _listed(source: Fetcher, index: Index, *, is_strict: bool) -> Iterator[Descriptor]:
    """The manifests that may be referrers, each once: the entries, and what the indexes list that stand for the API."""
    seen: set[Digest] = set()
    todo = list(index.manifests)
    # Thousands of tags may name one list.
    lists = {
        item.digest: item for item in todo if item.media_type in media_types.INDEXES and _is_fallback(entry_name(item))
    }
    size = 0
    for item in lists.values():
        size += item.size
        if size > _LISTS_LIMIT or len(todo) > _ENTRIES_LIMIT:
            raise ContentError(
                f"more than {_ENTRIES_LIMIT} referrers or {_LISTS_LIMIT} bytes of lists of them", where=item.digest
            )
        try:
            document = read_document(source, item)
        except (NotFoundError, ContentError):
            if is_strict:
                raise
            continue
        todo += document.manifests if isinstance(document, Index) else ()
    for item in todo:
        if item.digest in seen:
            continue
        if item.media_type in DOCUMENTS:
            seen.add(item.digest)
            yield item
        elif is_strict:
            raise DocumentError(f"a manifest of unknown type {item.media_type}", where=item.digest)


def _is_fallback(tag: str) -> bool:
    return is_attached_tag(tag) and "." not in tag


def add_entry(index: Index, entry: Descriptor) -> Index:
    """The index with an entry more, in place of the one of the same tag, or of the same untagged manifest."""
    name = entry_name(entry)
    kept = [item for item in index.manifests if entry_name(item) != name or (not name and item.digest != entry.digest)]
    return Index(
        media_type=media_types.IMAGE_INDEX,
        manifests=tuple(sorted([*kept, entry], key=lambda item: (entry_name(item), item.digest))),
        annotations=index.annotations,
    )
