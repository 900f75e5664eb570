"""The servers' common part: they record, read and send bodies in pieces, and end without a trace."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import IO, TYPE_CHECKING, Any

from .faults import Fault
from .record import Request

if TYPE_CHECKING:
    from .site import Site

__all__ = ["PIECE", "Handler", "Server", "Upstream"]

PIECE = 64 * 1024
_DRAIN_LIMIT = 1 << 30
_ANSWER_LIMIT = 16 * 1024 * 1024


class Server(ThreadingHTTPServer):
    """A server on loopback, on a port that the system chooses."""

    daemon_threads = False  # so that they are waited for
    request_queue_size = 128

    def __init__(self, name: str, handler: Callable[..., Handler], site: Site) -> None:
        self.name, self.site, self.accepted = name, site, 0
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), handler)
        self.port: int = self.server_address[1]
        self._thread = threading.Thread(target=self._accept, name=f"ghcr-{name}")
        self._thread.start()

    def _accept(self) -> None:
        """Take connections until the end; `serve_forever` would notice that only after a while."""
        while True:
            request, client = self.get_request()
            if self.site.closing.is_set():
                request.close()
                return
            self.accepted += 1
            if self.site.context is not None:
                # The handshake is left to the connection's own thread.
                request = self.site.context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
            self.process_request(request, client)

    def server_bind(self) -> None:
        # HTTPServer's own asks the resolver for its name.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if error is not None:
            self.site.errors.append(error)

    def stop(self) -> None:
        """End all connections and wait for the threads; the site is closing."""
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)  # TLS's own would go on without TLS
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    server: Server
    entry: Request

    def setup(self) -> None:
        super().setup()
        self.site = self.server.site
        self.upstream = Upstream(self.site.upstream)

    def finish(self) -> None:
        self.upstream.close()
        super().finish()

    def handle(self) -> None:
        try:
            super().handle()
        except ssl.SSLError as error:
            if error.reason == "HTTP_REQUEST":
                self.site.plain.append(self.server.name)
        except (ConnectionError, TimeoutError):
            pass  # the client went away

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def serve(self) -> None:
        """Answer the request."""
        raise NotImplementedError

    def _do(self) -> None:
        self.entry = self.site.record.begin(self.server.name, self.command, self.path, self.headers.items())
        self._body = self._read_body()
        try:
            self.site.closing.wait(self.site.latency)
            self.serve()
        finally:
            self.entry.ended = time.monotonic()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _do

    def _read_body(self) -> Iterator[bytes]:
        """The request's body in pieces, as they come."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline(100).split(b";")[0] or b"0", 16):
                yield from self._read_exactly(size)
                self.rfile.readline(100)
            while self.rfile.readline(1000).strip():
                pass
        else:
            yield from self._read_exactly(int(self.headers.get("Content-Length") or 0))

    def _read_exactly(self, left: int) -> Iterator[bytes]:
        while left:
            data = self.rfile.read1(min(left, PIECE))
            if not data:
                raise ConnectionAbortedError("the body ended early")
            left -= len(data)
            self.entry.body_size += len(data)
            yield data

    def pieces(self) -> Iterator[bytes]:
        """The request's body, or what is left of it."""
        yield from self._body

    def content(self, limit: int = _ANSWER_LIMIT) -> bytes:
        """The request's body as a whole, for what is small."""
        found = b""
        for piece in self._body:
            found += piece
            if len(found) > limit:
                raise ConnectionAbortedError("too large a body")
        return found

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Send an answer that is small."""
        self.head(status, {"Content-Length": str(len(body)), **(headers or {})})
        if self.command != "HEAD" and body:
            self.wfile.write(body)

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status and headers, once the body has been read."""
        for _ in self._body:
            pass
        self.entry.status = status
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def refuse(
        self, status: int, code: str, message: str, detail: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send an error as the OCI specification has it ("Error Codes")."""
        error = {"code": code, "message": message, **({"detail": detail} if detail is not None else {})}
        body = json.dumps({"errors": [error]}).encode()
        self.answer(status, body, {"Content-Type": "application/json", **(headers or {})})

    def send_content(self, pieces: Iterable[bytes], fault: Fault | None) -> None:
        """Send an answer's content, with what a fault does to it."""
        kind, at = (fault.kind, fault.at) if fault else ("", 0)
        start = 0
        for piece in pieces:
            data = piece
            if kind == "flipped" and start <= at < start + len(data):
                data = data[: at - start] + bytes([data[at - start] ^ 0x20]) + data[at - start + 1 :]
            if kind == "truncated" and at < start + len(data):
                self.wfile.write(data[: at - start])
                self.close_connection = True
                return
            if kind == "slow" and fault is not None and start == 0:
                self._dribble(data, fault.seconds)
            else:
                self.wfile.write(data)
            start += len(piece)

    def _dribble(self, data: bytes, seconds: float) -> None:
        step = max(1, -(-len(data) // 10))
        for begin in range(0, len(data), step):
            self.wfile.write(data[begin : begin + step])
            self.site.closing.wait(seconds / 10)

    @property
    def base(self) -> str:
        """The server's own URL, by the name that the client uses."""
        return f"{self.site.scheme}://{self.headers['Host']}"

    def after(self) -> Fault | None:
        """What falls on an answer, now that the work is done."""
        fault = self.site.plan.take(self.entry, "answer")
        if fault is not None and fault.kind == "lost_answer":
            self.reset()
        return fault

    def reset(self) -> None:
        """End the connection at once: the client sees a reset, not an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for item in (self.rfile, self.wfile, self.connection):
            item.close()
        raise ConnectionResetError


class Upstream:
    """A connection to the real registry."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=60, blocksize=4 * PIECE)

    @contextlib.contextmanager
    def ask(
        self, method: str, target: str, body: IO[bytes] | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request and give the answer; what is left of it is thrown away."""
        response = None
        try:
            try:
                self._connection.request(method, target, body, dict(headers or {}))
                response = self._connection.getresponse()
            except OSError as error:
                # Else it would pass for a client that went away.
                raise http.client.HTTPException(f"the real registry: {error}") from error
            yield response
        finally:
            # A connection with an answer half read serves no more.
            if response is None or not response.isclosed():
                self.close()

    def read(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request; the answer's status, headers and content."""
        with self.ask(method, target, body, headers) as response:
            return response.status, dict(response.getheaders()), response.read(_ANSWER_LIMIT)

    def close(self) -> None:
        """Close it; the next request opens it again."""
        self._connection.close()
