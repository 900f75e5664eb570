"""Lists: tags, and referrers where the API is switched on. In pages, and with what can be wrong with those."""

from __future__ import annotations

import json
import threading
from typing import Any
from urllib.parse import quote, urlencode

from .record import Request
from .server import Handler

__all__ = ["Referrers", "send_list", "send_referrers"]

_INDEX = "application/vnd.oci.image.index.v1+json"


class Referrers:
    """What manifests say of their subjects, while the API is switched on."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def add(self, entry: Request, raw: bytes) -> str:
        """Note a manifest; the digest of its subject, empty when it has none."""
        document = json.loads(raw)
        subject = (document.get("subject") or {}).get("digest", "")
        if subject:
            kind = document.get("artifactType") or (document.get("config") or {}).get("mediaType")
            fields = {
                "mediaType": document["mediaType"],
                "digest": entry.digest,
                "size": len(raw),
                "artifactType": kind,
                "annotations": document.get("annotations"),
            }
            listed = {key: value for key, value in fields.items() if value is not None}
            with self._lock:
                self._found.setdefault((entry.repository, subject), {})[entry.digest] = listed
        return str(subject)

    def of(self, repository: str, subject: str) -> list[dict[str, Any]]:
        """The descriptors of a subject's referrers."""
        with self._lock:
            return list(self._found.get((repository, subject), {}).values())


def send_list(handler: Handler) -> None:
    """Answer `tags/list`."""
    entry = handler.entry
    status, headers, raw = handler.upstream.read("GET", f"/v2/{entry.repository}/tags/list")
    if status != 200:
        return handler.answer(status, raw, {"Content-Type": headers.get("Content-Type", "text/plain")})
    names = sorted(json.loads(raw)["tags"] or [])
    last = entry.values.get("last", [""])[0]
    size = min(int(entry.values.get("n", ["100"])[0]), handler.site.page)
    left = [name for name in names if name > last]
    page, more = left[:size], len(left) > size
    following = f"{entry.path}?{urlencode({'last': page[-1], 'n': size})}" if more else ""
    body = json.dumps({"name": entry.repository, "tags": page}).encode()
    return handler.answer(200, body, {"Content-Type": "application/json", **_link(handler, following)})


def send_referrers(handler: Handler) -> None:
    """Answer `referrers/DIGEST`: GHCR does not have it."""
    entry, site = handler.entry, handler.site
    if not site.has_referrers:
        return handler.refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")
    found = site.referrers.of(entry.repository, entry.name)
    first = int(entry.values.get("from", ["0"])[0])
    page, more = found[first : first + site.page], len(found) > first + site.page
    following = f"{entry.path}?from={first + site.page}" if more else ""
    body = json.dumps({"schemaVersion": 2, "mediaType": _INDEX, "manifests": page}).encode()
    return handler.answer(200, body, {"Content-Type": _INDEX, **_link(handler, following)})


def _link(handler: Handler, following: str) -> dict[str, str]:
    """The header that says where a list goes on (RFC 8288), as it is or as a fault has it."""
    entry = handler.entry
    fault = handler.site.plan.take(entry, "answer")
    if fault is not None and fault.kind == "foreign_link":
        where = f"{handler.site.evil_base}{entry.path}?n=1" if fault.where == "evil" else fault.where
        return {"Link": f'<{where}>; rel="next"'}
    if fault is not None and fault.kind in ("tags_loop", "referrers_loop"):
        # Two pages that name each other.
        turn = "b" if "a" in entry.values.get("turn", []) else "a"
        return {"Link": f'<{quote(entry.path, safe="/:")}?turn={turn}>; rel="next"'}
    return {"Link": f'<{following}>; rel="next"'} if following else {}
