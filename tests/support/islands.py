"""Machines that cannot see each other: registries in network namespaces of their own, and commands run beside them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.tools import ROOT, require

__all__ = ["ADDRESS", "Island", "island"]

ADDRESS = "127.0.0.1:5000"
"""The registry's on every island: they could not both have it if they were one."""

_BEGIN = """
import fcntl, os, socket, struct, sys
with socket.socket() as up:
    fcntl.ioctl(up, 0x8914, struct.pack("16sh22x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
os.execv(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True, slots=True)
class Island:
    """A network namespace with nothing but loopback, and a registry on it."""

    process: int
    folder: Path

    def run(self, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command there."""
        inside = ["nsenter", f"--net=/proc/{self.process}/ns/net", *map(str, command)]
        return subprocess.run(
            inside, capture_output=True, text=True, cwd=self.folder, env={**os.environ, **variables}, check=False
        )

    def ocibuild(self, *arguments: str | Path, **variables: str) -> str:
        """Run our command line there; what it prints."""
        path = {"PYTHONPATH": str(ROOT), "DOCKER_CONFIG": str(self.folder / "none")}
        result = self.run(sys.executable, "-m", "ocibuild", *arguments, **path, **variables)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def ask(self, path: str) -> Any:
        """What the registry there answers, as JSON."""
        code = f"import urllib.request as u; print(u.urlopen('http://{ADDRESS}{path}', timeout=5).read().decode())"
        result = self.run(sys.executable, "-c", code)
        return json.loads(result.stdout) if result.returncode == 0 else None


@contextmanager
def island(folder: Path) -> Iterator[Island]:
    """A registry at `ADDRESS` that nobody outside reaches; it ends with the context.

    Args:
        folder: For its configuration, logs and content.
    """
    program = require("docker-registry")
    if not _can_part():
        # What a container or an ordinary user may not do is no fault of the machine.
        pytest.skip("needs root, unshare and nsenter: two registries that cannot see each other")
    folder.mkdir()
    config = folder / "registry.yml"
    storage = {"filesystem": {"rootdirectory": f"{folder}/registry"}}
    # JSON is YAML.
    config.write_text(
        json.dumps({"version": "0.1", "log": {"level": "error"}, "storage": storage, "http": {"addr": ADDRESS}})
    )
    command = ["unshare", "--net", sys.executable, "-c", _BEGIN, program, "serve", str(config)]
    with open(folder / "registry.log", "wb") as said, open(folder / "access.log", "wb") as accesses:
        process = subprocess.Popen(command, stdout=accesses, stderr=said)
    try:
        found = Island(process.pid, folder)
        _wait(found, process)
        yield found
    finally:
        process.terminate()
        process.wait(10)


def _can_part() -> bool:
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter"))):
        return False
    return subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0


def _wait(found: Island, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None:
        # Before it has left our network it is ours that would answer.
        is_away = os.readlink(f"/proc/{process.pid}/ns/net") != os.readlink("/proc/self/ns/net")
        if is_away and found.ask("/v2/") is not None:
            return
        time.sleep(0.05)
    raise AssertionError(f"the registry did not start:\n{(found.folder / 'registry.log').read_text()}")
