"""What rows are made of, kept in a cache folder: Debian roots, wheels of other platforms, a CPython linked with musl.

Nothing here needs root or changes the machine: apt and pip only fetch, into folders of their own.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MARK = ".made"
MINUTES = 60


class UnavailableError(Exception):
    """A row cannot be had here; the text is the reason."""


def call(
    command: Sequence[str | Path], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run a command; its standard output.

    Raises:
        UnavailableError: It is not there, or failed: the last line it said.
    """
    words = [str(item) for item in command]
    try:
        result = subprocess.run(
            words, cwd=cwd, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False,
            timeout=30 * MINUTES,
        )  # fmt: skip
    except FileNotFoundError:
        raise UnavailableError(f"needs {Path(words[0]).name}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(str(error)) from None
    if result.returncode:
        said = (result.stderr.strip() or result.stdout.strip()).splitlines() or [f"exit {result.returncode}"]
        raise UnavailableError(f"{Path(words[0]).name}: {said[-1]}")
    return result.stdout


def needs(*tools: str) -> None:
    """Raise when a tool is not on PATH."""
    if lacking := [name for name in tools if not shutil.which(name)]:
        raise UnavailableError(f"needs {', '.join(lacking)}")


def default_cache() -> Path:
    """The matrix's folder in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ocibuild-matrix"


@dataclass(frozen=True)
class Cache:
    """The folder where roots are kept, and what this run installs of the project.

    Attributes:
        folder: Its absolute path.
        kit: A folder of this run: `site` is ocibuild as pip installs it, `checkout` what `verify.py` reads.
    """

    folder: Path
    kit: Path

    def made(self, name: str, make: Callable[[Path], None]) -> Path:
        """The folder of that name, made once; one that was left half-made is made anew. One process at a time makes it."""
        import fcntl

        folder = self.folder / name
        with (self.folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / MARK).exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                (folder / MARK).touch()
        return folder

    @cached_property
    def site(self) -> Path:
        """This checkout's ocibuild, as pip installs it, without what it depends on."""
        source, site = self.kit / "source", self.kit / "site"
        if not site.exists():
            copy_project(source)
            pip("install", "--no-deps", "--target", site, source)
        return site

    @cached_property
    def program(self) -> Path:
        """`verify.py` in a copy of what it reads, with no ocibuild beside it."""
        checkout = self.kit / "checkout"
        for name in ("tests/matrix", "tests/golden", "fixtures/packages"):
            shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("tests/__init__.py", "tests/support/__init__.py", "tests/support/golden.py"):
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, checkout / name)
        return checkout / "tests" / "matrix" / "verify.py"

    def wheels(self, version: str, *platforms: str) -> Path:
        """What ocibuild depends on, for another Python or platform."""
        needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
        key = hashlib.sha256("\n".join(needed).encode()).hexdigest()[:8]
        only = ["--only-binary=:all:", "--implementation", "cp", "--python-version", version]
        named = [part for platform in platforms for part in ("--platform", platform)]
        return self.made(
            f"wheels-{version}-{platforms[0]}-{key}",
            lambda folder: pip("install", *only, *named, "--upgrade", "--target", folder, *needed),
        )

    def debian(self, suite: str, architecture: str, *packages: str) -> Path:
        """A root with packages of Debian and all they depend on, unpacked; none of their scripts has run."""
        key = "-".join(packages)

        def make(root: Path) -> None:
            apt = Apt(self, suite, architecture)
            apt("install", "--download-only", "-y", "--no-install-recommends", *packages)
            unpack(sorted((apt.folder / "cache" / "archives").glob("*.deb")), root)

        return self.made(f"root-{suite}-{architecture}-{key}", make)


@contextmanager
def opened(folder: Path) -> Iterator[Cache]:
    """The cache in a folder, for one run."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kit-", dir=folder) as kit:
        yield Cache(folder, Path(kit))


def copy_project(target: Path) -> None:
    """What pip needs of this checkout, so that nothing is built inside it."""
    target.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target / name)
    shutil.copytree(ROOT / "ocibuild", target / "ocibuild", ignore=shutil.ignore_patterns("__pycache__"))


def pip(*arguments: str | Path) -> None:
    """Run this Python's pip."""
    call([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *arguments])


class Apt:
    """apt with lists of its own, from the mirror that this machine uses."""

    def __init__(self, cache: Cache, suite: str, architecture: str) -> None:
        needs("apt-get", "dpkg-deb", "tar")
        self.folder = cache.kit / f"apt-{suite}-{architecture}"
        self.architecture = architecture
        if not self.folder.exists():
            for name in ("lists/partial", "cache/archives/partial", "here"):
                (self.folder / name).mkdir(parents=True)
            kinds = ("deb", "deb-src")
            (self.folder / "sources.list").write_text("".join(f"{kind} {_mirror()} {suite} main\n" for kind in kinds))
            self("update")
        shutil.rmtree(self.folder / "cache" / "archives")
        (self.folder / "cache" / "archives" / "partial").mkdir(parents=True)

    def __call__(self, *arguments: str) -> None:
        settings = {
            "Dir::State::Lists": self.folder / "lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": self.folder / "cache",
            "Dir::Etc::SourceList": self.folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "",
            "Debug::NoLocking": "1",
            "Acquire::Languages": "none",
            # A mirror may be behind.
            "Acquire::Check-Valid-Until": "false",
        }
        options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        said = call(["apt-get", "-q", *options, *arguments], cwd=self.folder / "here")
        if failed := re.search(r"^Err:.*", said, re.MULTILINE):
            raise UnavailableError(f"apt-get: {failed[0]}")

    def source(self, package: str) -> Path:
        """The upstream archive of a source package."""
        self("source", "--download-only", package)
        found = sorted((self.folder / "here").glob(f"{package}_*.orig.tar.*[!c]"))
        if not found:
            raise UnavailableError(f"apt-get: no source of {package}")
        return found[0]


def unpack(archives: Sequence[Path], root: Path) -> None:
    """Unpack packages into a root whose /bin and /lib are links, as Debian's are."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("proc", "dev", "tmp"):
        (root / name).mkdir()
    for archive in archives:
        packed = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE)
        with packed:
            command: list[str | Path] = ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", root]
            result = subprocess.run(command, stdin=packed.stdout, capture_output=True, text=True, check=False)
        if packed.returncode or result.returncode:
            raise UnavailableError(f"{archive.name} cannot be unpacked: {result.stderr.strip()}")


def _mirror() -> str:
    """The mirror of Debian that this machine's apt uses."""
    lines = call(["apt-get", "indextargets", "--format", "$(SITE) $(ORIGIN)"]).splitlines()
    sites = [line.split()[0] for line in lines if line.endswith(" Debian") and "security" not in line]
    if not sites:
        raise UnavailableError("apt knows no mirror of Debian")
    return sites[0]
