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
        page = decode(answer.content, Index, where=str(store))
        found.update((item.digest, item) for item in page.manifests)
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
    index = decode(answer.content, Index, where=str(store))
    return {item.digest: item for item in index.manifests}, answer.headers.get("ETag", "")
