"""System libraries: what an extension needs and the server's image does not have, copied into `system/` under its soname."""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from ocibuild.errors import SourceError
from ocibuild.layer.entry import Entry, File, Symlink
from ocibuild.layer.plan import resolve

from .mount import SYSTEM
from .policies import load_policy
from .root import ImageRoot
from .sources.archive import open_file
from .sources.base import Source, make_source
from .sources.deb import MAGIC, read_deb
from .sources.library import Library
from .sources.scratch import Scratch

__all__ = ["SystemLibraries", "open_system", "system_sources"]

_LIBRARY_FOLDERS = ("usr/lib", "lib", "usr/lib64", "lib64", "usr/local/lib")
_TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_LINK_LIMIT = 40
_LIST_LIMIT = 16 * 1024 * 1024


class SystemLibraries(msgspec.Struct, frozen=True, kw_only=True):
    """Where system libraries can be taken from: a Debian package, or the root folder of an installed system.

    Attributes:
        where: The file or folder.
        architecture: What it is for, such as `amd64`; None for a folder, which may be for any.
        find: The file of a library's name, and the package it belongs to.
        licence: The licence of a package.
        scratch: What keeps the files of a package.
    """

    where: Path
    architecture: str | None
    find: Callable[[str], tuple[File, str] | None]
    licence: Callable[[str], File | None]
    scratch: Scratch | None = None


def open_system(path: Path | str) -> list[SystemLibraries]:
    """The system libraries of a `.deb` file, of all those in a folder, or of a root folder.

    Raises:
        SourceError: It is none of them, or damaged.
    """
    where = Path(path)
    if where.is_dir():
        packages = sorted(where.glob("*.deb"))
        return [found for package in packages for found in open_system(package)] if packages else [_folder(where)]
    with open_file(where) as stream:
        if not stream.read(len(MAGIC)).startswith(MAGIC):
            raise SourceError("a file that is no Debian package", wanted="a .deb file or a root folder", where=where)
    package = read_deb(where)
    tree = {entry.path: entry for entry in package.entries}
    by_name = {
        entry.path.rpartition("/")[2]: entry.path for entry in reversed(package.entries) if _is_named(entry.path)
    }

    def find(name: str) -> tuple[File, str] | None:
        found = _followed(by_name[name], tree) if name in by_name else None
        return (found, package.name) if found else None

    def licence(name: str) -> File | None:
        return _followed(f"usr/share/doc/{name}/copyright", tree)

    return [
        SystemLibraries(
            where=where, architecture=package.architecture, find=find, licence=licence, scratch=package.scratch
        )
    ]


def system_sources(root: ImageRoot, distro: str, systems: Sequence[SystemLibraries]) -> list[Source]:
    """The libraries that those of a root need and the server's image lacks, and what these need in turn.

    Args:
        root: The extension.
        distro: The Debian release of the server's image.
        systems: Where to take them from; the first that has one gives it.

    Returns:
        Sources to add to the root's, one a package or folder that gave something.

    Raises:
        SourceError: A library that cannot be read.
        UsageError: A distro that is not known.
    """
    provided = load_policy(distro, root.platform.architecture).libraries
    present = {path.rpartition("/")[2] for path in root.entries}
    able = [item for item in systems if item.architecture in (None, "all", root.platform.architecture)]
    taken: dict[int, dict[str, Entry]] = {}
    todo = [name for library in root.libraries for name in library.facts.needed]
    while todo:
        name = todo.pop()
        if name in provided or name in present:
            continue
        present.add(name)
        for number, system in enumerate(able):
            found = system.find(name)
            library = _read(system.where, name, found[0]) if found else None
            if found is None or library is None or not library.platform.matches(root.platform):
                continue
            file, package = found
            entries = taken.setdefault(number, {})
            entries[f"{SYSTEM}/{name}"] = File(path=f"{SYSTEM}/{name}", content=file.content, size=file.size)
            licences = (other.licence(package) for other in (system, *able))
            if (licence := next((item for item in licences if item), None)) is not None:
                path = f"licenses/{package}/copyright"
                entries[path] = File(path=path, content=licence.content, size=licence.size)
            todo.extend(library.facts.needed)
            break
    return [
        make_source(
            able[number].where,
            "system",
            list(entries.values()),
            platform=root.platform,
            # A licence may be a link into another package.
            keeps=tuple(item.scratch for item in able),
        )
        for number, entries in sorted(taken.items())
    ]


def _read(where: Path, name: str, file: File) -> Library | None:
    file = File(path=f"{SYSTEM}/{name}", content=file.content, size=file.size)
    return next(iter(make_source(where, "system", [file]).libraries), None)


def _folder(root: Path) -> SystemLibraries:
    owners = _Owners(root)

    def find(name: str) -> tuple[File, str] | None:
        # A root that was unpacked and not installed lacks the links to alternatives, such as blas/libblas.so.3.
        folders = list(_searched())
        for folder in (*folders, *_below(root, folders)):
            path = _real(root, f"{folder}/{name}")
            if path is not None:
                return File(path=path, content=root / path), owners.of(path) or posixpath.basename(path)
        return None

    def licence(package: str) -> File | None:
        path = _real(root, f"usr/share/doc/{package}/copyright")
        return File(path=path, content=root / path) if path else None

    return SystemLibraries(where=root, architecture=None, find=find, licence=licence)


def _below(root: Path, folders: Sequence[str]) -> list[str]:
    """The folders in the loader's default ones, without those for newer CPUs."""
    found = []
    for folder in folders:
        with contextlib.suppress(OSError):
            found += [f"{folder}/{item.name}" for item in sorted((root / folder).iterdir()) if item.is_dir()]
    return [folder for folder in found if not folder.endswith("/glibc-hwcaps")]


class _Owners:
    """Which package has a file, by dpkg's lists."""

    def __init__(self, root: Path) -> None:
        self._lists = root / "var/lib/dpkg/info"
        self._owners: dict[str, str] | None = None

    def of(self, path: str) -> str | None:
        if self._owners is None:
            self._owners = dict(self._read())
        # /lib may be a link to usr/lib, and the list may name either.
        return self._owners.get(path) or self._owners.get(path.removeprefix("usr/"))

    def _read(self) -> Iterator[tuple[str, str]]:
        for item in sorted(self._lists.glob("*.list")):
            if item.stat().st_size <= _LIST_LIMIT:
                package = item.stem.partition(":")[0]
                for line in item.read_text(errors="replace").splitlines():
                    if ".so" in line:
                        yield line.lstrip("/"), package


def _real(root: Path, path: str) -> str | None:
    """Where a path leads when links are followed inside a root folder; None when no regular file is there."""
    done: list[str] = []
    todo = path.split("/")[::-1]
    links = 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del done[-1:]
            continue
        place = root.joinpath(*done, part)
        if place.is_symlink():
            links += 1
            if links > _LINK_LIMIT:
                return None
            target = os.readlink(place)
            if target.startswith("/"):
                done.clear()
            todo.extend(target.split("/")[::-1])
        else:
            done.append(part)
    return "/".join(done) if root.joinpath(*done).is_file() else None


def _followed(path: str, tree: dict[str, Entry]) -> File | None:
    for _ in range(_LINK_LIMIT):
        found = resolve(path, tree)
        entry = tree.get(found) if found else tree.get(path)
        if isinstance(entry, File):
            return entry
        if not isinstance(entry, Symlink) or not entry.target.startswith("/"):
            return None
        path = entry.target.lstrip("/")
    return None


def _is_named(path: str) -> bool:
    """Whether a path is a library where the loader looks; not one of those for newer CPUs alone (`glibc-hwcaps`)."""
    folder, _, name = path.rpartition("/")
    return re.search(r"\.so(?:\.|$)", name) is not None and folder in {*_searched()}


def _searched() -> Iterator[str]:
    """The loader's default folders."""
    for folder in _LIBRARY_FOLDERS:
        for below in (*_TRIPLETS.values(), ""):
            yield posixpath.join(folder, below).rstrip("/")
