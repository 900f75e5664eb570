"""A registry that is only its answers: a real client, whose sockets give the bytes of a test and keep what was said.

And what must hold wherever such a registry leads: `check_visits`, by ideas of its own of an inner host.
"""

from __future__ import annotations

import io
import socket
import ssl
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError, LocationParseError

from ocibuild.oci import Descriptor, Reference
from ocibuild.oci.media_types import IMAGE_MANIFEST
from ocibuild.registry import Credential, RegistryClient, RegistryStore
from ocibuild.registry.origin import Origin

__all__ = [
    "BLOB",
    "CREDENTIAL",
    "DONE",
    "PASSWORD",
    "REGISTRY",
    "SUBJECT",
    "Visit",
    "WiredClient",
    "answer",
    "check_visits",
    "is_inner",
    "reached",
    "wire",
    "wired_store",
]

REGISTRY = "registry.example"
PASSWORD = "s3cret-passw0rd"
CREDENTIAL = Credential(username="me", password=PASSWORD, origin="a test")
BLOB = Descriptor.of(b"hello, world", "text/plain")
SUBJECT = Descriptor.of(b"{}", IMAGE_MANIFEST)
DONE = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Visit:
    """A connection that was made, and what was said on it."""

    scheme: str
    host: str
    port: int
    said: bytes


def answer(body: bytes = b"", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """An HTTP answer as it is on the wire."""
    lines = [b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body), b"", body]
    return b"\r\n".join(lines)


def wire(client: RegistryClient, *answers: bytes) -> list[Visit]:
    """Give a client these answers, the last one again and again; where it went and what it said.

    Only the socket is not real: requests, urllib3 and http.client see bytes, and choose the host themselves.
    """
    line = _Line(answers, [])
    adapter = _Adapter(line)
    for prefix in list(client.session.adapters):
        client.session.mount(prefix, adapter)
    return line.visits


class WiredClient(RegistryClient):
    """A client of a registry that gives these answers, and has no patience."""

    def __init__(self, *answers: bytes, host: str = REGISTRY, credential: Credential | None = None) -> None:
        # What the system trusts takes 20 ms to read, and is not asked here. Not a mock: it takes as long as the client.
        with mock.patch.object(ssl, "create_default_context", new=lambda: _CONTEXT):
            super().__init__(host, credential=credential, patience=0.0)
        self.visits = wire(self, *answers)


def wired_store(*answers: bytes) -> tuple[RegistryStore, WiredClient]:
    """A repository of such a registry."""
    client = WiredClient(*answers)
    return RegistryStore(Reference.parse(f"{REGISTRY}/o/x"), client=client), client


def reached(url: str) -> Origin | None:
    """Where requests would connect for a URL; None where it refuses."""
    try:
        pool = _ADAPTER.get_connection_with_tls_context(requests.Request("GET", url).prepare(), verify=True)
        assert pool.host is not None
        pool.host.encode("idna")
    except (requests.RequestException, HTTPError, ValueError):
        return None
    return Origin(str(pool.scheme), pool.host.removeprefix("[").removesuffix("]"), pool.port or 0)


def check_visits(visits: list[Visit]) -> None:
    """No secret goes to another place than the registry, and no request into the inner network."""
    for visit in visits:
        own = (visit.scheme, visit.host.removesuffix("."), visit.port) == ("https", REGISTRY, 443)
        assert own or b"authorization:" not in visit.said.lower(), visit
        assert visit.scheme == "https", visit
        assert own or not is_inner(visit.host), visit


def is_inner(host: str) -> bool:
    """Whether a host is an address, as the resolver reads it, or a name without a domain."""
    try:
        socket.inet_aton(host.removesuffix("."))
    except (OSError, ValueError):
        labels = host.removesuffix(".").lower().split(".")
        return ":" in host or len(labels) == 1 or labels[-1] in ("localhost", "local", "internal")
    return True


@dataclass(frozen=True)
class _Line:
    """What is answered, and what has been asked."""

    answers: tuple[bytes, ...]
    visits: list[Visit]


class _Socket:
    def __init__(self, answer: bytes) -> None:
        self.said, self._answer = bytearray(), answer

    def sendall(self, data: bytes) -> None:
        self.said += data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._answer)

    def settimeout(self, seconds: float | None) -> None:
        pass

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        pass


class _Connection(HTTPConnection):
    kind = "http"
    # No connection is used twice, so that every request has its own answer.
    is_connected = False

    def __init__(self, *arguments: Any, line: _Line, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._line = line

    def _new_conn(self) -> Any:
        host: str = self._dns_host
        try:
            host.encode("idna")
        except UnicodeError:
            raise LocationParseError(f"{host!r}, label empty or too long") from None
        return _Socket(self._line.answers[min(len(self._line.visits), len(self._line.answers) - 1)])

    def getresponse(self) -> Any:
        sock: Any = self.sock
        self._line.visits.append(Visit(self.kind, self._dns_host, self.port, bytes(sock.said)))
        return super().getresponse()


class _SecureConnection(_Connection):
    kind = "https"
    default_port = 443  # type: ignore[misc]


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPConnectionPool):
    ConnectionCls = _SecureConnection
    scheme = "https"

    def __init__(self, host: str, port: int | None = None, *, line: _Line, **options: Any) -> None:
        super().__init__(host, port, blocksize=options["blocksize"], line=line)


class _Adapter(HTTPAdapter):
    def __init__(self, line: _Line) -> None:
        super().__init__()
        pools: Any = {"http": partial(_Pool, line=line), "https": partial(_SecurePool, line=line)}
        self.poolmanager.pool_classes_by_scheme = pools

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, blocksize=16384, **options)

    def send(self, *arguments: Any, **options: Any) -> Any:
        # Nothing leaves the process, whatever proxy the environment names.
        return super().send(*arguments, **options | {"proxies": None})


_CONTEXT = ssl.create_default_context()
_ADAPTER = HTTPAdapter()
