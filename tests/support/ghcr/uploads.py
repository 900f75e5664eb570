"""Uploads: begun, mounted, taken in parts, and kept where they break."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from typing import IO
from urllib.parse import urlencode

from .access import challenge
from .faults import Fault
from .server import Handler
from .sessions import Session

__all__ = ["CHUNK_LIMIT", "serve_upload"]

CHUNK_LIMIT = 4 * 1024 * 1024
"""What GHCR takes in a PATCH with a Content-Range."""


def serve_upload(handler: Handler, fault: Fault | None) -> None:
    """Answer what concerns uploads."""
    entry = handler.entry
    if not entry.upload:
        if handler.command == "POST":
            return _begin(handler, fault)
        return handler.refuse(405, "UNSUPPORTED", "The operation is unsupported.")
    session = handler.site.sessions.find(entry.repository, entry.upload)
    with session.lock if session is not None else contextlib.nullcontext():
        if session is None or session.state != "open":
            return handler.refuse(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        if handler.command == "GET":
            _accept(handler, session, 204, None)
        elif handler.command == "DELETE":
            _cancel(handler, session)
            handler.head(204, {})
        elif handler.command in ("PATCH", "PUT"):
            _take(handler, session)
        else:
            handler.refuse(405, "UNSUPPORTED", "The operation is unsupported.")
    return None


def _begin(handler: Handler, fault: Fault | None) -> None:
    """Begin an upload, or mount a blob: only where the token may read the other repository."""
    entry, site, query = handler.entry, handler.site, ""
    kind = fault.kind if fault else ""
    if kind == "mount_401":
        return challenge(handler)
    if kind == "mount_404":
        return handler.refuse(404, "NAME_UNKNOWN", "repository name not known to registry")
    other = entry.values.get("from", [""])[0]
    token = site.tokens.find(handler.headers.get("Authorization", ""))
    may_read = token is not None and token.allows({other: frozenset({"pull"})})
    if entry.digest and other and kind != "mount_202" and (may_read or kind == "mount_201"):
        query = "?" + urlencode({"mount": entry.digest, "from": other})
    target = f"/v2/{entry.repository}/blobs/uploads/{query}"
    status, headers, raw = handler.upstream.read("POST", target, b"", {"Content-Length": "0"})
    if status == 201:
        return _complete(handler)
    if status != 202:
        return handler.answer(status, raw, {"Content-Type": headers.get("Content-Type", "text/plain")})
    session = site.sessions.begin(entry.repository, headers["Location"])
    entry.upload, entry.digest = session.id, ""
    return _accept(handler, session, 202, handler.after())


def _accept(handler: Handler, session: Session, status: int, fault: Fault | None) -> None:
    location = session.location(handler.base)
    if fault is not None and fault.kind == "foreign_upload":
        location = handler.site.elsewhere(fault, f"/upload/{session.id}")
    headers = {"Location": location, "Range": session.range, "Docker-Upload-UUID": session.id}
    if status == 204:
        handler.head(204, headers)
    else:
        handler.answer(status, b"", headers)


def _complete(handler: Handler) -> None:
    entry = handler.entry
    entry.done = time.monotonic()
    handler.after()
    location = f"/v2/{entry.repository}/blobs/{entry.digest}"
    handler.answer(201, b"", {"Location": location, "Docker-Content-Digest": entry.digest})


def _cancel(handler: Handler, session: Session) -> None:
    session.state = "gone"
    handler.upstream.read("DELETE", session.behind)


def _take(handler: Handler, session: Session) -> None:
    """Take a part of a blob, or its last one."""
    entry, site = handler.entry, handler.site
    entry.offset = session.offset
    told = handler.headers.get("Content-Range", "")
    size = int(handler.headers.get("Content-Length") or 0)
    here = {"Range": session.range}
    if entry.values.get("_state") != [f"{session.mark}="] or "part" not in entry.query:
        return handler.refuse(400, "BLOB_UPLOAD_INVALID", "not the newest location of this upload")
    if handler.command == "PATCH" and told and size > CHUNK_LIMIT:
        text = "chunk size exceeds the maximum permissible limit of 4.00MiB"
        return handler.refuse(416, "REQUESTED_RANGE_NOT_SATISFIABLE", text, None, here)
    if told and told != f"{session.offset}-{session.offset + size - 1}":
        return handler.refuse(416, "REQUESTED_RANGE_NOT_SATISFIABLE", "not where the upload is", None, here)
    with _received(handler, site.plan.take(entry, "upload")) as (file, came, is_whole):
        if not is_whole and not site.keeps:
            _cancel(handler, session)
        elif not is_whole or handler.command == "PATCH":
            _send_on(handler, session, file, came)
        if not is_whole:
            handler.reset()
        if handler.command == "PATCH":
            return _accept(handler, session, 202, handler.after())
        return _finish(handler, session, file, came)


@contextlib.contextmanager
def _received(handler: Handler, fault: Fault | None) -> Iterator[tuple[IO[bytes], int, bool]]:
    """Take a request's body into a file; the file, its size, and whether the body is whole."""
    kind, at = (fault.kind, fault.at) if fault is not None else ("", 0)
    pause = fault.seconds / 10 if fault is not None and kind == "slow_upload" else 0.0
    with tempfile.TemporaryFile(prefix="ghcr-") as file:
        size, is_whole = 0, kind != "reset_upload"  # a body that ends before the byte breaks at its end
        try:
            for number, piece in enumerate(handler.pieces()):
                if not is_whole and size + len(piece) > at:
                    size += file.write(piece[: at - size])
                    break
                size += file.write(piece)
                handler.site.closing.wait(pause if number < 10 else 0)
        except ConnectionError:
            is_whole = False
        handler.entry.body_size = size
        file.seek(0)
        yield file, size, is_whole


def _send_on(handler: Handler, session: Session, file: IO[bytes], size: int) -> None:
    """Give the real registry what came, as a part of its own."""
    if not size:
        return
    with handler.upstream.ask("PATCH", session.behind, file, _body_headers(size)) as answer:
        answer.read()
        assert answer.status == 202, answer.status
        session.moved(answer.headers["Location"])
    session.offset += size
    handler.entry.kept = size


def _finish(handler: Handler, session: Session, file: IO[bytes], size: int) -> None:
    target = f"{session.behind}&{urlencode({'digest': handler.entry.digest})}"
    with handler.upstream.ask("PUT", target, file, _body_headers(size)) as answer:
        status, kind, raw = answer.status, answer.headers.get("Content-Type", ""), answer.read()
    session.state = "done" if status == 201 else "gone"
    if status != 201:
        return handler.answer(status, raw, {"Content-Type": kind})
    handler.entry.kept = size
    return _complete(handler)


def _body_headers(size: int) -> dict[str, str]:
    return {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
