"""Debian's docker-registry, started on loopback for one test: open, or guarded by a password, tokens or certificates."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.certificates import Certificates
from tests.support.tokens import TokenService
from tests.support.tools import require

__all__ = ["PASSWORD", "USER", "Seen", "registry", "seen"]

USER, PASSWORD = "grove", "s3cret-of-the-grove"
"""Who a registry with `htpasswd` lets in."""

# crypt.crypt(PASSWORD, "$2y$04$" + salt): docker-registry takes bcrypt only, which the standard library no longer has.
_HTPASSWD = f"{USER}:$2y$04$ocibuildocibuildocibueBn29spmqvE29HDZkl8pGX8aPCjeG5ca\n"

_LINE = re.compile(r'"(?P<method>[A-Z]+) (?P<path>/v2/[^ ?]*)\??(?P<query>[^ ]*) HTTP/[0-9.]+" (?P<status>[0-9]{3}) ')


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that a registry has answered."""

    method: str
    path: str
    query: str
    status: int


@contextmanager
def registry(
    folder: Path,
    *,
    htpasswd: bool = False,
    token: TokenService | None = None,
    tls: Certificates | None = None,
    is_mutual: bool = False,
) -> Iterator[str]:
    """A running registry; its address, `127.0.0.1:PORT`. What it was asked is told by `seen`.

    Args:
        folder: For its configuration, logs and content; one for each registry.
        htpasswd: Let in `USER` with `PASSWORD` only.
        token: Let in who brings a token of this service.
        tls: Speak https, with this certificate.
        is_mutual: Want a client's certificate of the same authority.
    """
    program = require("docker-registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = folder / "registry.yml"
    # JSON is YAML.
    config.write_text(json.dumps(_config(folder, address, htpasswd, token, tls, is_mutual=is_mutual), indent=1))
    log = folder / "registry.log"
    with open(log, "wb") as said, open(folder / "access.log", "wb") as accesses:
        process = subprocess.Popen([program, "serve", str(config)], stdout=accesses, stderr=said)
    try:
        _wait(address, process, log)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def seen(folder: Path) -> list[Seen]:
    """The requests that the registry of a folder has answered, in that order."""
    path, text, last = folder / "access.log", "", None
    while text != last:  # a line is written when its answer is on its way
        time.sleep(0.02)
        last, text = text, path.read_text()
    found = map(_LINE.search, text.splitlines())
    return [Seen(line["method"], line["path"], line["query"], int(line["status"])) for line in found if line]


def _config(
    folder: Path,
    address: str,
    htpasswd: bool,
    token: TokenService | None,
    tls: Certificates | None,
    *,
    is_mutual: bool,
) -> dict[str, Any]:
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": f"{folder}/registry"}, "delete": {"enabled": True}},
        "http": {"addr": address},
    }
    if htpasswd:
        (folder / "htpasswd").write_text(_HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "registry of a test", "path": f"{folder}/htpasswd"}}
    if token is not None:
        names = {"realm": token.realm, "service": token.service, "issuer": token.issuer}
        config["auth"] = {"token": {**names, "rootcertbundle": str(token.bundle)}}
    if tls is not None:
        config["http"]["tls"] = {"certificate": str(tls.server), "key": str(tls.server_key)}
        if is_mutual:
            config["http"]["tls"]["clientcas"] = [str(tls.authority)]
    return config


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once it answers, be it to say that it speaks https. The path is none that `seen` tells of."""
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None:
        connection = http.client.HTTPConnection(address, timeout=1)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
        else:
            return
        finally:
            connection.close()
    raise AssertionError(f"the registry did not start:\n{log.read_text()}")
