"""What is beneath a request: connections, what they trust, and how bodies are read and sent."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from ocibuild.errors import RegistryError, UsageError

from .failure import BROKEN
from .origin import redacted

__all__ = ["ANSWER_LIMIT", "Sized", "check_certificates", "consume", "equip", "quiet_urls"]

ANSWER_LIMIT = 8 * 1024 * 1024
"""The most bytes of an answer that is no blob."""

_BLOCK = 256 * 1024


def equip(session: requests.Session, base: str, *, ca_file: str | None, connections: int) -> None:
    """Give a session our connections, and take from it what requests would do unasked.

    Args:
        session: The session.
        base: The registry's URL.
        ca_file: What to trust, in place of what the system and requests do.
        connections: How many a host at most.
    """
    # Without an `auth` of its own a session takes what ~/.netrc says, in place of any header.
    session.auth = _unchanged
    # Redirects are followed by RegistryClient alone; requests would look at them even so.
    session.get_redirect_target = _nowhere  # type: ignore[method-assign]
    session.headers.update({"User-Agent": "ocibuild", "Accept-Encoding": "identity"})
    session.mount("http://", _Adapter(None, connections))
    # The registry's own: a client certificate stays in the context that was once used with it.
    for prefix in ("https://", f"{base}/") if base.startswith("https:") else ():
        # What the system trusts counts besides what requests brings along: private registries live by it.
        session.mount(prefix, _Adapter(ssl.create_default_context() if ca_file is None else None, connections))


def check_certificates(ca_file: str | None, client_certificate: tuple[str, str] | None) -> None:
    """Refuse a file that holds no certificate or key: later it would look like a fault of the registry.

    Raises:
        UsageError: There is one.
    """
    place = ""
    try:
        if ca_file is not None:
            place = ca_file
            ssl.create_default_context(cafile=ca_file)
        if client_certificate is not None:
            place = " and ".join(client_certificate)
            # Without a password OpenSSL would ask for one on the terminal.
            ssl.create_default_context().load_cert_chain(*client_certificate, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        said = error.strerror if isinstance(error, FileNotFoundError) else "not in PEM, or a key with a password"
        raise UsageError(f"cannot be used: {said}", wanted="certificates", where=place) from None


class _Quiet(threading.local):
    """Whether the thread is inside a request of ours."""

    value = False


_quiet = _Quiet()


def _without_queries(record: logging.LogRecord) -> bool:
    """Take the queries out of what urllib3 logs of our requests: a signature stands there."""
    if _quiet.value and isinstance(record.args, tuple):
        record.args = tuple(item.partition("?")[0] if isinstance(item, str) else item for item in record.args)
    return True


@contextmanager
def quiet_urls() -> Iterator[None]:
    """While it lasts, urllib3 logs no query of this thread's requests, at any level."""
    logger = logging.getLogger("urllib3.connectionpool")
    if _without_queries not in logger.filters:
        logger.addFilter(_without_queries)
    before = _quiet.value  # one request may read what another brings
    _quiet.value = True
    try:
        yield
    finally:
        _quiet.value = before


def consume(answer: requests.Response, *, must_be_whole: bool) -> bytes:
    """Read an answer's content, as far as a document may be long, and leave it where `content` and `json()` find it."""
    if answer._content_consumed:  # noqa: SLF001
        return answer.content or b""
    content: bytes = b""
    with answer:
        try:
            # That it broke off shows only when nothing more is read.
            while len(content) <= ANSWER_LIMIT and (data := answer.raw.read(ANSWER_LIMIT + 1, decode_content=False)):
                content += data
        except BROKEN:
            if must_be_whole:
                raise  # else it is a status that needs no content
    if len(content) > ANSWER_LIMIT and must_be_whole:
        raise RegistryError(
            f"an answer of more than {ANSWER_LIMIT} bytes", where=redacted(answer.url), status=answer.status_code
        )
    answer._content = content  # noqa: SLF001
    answer._content_consumed = True  # noqa: SLF001
    return content


class _Adapter(HTTPAdapter):
    """A pool that sends files in large blocks, and trusts what a context trusts."""

    def __init__(self, context: ssl.SSLContext | None, connections: int) -> None:
        self._trusted: dict[str, Any] = {} if context is None else {"ssl_context": context}
        super().__init__(pool_connections=4, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **keywords: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, blocksize=_BLOCK, **self._trusted, **keywords)

    def proxy_manager_for(self, proxy: str, **keywords: Any) -> Any:
        return super().proxy_manager_for(proxy, **self._trusted, **keywords)


class Sized:
    """A stream with a length, so that it is sent as it is and not in chunks."""

    def __init__(self, stream: Any, length: int) -> None:
        self._stream, self._length = stream, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read(_BLOCK):
            yield data

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        return data


def _nowhere(resp: requests.Response) -> None:  # noqa: ARG001 - the name that requests gives it
    return None


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
