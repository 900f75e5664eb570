"""Reading blobs: as a stream that takes up where a connection broke."""

from __future__ import annotations

import re
from typing import Any

import requests
import urllib3.exceptions

from ocibuild.errors import RegistryError
from ocibuild.layer.stream import PullStream

from .client import Answer, RegistryClient
from .origin import redacted

__all__ = ["BlobReader"]

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-[0-9]{1,15}/(?:[0-9]{1,15}|\*)")
_BROKEN = (urllib3.exceptions.HTTPError, requests.RequestException, OSError)


class BlobReader(PullStream):
    """The bytes at a URL of a registry, unverified; seekable to any offset.

    Raises:
        NotFoundError: When it is opened: the registry has no such blob.
        RegistryError: While reading: the connection breaks for longer than is borne.
    """

    def __init__(self, client: RegistryClient, url: str, scope: str, size: int) -> None:
        self._client, self._url, self._scope, self._size = client, url, scope, size
        self._at = 0
        self._answer: Answer | None = None
        self._patience = client.new_patience()
        self._open()

    def pull(self, size: int) -> bytes:
        while True:
            try:
                if self._answer is None:
                    self._open()
                assert self._answer is not None
                data: bytes = self._answer.raw.read(size, decode_content=False) or b""
            except _BROKEN as error:
                self._break(error)
                continue
            if not data and self._at < self._size:
                self._break(EOFError())
                continue
            self._at += len(data)
            if data:
                self._patience = self._client.new_patience()
            return data

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence != 0:
            raise OSError("only from the start")
        if offset != self._at:
            self._drop()
            self._at = offset
        return offset

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._drop()
        super().close()

    def _open(self) -> None:
        headers = {"Range": f"bytes={self._at}-"} if self._at else {}
        answer = self._client.send("GET", self._url, scope=self._scope, headers=headers, stream=True, accept=(416,))
        self._answer = answer
        if not self._at:
            return
        start = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if answer.status_code == 206 and start is not None and int(start[1]) == self._at:  # noqa: PLR2004
            return
        if answer.status_code != 200:  # noqa: PLR2004
            raise RegistryError(f"{answer.status_code} to a request for the rest", where=redacted(self._url))
        self._skip(self._at)

    def _skip(self, left: int) -> None:
        """Read over what is known already: the registry sent all of it once more."""
        assert self._answer is not None
        while left:
            data: Any = self._answer.raw.read(min(left, 256 * 1024), decode_content=False)
            if not data:
                raise urllib3.exceptions.ProtocolError("ended early")
            left -= len(data)

    def _break(self, error: Exception) -> None:
        self._drop()
        if not self._patience.wait():
            raise RegistryError(
                f"the connection broke after {self._at} of {self._size} bytes ({type(error).__name__})",
                where=redacted(self._url),
            ) from None

    def _drop(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None
