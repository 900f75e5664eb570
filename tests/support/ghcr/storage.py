"""The other origins: the storage that blobs are redirected to, and the host that must learn nothing."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from http.client import HTTPResponse
from urllib.parse import urlsplit

from .server import PIECE, Handler
from .status import fail

__all__ = ["EvilHandler", "Signatures", "StorageHandler"]

_KEPT_BODY = 64 * 1024


class Signatures:
    """What makes a storage's URL good, for a number of requests."""

    def __init__(self, uses: int | None) -> None:
        self._uses = uses
        self._left: dict[str, tuple[str, int | None]] = {}
        self._lock = threading.Lock()

    @property
    def values(self) -> list[str]:
        """All that were ever given."""
        return list(self._left)

    def sign(self, path: str) -> str:
        """A query for a path."""
        signature = "sig_" + secrets.token_hex(16)
        with self._lock:
            self._left[signature] = (path, self._uses)
        return f"se=2030-01-01T00%3A00%3A00Z&sp=r&sig={signature}"

    def use(self, path: str, signature: str) -> bool:
        """Use a signature once; False when it is not, or no more, good for the path."""
        with self._lock:
            signed, left = self._left.get(signature, ("", 0))
            if signed != path or left == 0:
                return False
            self._left[signature] = (signed, None if left is None else left - 1)
            return True


class StorageHandler(Handler):
    """Gives blobs to whoever shows a signature, and to nobody who shows a credential."""

    def serve(self) -> None:
        entry = self.entry
        repository, _, entry.digest = urlsplit(self.path).path.removeprefix("/ghcr1/").rpartition("/blobs/")
        entry.repository = repository
        if self.command not in ("GET", "HEAD"):
            return self.refuse(405, "UNSUPPORTED", "only GET")
        if entry.authorization:
            return self.refuse(400, "InvalidArgument", "Only one auth mechanism allowed")
        if not self.site.signatures.use(entry.path, entry.values.get("sig", [""])[0]):
            return self.refuse(403, "AuthenticationFailed", "Signature not valid in the specified time frame")
        if fail(self, self.site.plan.take(entry, "request")):
            return None
        wanted = {"Range": self.headers["Range"]} if "Range" in self.headers else {}
        target = f"/v2/{repository}/blobs/{entry.digest}"
        with self.upstream.ask(self.command, target, headers=wanted) as answer:
            kept = ("Content-Length", "Content-Range", "Accept-Ranges", "ETag")
            headers = {name: answer.headers[name] for name in kept if name in answer.headers}
            self.head(answer.status, {**headers, "Content-Type": "application/octet-stream"})
            if self.command == "GET":
                self.send_content(_pieces(answer), self.site.plan.take(entry, "body"))
        return None


def _pieces(answer: HTTPResponse) -> Iterator[bytes]:
    while data := answer.read(PIECE):
        yield data


class EvilHandler(Handler):
    """Takes all it is given, and asks for credentials."""

    def serve(self) -> None:
        entry = self.entry
        for piece in self.pieces():
            if len(entry.body) < _KEPT_BODY:
                entry.body += piece
        if "/lie/" in entry.path:
            return self.answer(200 if self.command == "GET" else 201, b"not what you asked for")
        if entry.path == "/token":
            return self.answer(200, b'{"token": "tok_of_the_evil_host"}', {"Content-Type": "application/json"})
        challenge = f'Bearer realm="{self.site.evil_base}/token",service="evil", Basic realm="evil"'
        return self.refuse(401, "UNAUTHORIZED", "authentication required", None, {"WWW-Authenticate": challenge})
