"""Packages of Debian's sid, fetched with apt and pinned by digest.

python -m tests.support.debian          # pin what sid has today in tests/real/packages.toml
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.support.tools import ROOT

PINS = ROOT / "tests" / "real" / "packages.toml"
EXTENSIONS = {
    "pgvector": ("pgvector",), "pgaudit": ("pgaudit",), "pg-cron": ("cron",), "pg-ivm": ("pg-ivm",), "rum": ("rum",),
    "plr": ("plr",), "timescaledb": ("timescaledb",), "pgrouting": ("pgrouting", "pgrouting-scripts"),
    "postgis": ("postgis-3", "postgis-3-scripts"), "wal2json": ("wal2json",), "pgtap": ("pgtap",), "unit": ("unit",),
}  # fmt: skip
"""The packages of each extension, without `postgresql-18-`."""

ARCHITECTURES = ("amd64", "arm64")
_FOR_ALL = {"pgrouting-scripts", "postgis-3-scripts", "pgtap"}


class Sid:
    """apt with lists of its own, so that the machine's are left alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        (folder / "lists" / "partial").mkdir(parents=True)
        (folder / "cache" / "archives" / "partial").mkdir(parents=True)
        (folder / "debs").mkdir()
        (folder / "sources.list").write_text(f"deb {_site()} sid main\n")
        self.apt("update")

    def apt(self, *arguments: str) -> str:
        """Run apt-get; what it says on standard output."""
        settings = {
            "Dir::State::Lists": self.folder / "lists",
            "Dir::Cache": self.folder / "cache",
            "Dir::Etc::SourceList": self.folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::status": "/dev/null",
            "APT::Architecture": ARCHITECTURES[0],
            "APT::Architectures": ",".join(ARCHITECTURES),
            "APT::Sandbox::User": "",
            "Debug::NoLocking": "1",
            "Acquire::Languages": "none",
            # A mirror may be behind; what is fetched is pinned.
            "Acquire::Check-Valid-Until": "false",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled": "false",
            "Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled": "false",
        }
        options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        command = ["apt-get", "-q", *options, *arguments]
        result = subprocess.run(
            command, cwd=self.folder / "debs", capture_output=True, text=True, check=False, timeout=300
        )
        if result.returncode != 0 or "Err:" in result.stdout:
            said = (result.stderr.strip() or result.stdout.strip()).splitlines() or ["apt failed"]
            raise OSError(said[-1])
        return result.stdout

    def fetch(self, *packages: str) -> list[Path]:
        """Download packages, written as apt takes them: `name:architecture` or `name:architecture=version`."""
        before = set((self.folder / "debs").iterdir())
        self.apt("download", *packages)
        return sorted(set((self.folder / "debs").iterdir()) - before)


def _site() -> str:
    """The machine's own mirror of Debian."""
    if shutil.which("apt-get") is None:
        raise OSError("no apt-get here")
    command = ["apt-get", "indextargets", "--format", "$(SITE) $(ORIGIN)"]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    sites = [line.split()[0] for line in lines if line.endswith(" Debian") and "security" not in line]
    if not sites:
        raise OSError("apt knows no mirror of Debian: apt-get update?")
    return sites[0]


def pins() -> dict[str, dict[str, str]]:
    """Version and digest by `package_architecture`."""
    return dict(tomllib.loads(PINS.read_text())["packages"]) if PINS.exists() else {}


def packages() -> dict[str, list[Path]]:
    """The pinned packages of each extension. Skips, with the reason, where they cannot be had."""
    known = pins()
    files = _fetched()
    if isinstance(files, str):
        pytest.skip(f"the pinned packages of sid cannot be fetched ({files}); python -m tests.support.debian pins anew")
    for file in files:
        assert hashlib.sha256(file.read_bytes()).hexdigest() == known[_key(file)]["sha256"], file.name
    return {
        name: [file for file in files if _key(file).partition("_")[0] in {f"postgresql-18-{item}" for item in parts}]
        for name, parts in EXTENSIONS.items()
    }


@functools.cache
def _fetched() -> list[Path] | str:
    """The pinned files, or why there are none; asked once."""
    wanted = [f"{key.partition('_')[0]}:{_asked(key)}={pin['version']}" for key, pin in pins().items()]
    try:
        return Sid(Path(tempfile.mkdtemp(prefix="ocibuild-sid-"))).fetch(*wanted)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)


SYSTEM = ("libgdal39", "libgeos-c1t64", "libsfcgal2", "libproj25", "libjson-c5", "libprotobuf-c1")
"""The packages whose libraries PostGIS needs."""


@functools.cache
def system_packages() -> list[Path]:
    """Those packages and all they depend on, for amd64, as sid has them today."""
    try:
        sid = Sid(Path(tempfile.mkdtemp(prefix="ocibuild-sid-")))
        sid.apt("install", "-y", "--no-install-recommends", "--download-only", *SYSTEM)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"sid's libraries cannot be fetched ({error})")
    return sorted((sid.folder / "cache" / "archives").glob("*.deb"))


def _asked(key: str) -> str:
    architecture = key.rpartition("_")[2]
    return ARCHITECTURES[0] if architecture == "all" else architecture


def _key(file: Path) -> str:
    name, _, architecture = unquote(file.stem).split("_")
    return f"{name}_{architecture}"


def pin() -> None:
    """Write down what sid has today."""
    with tempfile.TemporaryDirectory() as folder:
        sid = Sid(Path(folder) / "apt")
        asked = [
            f"postgresql-18-{item}:{architecture}"
            for parts in EXTENSIONS.values()
            for item in parts
            for architecture in ARCHITECTURES[: 1 if item in _FOR_ALL else None]
        ]
        lines = ["# Made by python -m tests.support.debian from Debian's sid.", ""]
        for file in sid.fetch(*asked):
            version = re.sub(r"^[^_]*_(.*)_[^_]*$", r"\1", unquote(file.stem))
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            lines += [f'[packages."{_key(file)}"]', f'version = "{version}"', f'sha256 = "{digest}"', ""]
        PINS.write_text("\n".join(lines))


if __name__ == "__main__":
    pin()
