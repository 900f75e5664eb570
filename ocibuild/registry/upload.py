"""Sending blobs: mounted where the registry has them elsewhere, whole in one request, in chunks where that breaks."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, BinaryIO
from urllib.parse import urlencode, urlsplit, urlunsplit

from ocibuild.errors import OcibuildError, RegistryError
from ocibuild.layer.stream import PullStream
from ocibuild.oci import Descriptor

from .client import Answer, RegistryClient
from .origin import check_target, join, redacted

__all__ = ["CHUNK", "Upload"]

CHUNK = 4 * 1024 * 1024
"""The largest chunk that GHCR takes with a `Content-Range`."""

_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,15})")
_LOST = frozenset({404, 416})
"""Statuses of a session that is gone, or is somewhere else than we think."""

_TOO_LARGE = 413
_REFUSALS = (400, 404, 405, 409, 410, 416)


@dataclass(slots=True)
class _Session:
    """An upload that the registry knows: where it goes on, and how many bytes are there.

    Without a location nothing is left to send: the registry has the blob.
    """

    location: str
    offset: int = 0


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
    _was_read: bool = field(default=False, init=False)
    _content_error: OcibuildError | None = field(default=None, init=False)

    def run(self, mount_from: Iterable[str] = ()) -> str:
        """Bring the blob there; `mounted` or `sent`.

        Raises:
            RegistryError: The registry refuses, or the upload breaks for longer than is borne.
            DigestMismatchError, StoreError: The content cannot be read, or is another.
        """
        session = next(filter(None, map(self._mount, mount_from)), None)
        if session is not None and not session.location:
            return "mounted"
        patience = self.client.new_patience()
        is_broken, furthest = False, 0
        while True:
            try:
                if is_broken:
                    session = self._taken_up(session)
                if session is None or session.location:  # else it is complete
                    session = session or self._begin()
                    self._complete(session, in_chunks=is_broken)
            except RegistryError as error:
                self._raise_unless_bearable(error, session, in_chunks=is_broken)
                # A byte at a time would be borne for ever.
                if session is not None and session.offset >= furthest + CHUNK:
                    furthest, patience = session.offset, self.client.new_patience()
                if not patience.wait(error.retry_after):
                    raise
                is_broken = True
            else:
                return "sent"

    @property
    def _scope(self) -> str:
        return f"repository:{self.repository}:pull,push"

    def _url(self, query: str = "") -> str:
        return f"{self.client.base}/v2/{self.repository}/blobs/uploads/{query}"

    def _mount(self, other: str) -> _Session | None:
        """Ask for the blob of another repository; None when the registry wants none of it."""
        query = "?" + urlencode({"mount": str(self.descriptor.digest), "from": other})
        scope = f"{self._scope} repository:{other}:pull"
        with contextlib.suppress(OcibuildError):  # whatever it is, an upload tells more
            answer = self.client.send("POST", self._url(query), scope=scope, body=b"", retry=False)
            if answer.status_code == 201:  # noqa: PLR2004
                return _Session("")
            return _Session(self._location(answer, self._url()))
        return None

    def _begin(self) -> _Session:
        answer = self._ask("POST", self._url())
        return _Session(self._location(answer, self._url()))

    def _complete(self, session: _Session, *, in_chunks: bool) -> None:
        """Send what is missing: at first all of it in one request; after a break in chunks, so that less is lost."""
        size = self.descriptor.size
        while in_chunks and size > CHUNK and session.offset < size:
            self._send_chunk(session)
        has_part = 0 < session.offset < size
        headers = {"Content-Range": f"{session.offset}-{size - 1}"} if has_part else {}
        self._send("PUT", _with_digest(session.location, str(self.descriptor.digest)), session.offset, size, headers)

    def _send_chunk(self, session: _Session) -> None:
        start, end = session.offset, min(session.offset + CHUNK, self.descriptor.size)
        answer = self._send("PATCH", session.location, start, end, {"Content-Range": f"{start}-{end - 1}"})
        session.location = self._location(answer, session.location)
        received = end if "Range" not in answer.headers else _received(answer) or 0
        if not start < received <= end:
            where = redacted(session.location)
            raise RegistryError(
                f"{received} bytes received after a chunk from {start} to {end}", where=where, status=416
            )
        session.offset = received

    def _taken_up(self, session: _Session | None) -> _Session | None:
        """The session as the registry knows it; None when a new one must begin."""
        if session is not None:
            answer = self._ask("GET", session.location, accept=_REFUSALS)
            offset = _received(answer)
            if answer.status_code < 400 and offset is not None and offset <= self.descriptor.size:  # noqa: PLR2004
                has_moved = answer.headers.get("Location")
                return _Session(self._location(answer, session.location) if has_moved else session.location, offset)
        # A session ends when its blob is complete; the answer that said so may be lost.
        url = f"{self.client.base}/v2/{self.repository}/blobs/{self.descriptor.digest}"
        return _Session("") if self._ask("HEAD", url, accept=(404,)).status_code == 200 else None  # noqa: PLR2004

    def _raise_unless_bearable(self, error: RegistryError, session: _Session | None, *, in_chunks: bool) -> None:
        if self._content_error is not None:
            raise self._content_error from None
        status = error.status
        may_go_on = error.is_temporary or status in _LOST or (status == _TOO_LARGE and not in_chunks)
        if may_go_on and (self.content.seekable() or not self._was_read):
            return
        if session is not None and session.location and status:
            with contextlib.suppress(OcibuildError):  # it need not keep what is given up
                self._ask("DELETE", session.location, accept=_REFUSALS)
        raise error

    def _ask(self, method: str, url: str, *, accept: tuple[int, ...] = ()) -> Answer:
        body = b"" if method == "POST" else None
        return self.client.send(method, url, scope=self._scope, body=body, accept=accept, retry=False)

    def _send(self, method: str, url: str, start: int, end: int, headers: dict[str, str]) -> Answer:
        length = end - start
        # A stream without length would be sent in HTTP's own chunks, which registries refuse.
        answer = self.client.send(
            method,
            url,
            scope=self._scope,
            body=self._opener(start, length) if length else b"",
            length=length or None,
            headers={"Content-Type": "application/octet-stream", **headers},
            accept=(404,),
            retry=False,
        )
        if answer.status_code == 404:  # noqa: PLR2004
            raise RegistryError("the registry does not know the upload", where=redacted(url), status=404)
        return answer

    def _location(self, answer: Answer, url: str) -> str:
        link = answer.headers.get("Location", "")
        if not link:
            raise RegistryError(
                f"{answer.status_code} without a Location", where=f"POST {redacted(url)}", status=answer.status_code
            )
        location = join(url, link)
        check_target(location, self.client.origin, what="an upload location")
        return location

    def _opener(self, offset: int, length: int) -> Callable[[], IO[bytes]]:
        def opened() -> IO[bytes]:
            if self.content.seekable():
                self.content.seek(offset)
            elif self._was_read:
                raise RegistryError("content that cannot be read twice", where=redacted(self._url()))
            return _Part(self, length)  # type: ignore[return-value]

        return opened


class _Part(PullStream):
    """A part of an upload's content, which stays open. Remembers why it could not be read: libraries rename errors."""

    def __init__(self, upload: Upload, size: int) -> None:
        self._upload, self._left = upload, size

    def pull(self, size: int) -> bytes:
        upload = self._upload
        upload._was_read = True  # noqa: SLF001
        try:
            data = upload.content.read(min(size, self._left)) if self._left else b""
        except OcibuildError as error:
            upload._content_error = error  # noqa: SLF001
            raise
        self._left -= len(data)
        return data


def _received(answer: Answer) -> int | None:
    """The bytes that the registry has, by its `Range`; it may be fewer than were sent. None when that does not tell."""
    match = _RANGE.fullmatch(answer.headers.get("Range", "").strip())
    # `0-0` is what registries say for nothing, and for one byte.
    return None if match is None or match[1] == "0" else int(match[1]) + 1


def _with_digest(location: str, digest: str) -> str:
    parts = urlsplit(location)
    query = f"{parts.query}&{urlencode({'digest': digest})}" if parts.query else urlencode({"digest": digest})
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))
