"""What happened: every request to the proxy, to the storage behind it and to the host that must learn nothing."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

__all__ = ["Record", "Request"]


@dataclass(slots=True, eq=False)
class Request:
    """One request, as it came, and what became of it.

    Attributes:
        server: `ghcr`, `storage` or `evil`.
        query: Its names only; `raw` has the values.
        authorization: Empty, `basic`, `bearer` or another scheme.
        token: The number of the token shown; 0 for none that is known.
        uses: How often that token had been used before.
        body_size: The bytes of the request's body that came.
        status: What was answered; 0 where nothing was.
        upload: The upload session.
        digest: The blob or manifest that the request named, sent or asked for.
        name: The tag or digest of a manifest.
        offset: Where in the blob an upload's body begins.
        kept: How many bytes of the body the registry has.
        done: When a blob or manifest was completed by it, or mounted; 0 when it was not.
        faults: The kinds of faults that fell on it.
    """

    number: int
    server: str
    method: str
    path: str
    query: tuple[str, ...]
    raw: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    authorization: str = ""
    token: int = 0
    uses: int = 0
    body: bytes = field(default=b"", repr=False)
    body_size: int = 0
    status: int = 0
    repository: str = ""
    upload: str = ""
    digest: str = ""
    name: str = ""
    offset: int = 0
    kept: int = 0
    done: float = 0.0
    faults: list[str] = field(default_factory=list)
    started: float = 0.0
    ended: float = 0.0

    @property
    def target(self) -> str:
        """The path and the query's names: what faults are matched with."""
        return f"{self.path}?{'&'.join(self.query)}"

    @property
    def values(self) -> dict[str, list[str]]:
        """The query."""
        return parse_qs(urlsplit(self.raw).query, keep_blank_values=True)

    @property
    def is_upload_body(self) -> bool:
        """Whether it brings a blob's bytes."""
        return self.server == "ghcr" and self.method in ("PUT", "PATCH") and "/blobs/uploads/" in self.path


class Record:
    """All requests, in the order they came, and what is asked of them together."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._lock = threading.Lock()

    def begin(self, server: str, method: str, target: str, headers: Iterable[tuple[str, str]]) -> Request:
        """Note a request."""
        parts = urlsplit(target)
        kept = {key.lower(): value for key, value in headers}
        names = tuple(parse_qs(parts.query, keep_blank_values=True))
        scheme = kept.get("authorization", "").partition(" ")[0].lower()
        with self._lock:
            made = Request(len(self.requests) + 1, server, method, parts.path, names, target, kept, scheme)
            made.started = time.monotonic()
            self.requests.append(made)
        return made

    def at(self, server: str, method: str = "", part: str = "") -> list[Request]:
        """The requests to a server, of a method, with a part in path and query names."""
        return [
            item
            for item in list(self.requests)
            if item.server == server and method in ("", item.method) and part in item.target
        ]

    def bodies(self, digest: str) -> list[Request]:
        """The requests that brought a blob's bytes, in every upload session that was for it."""
        uploads = [item for item in list(self.requests) if item.is_upload_body]
        sessions = {item.upload for item in uploads if item.digest == digest}
        return [item for item in uploads if item.upload in sessions and item.body_size]

    def sent_again(self, digest: str, size: int) -> int:
        """The bytes of a blob that came more than once."""
        return sum(item.body_size for item in self.bodies(digest)) - size

    def completed_again(self) -> dict[tuple[str, str], int]:
        """How often blobs were completed in a repository, where that is more than once."""
        done = Counter(
            (item.repository, item.digest) for item in list(self.requests) if item.is_upload_body and item.done
        )
        return {key: count for key, count in done.items() if count > 1}

    def leaks(self, secrets: Iterable[str], *, servers: tuple[str, ...] = ("storage", "evil")) -> list[Request]:
        """The requests that showed a secret, or any authorization, to another origin."""
        known = [secret for secret in secrets if secret]
        found = []
        for item in list(self.requests):
            if item.server not in servers:
                continue
            # The storage's own signature is for the storage.
            target = item.path if item.server == "storage" else item.raw
            text = "\n".join([target, *item.headers.values(), item.body.decode(errors="replace")])
            if item.authorization or any(secret in text for secret in known):
                found.append(item)
        return found

    def order(self, repository: str) -> list[tuple[str, str]]:
        """What was completed in a repository: `blob`, `manifest` or `tag`, and its digest or name, in that order."""
        found: list[tuple[float, str, str]] = []
        for item in list(self.requests):
            if item.repository != repository or not item.done:
                continue
            kind = "blob" if "/blobs/" in item.path else "manifest" if ":" in item.name else "tag"
            found.append((item.done, kind, item.digest if kind == "blob" else item.name))
        return [(kind, name) for _, kind, name in sorted(found)]

    def overlap(self) -> int:
        """How many upload bodies were on their way at one moment, at most."""
        moments: dict[float, int] = defaultdict(int)
        for item in list(self.requests):
            if item.is_upload_body and item.body_size:
                moments[item.started] += 1
                moments[item.ended] -= 1
        most = now = 0
        for moment in sorted(moments):
            now += moments[moment]
            most = max(most, now)
        return most
