"""The question that is asked before the libraries are loaded: what it learns, and that nothing depends on it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocibuild import MemoryStore, Platform, build_image, copy
from ocibuild.oci import Digest, Reference
from ocibuild.registry import Credential, Early, RegistryClient, RegistryStore
from ocibuild.registry.early import EarlyAnswer
from tests.conftest import Result
from tests.support.ghcr import ghcr
from tests.support.tools import TREES

Cli = Callable[..., Result]
NOTHING = Digest.of(b"nothing")


@pytest.fixture
def digest(address: str) -> Digest:
    """An image that is there, as `o/x:1`."""
    image = build_image([], platform=Platform.parse("amd64"), into=MemoryStore())
    with RegistryStore(Reference.parse(f"{address}/o/x"), client=RegistryClient(address)) as store:
        return copy(image, store, tags=["1"]).digest


@contextmanager
def server(answer: bytes, *, waits: float = 0.0) -> Iterator[str]:
    """Something that is no registry."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(1)
                    try:
                        connection.recv(65536)
                        stop.wait(waits)
                        connection.sendall(answer)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            thread.join()


def asked(address: str, *names: str, repository: str = "o/x") -> dict[str, EarlyAnswer]:
    with Early(address) as early:
        early.ask(repository, names)
        return dict(early.answers())


def test_what_names_stand_for(address: str, digest: Digest) -> None:
    found = asked(address, "1", digest, NOTHING, "2", "1", "3", "4")
    there = EarlyAnswer(digest)
    assert found == {"1": there, digest: there} | {name: EarlyAnswer(None) for name in (NOTHING, "2", "3", "4")}


def test_the_challenge_is_kept_and_no_secret_shown(address: str) -> None:
    with ghcr(address) as site:
        found = asked(site.address, "1", repository="grove/new")
        assert found["1"].challenge.startswith("Bearer realm=")
        client = RegistryClient(site.address, credential=Credential(username=site.user, password=site.secret))
        with RegistryStore(Reference.parse(f"{site.address}/grove/new"), client=client) as store:
            store.learn(found)
            assert store.find(["1"]) == {}
        heads = site.record.at("ghcr", "HEAD")
        assert [item.status for item in heads] == [401, 404]  # the early one, and the only other
        assert not site.record.leaks(site.secrets)


def test_strangers_may_not_be_told_what_there_is(address: str, digest: Digest) -> None:
    hidden = {"1": EarlyAnswer(None)}
    for credential, expected in ((None, {}), (Credential(username="a", password="b"), {"1": digest})):
        client = RegistryClient(address, credential=credential)
        with RegistryStore(Reference.parse(f"{address}/o/x"), client=client) as store:
            store.learn(hidden)
            assert store.find(["1"]) == expected


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff" * 1000,
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nDocker-Content-Digest: sha256:../x\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: https://other.example/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000,
    ],
)
def test_nonsense_is_no_answer(answer: bytes) -> None:
    with server(answer) as address:
        assert asked(address, "1") == {}


def test_little_is_waited_for() -> None:
    begun = time.monotonic()
    with server(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", waits=20) as address:
        assert asked(address, "1") == {}
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("host", ["", "a b", "../x", "oci:x", "127.0.0.1:1", "no-such-host.invalid"])
def test_no_registry_is_no_answer(host: str) -> None:
    assert asked(host, "1") == {}


def test_an_exact_version_is_refused_by_what_was_asked_early(cli: Cli, address: str, tmp_path: Path) -> None:
    for name, label in (("one", "vendor=Elm"), ("two", "vendor=Oak")):
        assert cli("build", *TREES, "-o", f"oci:{tmp_path}/{name}", "--label", label).code == 0
    assert cli("push", f"oci:{tmp_path}/one", f"{address}/grove/early").code == 0
    assert cli("push", f"oci:{tmp_path}/two", f"{address}/grove/early").code == 2
    again = cli("push", f"oci:{tmp_path}/one", f"{address}/grove/early", "--json")
    assert again.code == 0
    assert '"sent": []' in again.out
