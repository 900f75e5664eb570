"""Referrers: the API where a registry has it, the fallback tag where not (distribution-spec, "Listing Referrers")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocibuild.errors import DocumentError, RegistryError
from ocibuild.oci import Descriptor, Digest, Index, media_types
from ocibuild.oci.canonical import decode, encode
from ocibuild.store.attached import attached_tag

if TYPE_CHECKING:
    from .store import RegistryStore

__all__ = ["add_to_fallback", "read_referrers"]


_PAGES = 100
_ITEMS = 10_000
_TRIES = 5
_PRECONDITION_FAILED = 412


def read_referrers(store: RegistryStore, subject: Descriptor) -> list[Descriptor]:
    """The referrers of a manifest, each once.

    Raises:
        DocumentError: What is listed is no index.
        RegistryError: The list does not end.
    """
    found: dict[Digest, Descriptor] = {}
    url = f"{store.client.base}/v2/{store.repository}/referrers/{subject.digest}"
    for answer in store.client.pages(url, store.get_referrers, of="referrers", limit=_PAGES):
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        if answer.status_code != 200 or media_type != media_types.IMAGE_INDEX:  # noqa: PLR2004
            return list(_fallback(store, subject)[0].values())
        found.update(_listed(store, answer.content))
        if len(found) > _ITEMS:
            raise RegistryError(f"more than {_ITEMS} referrers", where=f"{store}@{subject.digest}")
    return list(found.values())


def add_to_fallback(store: RegistryStore, subject: Descriptor, referrer: Descriptor) -> None:
    """List a referrer in the fallback index, keeping what others have listed meanwhile.

    Raises:
        RegistryError: Others write it again and again.
    """
    for _ in range(_TRIES):
        listed, etag = _fallback(store, subject)
        if referrer.digest in listed:
            return
        listed[referrer.digest] = referrer
        index = Index(media_type=media_types.IMAGE_INDEX, manifests=tuple(listed.values()))
        condition = {"If-Match": etag} if etag else {}
        answer = store.put_fallback(subject, encode(index), media_types.IMAGE_INDEX, condition)
        if answer.status_code == _PRECONDITION_FAILED:
            continue
        if referrer.digest in _fallback(store, subject)[0]:
            return
    raise RegistryError("the list of referrers changes all the time", where=f"{store}:{attached_tag(subject.digest)}")


def _fallback(store: RegistryStore, subject: Descriptor) -> tuple[dict[Digest, Descriptor], str]:
    """What the fallback index lists, and its ETag."""
    answer = store.get_fallback(subject)
    if answer is None:
        return {}, ""
    media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    # GitLab gives the subject itself for a tag of this form.
    if Digest.of(answer.content) == subject.digest:
        return {}, ""
    if media_type != media_types.IMAGE_INDEX:
        raise DocumentError(
            f"a document of type {media_type}",
            wanted="an index of referrers",
            where=f"{store}:{attached_tag(subject.digest)}",
        )
    listed = _listed(store, answer.content)
    if len(listed) > _ITEMS:
        raise RegistryError(f"more than {_ITEMS} referrers", where=f"{store}:{attached_tag(subject.digest)}")
    return listed, answer.headers.get("ETag", "")


def _listed(store: RegistryStore, raw: bytes) -> dict[Digest, Descriptor]:
    """What a list names. An artifact type that is no media type hides neither its manifest nor the others."""
    return {item.digest: item for item in decode(raw, Index, where=str(store)).manifests}
