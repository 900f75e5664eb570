"""Sending blobs: mounted where the registry has them elsewhere, whole in one request, in chunks where that breaks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO, BinaryIO
from urllib.parse import urlencode, urlsplit, urlunsplit

from ocibuild.errors import AuthError, NotFoundError, RegistryError
from ocibuild.layer.stream import PullStream
from ocibuild.oci import Descriptor

from .client import Answer, RegistryClient
from .origin import check_target, join, redacted
from .retry import Patience

__all__ = ["CHUNK", "Upload"]

CHUNK = 4 * 1024 * 1024
"""The largest chunk that GHCR takes with a `Content-Range`."""

_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,15})")
_BROKEN_REASONS = (416, 500, 502, 503, 504, 408, 429)


@dataclass(slots=True)
class Upload:
    """One blob on its way to a repository (distribution-spec, "Pushing Blobs").

    Attributes:
        client: The registry.
        repository: Where it goes.
        descriptor: The blob.
        content: Its bytes; seekable, if a broken upload is to be taken up again.
    """

    client: RegistryClient
    repository: str
    descriptor: Descriptor
    content: BinaryIO

    def run(self, mount_from: Iterable[str] = ()) -> str:
        """Bring the blob there; `mounted` or `sent`.

        Raises:
            RegistryError: The registry refuses, or the upload breaks for longer than is borne.
        """
        location = None
        for other in mount_from:
            location = self._mount(other)
            if location == "":
                return "mounted"
            if location is not None:
                break
        patience = Patience(self.client.patience)
        while True:
            try:
                self._send(location or self._begin(), patience)
            except RegistryError as error:
                # The session is lost; a new one begins at the first byte.
                if (
                    isinstance(error, AuthError)
                    or error.status not in (0, 404, *_BROKEN_REASONS)
                    or not self._is_rewindable
                ):
                    raise
                if not patience.wait():
                    raise
                location = None
                continue
            return "sent"

    @property
    def _is_rewindable(self) -> bool:
        return self.content.seekable()

    @property
    def _scope(self) -> str:
        return f"repository:{self.repository}:pull,push"

    def _url(self, query: str = "") -> str:
        return f"{self.client.base}/v2/{self.repository}/blobs/uploads/{query}"

    def _mount(self, other: str) -> str | None:
        """Ask for the blob of another repository: empty when it is mounted, a location to upload to, None for neither."""
        query = "?" + urlencode({"mount": str(self.descriptor.digest), "from": other})
        try:
            answer = self.client.send("POST", self._url(query), scope=self._scope, headers={"Content-Length": "0"})
        except (RegistryError, NotFoundError):
            return None  # whatever it is, an upload tells more
        if answer.status_code == 201:  # noqa: PLR2004
            return ""
        return self._location(answer, self._url()) if answer.headers.get("Location") else None

    def _begin(self) -> str:
        answer = self.client.send("POST", self._url(), scope=self._scope, headers={"Content-Length": "0"})
        return self._location(answer, self._url())

    def _location(self, answer: Answer, url: str) -> str:
        link = answer.headers.get("Location", "")
        if not link:
            raise RegistryError(
                f"{answer.status_code} without a Location", where=f"POST {redacted(url)}", status=answer.status_code
            )
        location = join(url, link)
        check_target(location, self.client.origin, what="an upload location")
        return location

    def _send(self, location: str, patience: Patience) -> None:
        """The whole blob in one request; what a break leaves out, in chunks."""
        try:
            self._finish(location, 0)
        except RegistryError as error:
            if isinstance(error, AuthError) or error.status not in (0, *_BROKEN_REASONS) or not self._is_rewindable:
                raise
        else:
            return
        offset, location = self._state(location, patience)
        while offset < self.descriptor.size:
            before = offset
            offset, location = self._chunk(location, offset, patience)
            if offset > before:
                patience = Patience(self.client.patience)
        self._finish(location, self.descriptor.size)

    def _finish(self, location: str, offset: int) -> None:
        length = self.descriptor.size - offset
        self._request("PUT", _with_digest(location, str(self.descriptor.digest)), offset, length, {})

    def _chunk(self, location: str, offset: int, patience: Patience) -> tuple[int, str]:
        length = min(CHUNK, self.descriptor.size - offset)
        headers = {"Content-Range": f"{offset}-{offset + length - 1}"}
        try:
            answer = self._request("PATCH", location, offset, length, headers)
        except RegistryError as error:
            if isinstance(error, AuthError) or error.status not in (0, *_BROKEN_REASONS):
                raise
            return self._state(location, patience)
        return _received(answer, offset + length), self._location(answer, location)

    def _state(self, location: str, patience: Patience) -> tuple[int, str]:
        """How far an upload has come, and where it goes on.

        Raises:
            RegistryError: The registry does not know it any more (status 404), or does not answer.
        """
        if not patience.wait():
            raise RegistryError("the upload broke too often", where=redacted(location))
        try:
            answer = self.client.send("GET", location, scope=self._scope)
        except NotFoundError as error:
            raise RegistryError(error.found, where=error.where, status=404) from None
        offset = _received(answer, 0)
        if offset > self.descriptor.size:
            raise RegistryError(
                f"{offset} bytes of {self.descriptor.size} received", where=redacted(location), status=404
            )
        link = answer.headers.get("Location")
        return offset, self._location(answer, location) if link else location

    def _request(self, method: str, url: str, offset: int, length: int, headers: dict[str, str]) -> Answer:
        sent = {"Content-Type": "application/octet-stream", **headers}
        # A stream without length would be sent in HTTP's own chunks, which registries refuse.
        body = self._opener(offset, length) if length else b""
        return self.client.send(
            method, url, scope=self._scope, body=body, length=length or None, headers=sent, retry=False
        )

    def _opener(self, offset: int, length: int) -> Callable[[], IO[bytes]]:
        def opened() -> IO[bytes]:
            if self._is_rewindable:
                self.content.seek(offset)
            return _Window(self.content, length)  # type: ignore[return-value]

        return opened


class _Window(PullStream):
    """A part of a stream, which stays open."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size

    def pull(self, size: int) -> bytes:
        data = self._stream.read(min(size, self._left)) if self._left else b""
        self._left -= len(data)
        return data


def _received(answer: Answer, otherwise: int) -> int:
    """The bytes that the registry has, by its `Range`; it may be fewer than were sent."""
    text = answer.headers.get("Range", "")
    match = _RANGE.fullmatch(text.strip())
    # `0-0` is what registries say for nothing, and for one byte.
    return otherwise if match is None else (int(match[1]) + 1 if match[1] != "0" else 0)


def _with_digest(location: str, digest: str) -> str:
    parts = urlsplit(location)
    query = f"{parts.query}&{urlencode({'digest': digest})}" if parts.query else urlencode({"digest": digest})
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))
