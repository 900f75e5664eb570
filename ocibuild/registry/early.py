"""The first question to a registry, asked while the libraries for all others are still being loaded.

A push begins by asking what its tags name. Loading what the rest of it needs takes as long as a round trip or two; a
socket is there at once. Whatever goes wrong here is no answer, and the question is asked again.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ocibuild.errors import RegistryError

from .origin import Origin

if TYPE_CHECKING:
    import http.client

    from ocibuild.oci import Digest

__all__ = ["Early", "EarlyAnswer"]

_CONNECTIONS = 4
_SECONDS = 5.0
_PATIENCE = 2.0
_FOUND, _MISSING, _DENIED = 200, 404, 401


@dataclass(frozen=True, slots=True)
class EarlyAnswer:
    """What a registry said without a credential.

    Attributes:
        digest: What the name stands for; None when there is nothing, or nothing for strangers.
        challenge: The credential that it wants; empty when none.
    """

    digest: Digest | None
    challenge: str = ""


class Early:
    """Connects at once; asks when the names are known. No credential is shown, and no redirect followed.

    Args:
        registry: The host, with its port.
        plain_http: Without TLS; by default on loopback only.
        ca_file: The certificates to trust, in place of the system's.
        connections: How many to open now.
    """

    def __init__(
        self, registry: str, *, plain_http: bool | None = None, ca_file: str | None = None, connections: int = 2
    ) -> None:
        self._path = ""
        self._plain_http, self._ca_file = plain_http, ca_file
        self._names: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._answers: dict[str, EarlyAnswer] = {}
        self._threads: list[threading.Thread] = []
        self._origin: Origin | None = None
        # What is no host is told of by who reads the reference.
        with contextlib.suppress(RegistryError):
            self._origin = Origin.of_host(registry)
        self._start(connections)

    def ask(self, repository: str, names: Iterable[str]) -> None:
        """Ask what tags and digests name in a repository, and load the real client meanwhile."""
        self._path = f"/v2/{repository}/manifests/"
        wanted = list(dict.fromkeys(names))
        self._start(min(len(wanted), _CONNECTIONS) - len(self._threads))
        for name in wanted:
            self._names.put(name)
        for _ in self._threads:
            self._names.put(None)
        # If there is something to send, the real client is needed next.
        threading.Thread(target=import_module, args=("ocibuild.registry.store",), daemon=True).start()

    def answers(self) -> Mapping[str, EarlyAnswer]:
        """What has been answered, by name; little is waited for."""
        until = time.monotonic() + _PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return dict(self._answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in self._threads:
            self._names.put(None)

    def _start(self, count: int) -> None:
        for _ in range(count if self._origin is not None else 0):
            thread = threading.Thread(target=self._run, daemon=True)
            thread.start()
            self._threads.append(thread)

    def _run(self) -> None:
        with contextlib.suppress(Exception), self._connected() as connection:
            while (name := self._names.get()) is not None:
                self._ask(connection, name)

    @contextmanager
    def _connected(self) -> Iterator[http.client.HTTPConnection]:
        assert self._origin is not None
        host, port = self._origin.host, self._origin.port
        with socket.create_connection((host, port), timeout=_SECONDS) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            from http.client import HTTPConnection

            connection = HTTPConnection(host, port, timeout=_SECONDS)
            is_plain = self._origin.is_loopback and not self._ca_file if self._plain_http is None else self._plain_http
            if is_plain:
                connection.sock = plain
                yield connection
                return
            from ssl import create_default_context

            with create_default_context(cafile=self._ca_file).wrap_socket(plain, server_hostname=host) as secure:
                connection.sock = secure
                yield connection

    def _ask(self, connection: http.client.HTTPConnection, name: str) -> None:
        from ocibuild.oci import Digest
        from ocibuild.oci.media_types import INDEXES, MANIFESTS

        headers = {"Accept": ", ".join(sorted(MANIFESTS | INDEXES)), "User-Agent": "ocibuild"}
        connection.request("HEAD", self._path + name, headers=headers)
        answer = connection.getresponse()
        answer.read()
        told = answer.headers.get("Docker-Content-Digest", "")
        if answer.status == _FOUND and Digest.is_valid(told):
            self._answers[name] = EarlyAnswer(Digest(told))
        elif answer.status == _MISSING:
            self._answers[name] = EarlyAnswer(None)
        elif answer.status == _DENIED:
            self._answers[name] = EarlyAnswer(None, answer.headers.get("WWW-Authenticate", ""))
