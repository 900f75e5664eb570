"""The registry as its clients see it: authorization, redirects, and no more than GHCR offers."""

from __future__ import annotations

import re
import time

from .access import is_authorized, send_token
from .lists import send_list, send_referrers
from .server import Handler
from .status import fail
from .uploads import serve_upload

__all__ = ["GhcrHandler"]

_PATH = re.compile(r"/v2/(?P<name>.+?)/(?P<kind>blobs/uploads|blobs|manifests|tags|referrers)/(?P<rest>.*)")
_NOWHERE = "sha256:" + "0" * 64
_PASSED_ON = ("Content-Type", "Docker-Content-Digest", "ETag", "Docker-Distribution-Api-Version")


class GhcrHandler(Handler):
    """One connection to the registry."""

    def serve(self) -> None:
        entry = self.entry
        if entry.path == "/token":
            return send_token(self)
        match = _PATH.fullmatch(entry.path)
        if match is None and entry.path not in ("/v2", "/v2/"):
            return self.refuse(404, "NAME_UNKNOWN", "not found")
        kind = self._name(match) if match else ""
        if not is_authorized(self):
            return None
        fault = self.site.plan.take(entry, "request")
        if fail(self, fault):
            return None
        if kind == "blobs/uploads":
            return serve_upload(self, fault)
        return self._serve(kind)

    def _name(self, match: re.Match[str]) -> str:
        """Note what a path names."""
        entry, rest = self.entry, match["rest"]
        entry.repository = match["name"]
        if match["kind"] == "blobs/uploads":
            entry.upload = rest
            entry.digest = entry.values.get("digest", entry.values.get("mount", [""]))[0]
        else:
            entry.name = entry.digest = rest
        return match["kind"]

    def _serve(self, kind: str) -> None:
        if not kind:
            self.answer(200, b"{}", {"Content-Type": "application/json"})
        elif self.command not in ("GET", "HEAD") and not (kind == "manifests" and self.command == "PUT"):
            self.refuse(405, "UNSUPPORTED", "The operation is unsupported.")
        elif kind == "tags":
            send_list(self)
        elif kind == "referrers":
            send_referrers(self)
        elif kind == "blobs":
            self._blob()
        else:
            self._manifest()

    def _blob(self) -> None:
        """Send a reader to the storage."""
        entry, site = self.entry, self.site
        status, headers, _ = self.upstream.read("HEAD", entry.path)
        if status != 200:
            return self.refuse(404, "BLOB_UNKNOWN", "blob unknown to registry", entry.name)
        fault = site.plan.take(entry, "answer")
        if self.command == "HEAD":
            size = int(headers["Content-Length"]) + (fault is not None and fault.kind == "wrong_size")
            return self.answer(200, b"", {"Content-Length": str(size), "Docker-Content-Digest": entry.name})
        path = f"/ghcr1/{entry.repository}/blobs/{entry.name}"
        location = f"{site.storage_base}{path}?{site.signatures.sign(path)}"
        if fault is not None and fault.kind == "foreign_blob":
            location = site.elsewhere(fault, path)
        return self.answer(307, b"", {"Location": location})

    def _manifest(self) -> None:
        entry, site = self.entry, self.site
        # Accept may come in several lines.
        sent = {name: ", ".join(self.headers.get_all(name, [])) for name in ("Accept", "Content-Type")}
        body = self.content() if self.command == "PUT" else None
        status, headers, raw = self.upstream.read(self.command, entry.path, body, sent)
        kept = {name: headers[name] for name in _PASSED_ON if name in headers}
        entry.digest = headers.get("Docker-Content-Digest", "")
        if body is not None and status == 201:
            entry.done, entry.kept = time.monotonic(), len(body)
            kept["Location"] = f"/v2/{entry.repository}/manifests/{entry.digest}"
            if site.has_referrers and (subject := site.referrers.add(entry, body)):
                kept["OCI-Subject"] = subject
        fault = self.after() if status in (200, 201) else None
        if fault is not None and fault.kind == "wrong_digest":
            kept["Docker-Content-Digest"] = _NOWHERE
        if fault is not None and fault.kind == "other_manifest":
            # It says of itself what is true; only it is not what was asked for.
            raw = fault.body or raw.replace(b"{", b"{ ", 1)
            kept = {"Content-Type": kept["Content-Type"]}
        if self.command == "HEAD":
            return self.answer(status, b"", {**kept, "Content-Length": headers.get("Content-Length", "0")})
        if status != 200:
            return self.answer(status, raw, kept)
        self.head(200, {**kept, "Content-Length": str(len(raw))})
        return self.send_content([raw], site.plan.take(entry, "body"))
