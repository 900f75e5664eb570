"""A registry that behaves as GHCR does, in front of a real one: all its parts together."""

from __future__ import annotations

import contextlib
import json
import math
import ssl
import threading
from types import TracebackType
from typing import Self

from ocibuild.oci import media_types
from tests.support.certificates import Certificates

from .faults import Fault, Plan
from .lists import Referrers
from .proxy import GhcrHandler
from .record import Record
from .server import Server, Upstream
from .sessions import Sessions
from .storage import EvilHandler, Signatures, StorageHandler
from .tokens import Tokens

__all__ = ["NAMES", "Site", "ghcr"]

NAMES = ("ghcr.io", "pkg-containers.githubusercontent.com", "evil.example")
"""The three servers' names with TLS."""

_ANY_MANIFEST = {"Accept": ", ".join(sorted(media_types.MANIFESTS | media_types.INDEXES))}


class Site:
    """Three servers: the registry, the storage that it redirects to, and a host that must learn nothing.

    A context manager: a mistake of its own fails the test.

    Args:
        upstream: The address of an open docker-registry.
        keeps: What came of a broken upload is kept.
        faults: What shall go wrong.
        token_life: Seconds for which a token is good.
        token_uses: Requests for which a token is good; None for any number.
        signature_uses: Requests for which a URL of the storage is good; None for any number.
        latency: Seconds before every answer.
        page: Entries of a page of a list.
        has_referrers: Have the referrers API.
        tls: Speak https, under `NAMES`.

    Attributes:
        address: The registry's, `127.0.0.1:PORT`; with TLS its name, as of all three servers.
        names: The ports of the names that the servers have with TLS: a test leads the names there.
        user, secret: The one account; the secret is as a GITHUB_TOKEN.
        plan: The faults to come.
        record: What happened.
        keeps: Whether what came of a broken upload is kept.
        page: How many entries a page of a list has at most.
        has_referrers: Whether it has the referrers API, which GHCR has not.
        latency: Seconds before every answer.
        plain: The servers that were spoken to without TLS, though they have it.
        errors: Mistakes of the proxy itself.
    """

    def __init__(
        self,
        upstream: object,
        *,
        keeps: bool = True,
        faults: Plan | None = None,
        token_life: float = math.inf,
        token_uses: int | None = None,
        signature_uses: int | None = None,
        latency: float = 0.0,
        page: int = 100,
        has_referrers: bool = False,
        tls: Certificates | None = None,
    ) -> None:
        self.upstream = str(getattr(upstream, "address", upstream))
        self.keeps, self.latency, self.page, self.has_referrers = keeps, latency, page, has_referrers
        self.plan = faults if faults is not None else Plan()
        self.record = Record()
        self.tokens = Tokens(life=token_life, uses=token_uses)
        self.signatures = Signatures(signature_uses)
        self.sessions = Sessions()
        self.referrers = Referrers()
        self.closing = threading.Event()
        self.plain: list[str] = []
        self.errors: list[BaseException] = []
        self.context: ssl.SSLContext | None = None
        if tls is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(tls.server, tls.server_key)
        self._servers = [
            Server(name, handler, self)
            for name, handler in (("ghcr", GhcrHandler), ("storage", StorageHandler), ("evil", EvilHandler))
        ]
        registry, storage, evil = self._servers
        self.names = dict(zip(NAMES, (registry.port, storage.port, evil.port), strict=True))
        if tls is not None:
            self.scheme = "https"
            self.address, self.storage_base, self.evil_base = NAMES[0], f"https://{NAMES[1]}", f"https://{NAMES[2]}"
        else:
            self.scheme, self.address = "http", f"127.0.0.1:{registry.port}"
            # The same host with another port, and another host: both are other origins.
            self.storage_base, self.evil_base = f"http://127.0.0.1:{storage.port}", f"http://localhost:{evil.port}"

    @property
    def user(self) -> str:
        """The account's name."""
        return self.tokens.user

    @property
    def secret(self) -> str:
        """The account's secret."""
        return self.tokens.secret

    @property
    def secrets(self) -> list[str]:
        """What no message and no other origin may show: the secret, all tokens, all signatures."""
        return [*self.tokens.values, *self.signatures.values]

    def accepted(self, server: str) -> int:
        """How many connections a server was asked for."""
        return next(item.accepted for item in self._servers if item.name == server)

    def elsewhere(self, fault: Fault, path: str) -> str:
        """Where a fault leads, away from a path."""
        return f"{self.evil_base}{'/lie' if fault.lies else ''}{path}" if fault.where == "evil" else fault.where

    def make_public(self, repository: str) -> None:
        """Let anyone read a repository; new ones are private."""
        self.tokens.public.add(repository)

    def named(self, repository: str, tag: str) -> str | None:
        """The digest that a tag names, as the real registry has it; None for no such tag."""
        with contextlib.closing(Upstream(self.upstream)) as upstream:
            status, headers, _ = upstream.read("GET", f"/v2/{repository}/manifests/{tag}", None, _ANY_MANIFEST)
        return headers["Docker-Content-Digest"] if status == 200 else None

    def lacks(self, repository: str, name: str) -> list[str]:
        """What a tag or digest reaches that the real registry does not have, or not in the size that is said."""
        found: list[str] = []
        with contextlib.closing(Upstream(self.upstream)) as upstream:
            todo = [name]
            while todo:
                reference = todo.pop()
                path = f"/v2/{repository}/manifests/{reference}"
                status, _, raw = upstream.read("GET", path, None, _ANY_MANIFEST)
                if status != 200:
                    found.append(reference)
                    continue
                document = json.loads(raw)
                todo.extend(item["digest"] for item in document.get("manifests", []))
                for item in (document.get("config"), *document.get("layers", [])):
                    if item is None:
                        continue
                    status, headers, _ = upstream.read("HEAD", f"/v2/{repository}/blobs/{item['digest']}")
                    if status != 200 or int(headers["Content-Length"]) != item["size"]:
                        found.append(item["digest"])
        return found

    def close(self) -> None:
        """End all servers, and wait for their threads."""
        self.closing.set()
        for server in self._servers:
            server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None and self.errors:
            raise AssertionError("the proxy itself failed") from self.errors[0]


ghcr = Site
"""A running site in front of a real registry, as a context manager."""
