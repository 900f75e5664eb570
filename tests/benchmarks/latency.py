"""A network that is far away: a TCP relay on loopback that delays every byte and hinders none.

    python -m tests.benchmarks.latency HOST:PORT [--rtt SECONDS] --log FILE

It prints the port where it listens. What a client sends arrives half a round trip later, and so do the answers; bytes on
their way wait for nothing but their time, so bandwidth is not limited. On loopback a client is connected at once, so the
handshake's round trip is laid on what it sends first. It cannot be seen from here that a client, while it waits for
a far connection, would have used another that became free: clients that open many are shown as they are with a patient
network. There is no slow start and no loss.

The log has one JSON object a line: connections, and the requests on them with their answers, as far as they are plain HTTP/1.1.
Times are the client's: when the request left it, when its answer came back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import selectors
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

__all__ = ["Exchange", "Far", "Traffic", "far_away"]

_READ = 256 * 1024
_LENGTH = re.compile(rb"^content-length:[ \t]*([0-9]+)", re.IGNORECASE | re.MULTILINE)
_CHUNKED = re.compile(rb"^transfer-encoding:[ \t]*chunked", re.IGNORECASE | re.MULTILINE)
_REQUEST = re.compile(rb"([A-Z]+) ([^ ]+) HTTP/1\.1\r\n")
_STATUS = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2}) ")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer, as the client sees them.

    Attributes:
        connection: The connection's number.
        method, path: What was asked; a path has no query.
        status: What was answered; 0 when nothing was.
        sent, answered: Seconds on the clock of `time.monotonic`.
    """

    connection: int
    method: str
    path: str
    status: int
    sent: float
    answered: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went through the relay in some time."""

    connections: int
    unreadable: int
    exchanges: tuple[Exchange, ...]

    @property
    def methods(self) -> dict[str, int]:
        return dict(sorted(Counter(item.method for item in self.exchanges).items()))


@dataclass(slots=True)
class Far:
    """A running relay.

    Attributes:
        address: `127.0.0.1:PORT`, where the far server is now found.
        log: What the relay writes.
    """

    address: str
    log: Path
    _at: int = 0

    def traffic(self) -> Traffic:
        """What went through since the last call. Ask when the clients have ended."""
        last = -1
        while last != (last := self.log.stat().st_size):
            time.sleep(0.1)
        with open(self.log, encoding="utf-8") as file:
            file.seek(self._at)
            lines = [json.loads(line) for line in file]
            self._at = file.tell()
        opened = {line["connection"] for line in lines if line["event"] == "opened"}
        strange = {line["connection"] for line in lines if line["event"] == "unreadable"}
        found = [Exchange(**line["exchange"]) for line in lines if line["event"] == "exchange"]
        return Traffic(len(opened), len(strange), tuple(sorted(found, key=lambda item: item.sent)))


@contextmanager
def far_away(address: str, folder: Path, rtt: float) -> Iterator[Far]:
    """A relay to an address in a process of its own: it shares no lock with what is measured."""
    log = folder / "relay.jsonl"
    log.touch()
    command = [sys.executable, "-m", "tests.benchmarks.latency", address, "--rtt", str(rtt), "--log", str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port.isdigit(), "the relay did not start"
        yield Far(f"127.0.0.1:{port}", log)
    finally:
        process.terminate()
        process.communicate(timeout=10)


@dataclass(slots=True)
class Requests:
    """Finds the requests in what a client sends; bodies are passed over."""

    found: Callable[[str, str], None]
    is_readable: bool = True
    _head: bytearray = field(default_factory=bytearray)
    _body: int = 0
    _is_chunked: bool = False

    def feed(self, data: bytes) -> bool:
        """Whether it is, so far, what can be read."""
        at = 0
        while at < len(data) and self.is_readable:
            if self._body:
                step = min(self._body, len(data) - at)
                self._body -= step
                at += step
                continue
            end = data.find(b"\n", at) + 1 or len(data)
            self._head += data[at:end]
            at = end
            if self._is_chunked:
                self._chunk()
            elif self._head.endswith(b"\r\n\r\n"):
                self._request()
            elif len(self._head) > _READ or not self._head[:1].isalpha():
                self.is_readable = False
        return self.is_readable

    def _chunk(self) -> None:
        """A line between the parts of a chunked body: a size, the end of a part, or the end of all."""
        if not self._head.endswith(b"\n"):
            return
        line, self._head = bytes(self._head).strip(), bytearray()
        if line:
            size = int(line.partition(b";")[0], 16)
            self._body = size + 2 if size else 0
            if not size:
                self._is_chunked = False
                self._body = 2

    def _request(self) -> None:
        head, self._head = bytes(self._head), bytearray()
        line = _REQUEST.match(head)
        if line is None:
            self.is_readable = False
            return
        length = _LENGTH.search(head)
        self._body = int(length[1]) if length else 0
        self._is_chunked = _CHUNKED.search(head) is not None
        self.found(line[1].decode(), line[2].decode().partition("?")[0])


class _Link:
    """One direction of a connection: bytes and the end, each at its time."""

    def __init__(self, delay: float, earliest: float) -> None:
        self.delay, self.earliest = delay, earliest
        self.queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def take(self, reader: asyncio.StreamReader, seen: Callable[[bytes, float], None]) -> None:
        data = b"?"
        while data:
            try:
                data = await reader.read(_READ)
            except ConnectionError:
                data = b""
            now = max(time.monotonic(), self.earliest)
            self.queue.put_nowait((now + self.delay, data))
            seen(data, now)

    async def give(self, writer: asyncio.StreamWriter) -> None:
        while True:
            when, data = await self.queue.get()
            if (wait := when - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            try:
                if not data:
                    writer.write_eof()
                    return
                writer.write(data)
            except (OSError, RuntimeError):  # it has gone
                return


class _Relay:
    def __init__(self, target: str, rtt: float, log: TextIO) -> None:
        self.host, _, port = target.partition(":")
        self.port, self.rtt, self.log = int(port), rtt, log
        self.count = 0

    def say(self, event: str, connection: int, **fields: Any) -> None:
        self.log.write(json.dumps({"event": event, "connection": connection, **fields}) + "\n")

    def tell(self, exchange: Exchange) -> None:
        self.say("exchange", exchange.connection, exchange=asdict(exchange))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        number, opened = self.count, time.monotonic()
        self.say("opened", number, at=opened)
        far_reader, far_writer = await asyncio.open_connection(self.host, self.port, limit=_READ)
        up, down = _Link(self.rtt / 2, opened + self.rtt), _Link(self.rtt / 2, 0.0)
        waiting: list[tuple[str, str, float]] = []
        left, strange = [0.0], list[bool]()
        requests = Requests(lambda method, path: waiting.append((method, path, left[0])))

        def asked(data: bytes, now: float) -> None:
            # With the handshake: it is part of what a request costs.
            left[0] = opened if now == up.earliest else now
            if not requests.feed(data) and not strange:
                strange.append(True)
                self.say("unreadable", number)

        def answered(data: bytes, now: float) -> None:
            if waiting and (status := _STATUS.match(data)):
                method, path, sent = waiting.pop(0)
                self.tell(Exchange(number, method, path, int(status[1]), sent, now + self.rtt / 2))

        tasks = (
            up.take(reader, asked), up.give(far_writer), down.take(far_reader, answered), down.give(writer),
        )  # fmt: skip
        try:
            await asyncio.gather(*tasks)
        finally:
            for method, path, sent in waiting:
                self.tell(Exchange(number, method, path, 0, sent, sent))
            writer.close()
            far_writer.close()


async def _listen(target: str, rtt: float, log: TextIO) -> None:
    relay = _Relay(target, rtt, log)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0, limit=_READ, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", metavar="HOST:PORT")
    parser.add_argument("--rtt", type=float, default=0.05, help="seconds (default 0.05)")
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    # epoll's timeouts are whole milliseconds; those of select are not.
    with (
        open(options.log, "a", buffering=1, encoding="utf-8") as log,
        asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner,
    ):
        runner.run(_listen(options.target, options.rtt, log))


if __name__ == "__main__":
    main()
