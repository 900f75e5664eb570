"""Real components: where they are, and what to do when they are not."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

DEBIAN = {"skopeo": "skopeo", "umoci": "umoci", "docker-registry": "docker-registry"}
"""The real components of `tests/real`, and the Debian package that has each."""

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ROOT / "fixtures" / "packages"
TREES = (PACKAGES / "amd64" / "pgrx_hello-pg18", PACKAGES / "arm64" / "pgrx_hello-pg18")


def missing(reason: str) -> NoReturn:
    """Skip, or fail where everything must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI: {reason}")
    pytest.skip(reason)


def require(name: str) -> str:
    """The path of a tool of `DEBIAN`."""
    path = shutil.which(name)
    if path is None:
        missing(f"needs {name}: apt-get install {DEBIAN[name]}")
    return path


def peer(name: str) -> list[str]:
    """The command of a peer tool: from OCIBUILD_PEERS, else from PATH. Peers are never required."""
    peers = os.environ.get("OCIBUILD_PEERS")
    if peers:
        return [str(Path(peers) / "run"), name]
    if path := shutil.which(name):
        return [path]
    pytest.skip(f"needs {name}: on PATH, or in the folder that OCIBUILD_PEERS names")


def peers_folder() -> Path:
    """The folder of the peers' scripts."""
    folder = os.environ.get("OCIBUILD_PEERS")
    if not folder:
        pytest.skip("needs the peers: the folder that OCIBUILD_PEERS names")
    return Path(folder)


def run(command: Sequence[str | Path], *, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command; what it said is in the failure."""
    result = subprocess.run([str(item) for item in command], capture_output=True, text=True, cwd=cwd, check=False)
    assert result.returncode == 0, f"{command} exited {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result
