"""What every kind of source comes to."""

from __future__ import annotations

import hashlib
import io
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ocibuild.elf import SharedObject, read_shared_object
from ocibuild.errors import SourceError
from ocibuild.layer.entry import Entry, File
from ocibuild.oci import Platform
from ocibuild.postgres.control import SIZE_LIMIT, Control, parse_control
from ocibuild.postgres.magic import ENTRY_POINT, Magic, read_magic

__all__ = ["Library", "Source", "content_digest", "make_source", "read_content"]

_MACHINES = {
    ("X86_64", 64): "amd64", ("AARCH64", 64): "arm64", ("386", 32): "386", ("ARM", 32): "arm/v7",
    ("PPC64", 64): "ppc64le", ("S390", 64): "s390x", ("RISCV", 64): "riscv64", ("LOONGARCH", 64): "loong64",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A shared object of a source.

    Attributes:
        path: Where it is in the image.
        facts: What it says of itself.
        magic: The server it was compiled for; None for a library that is not a module.
    """

    path: str
    facts: SharedObject
    magic: Magic | None

    @property
    def platform(self) -> Platform:
        """The platform its machine belongs to."""
        architecture = _MACHINES.get((self.facts.machine, self.facts.bits), self.facts.machine.lower())
        if architecture == "ppc64le" and not self.facts.little_endian:
            architecture = "ppc64"
        return Platform.parse(f"linux/{architecture}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One platform's part of an extension, ready to be an image.

    Attributes:
        where: What was read.
        kind: How it was understood: `pgrx` or `plain`.
        platform: What it runs on.
        entries: The files at the paths they have in the image.
        controls: The control files, sorted by name.
        libraries: The shared objects, sorted by path.
        left_out: Files that are no part of the image.
    """

    where: Path
    kind: str
    platform: Platform
    entries: tuple[Entry, ...]
    controls: tuple[Control, ...] = ()
    libraries: tuple[Library, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def major(self) -> int | None:
        """The PostgreSQL major version its modules were compiled for."""
        return next((library.magic.major for library in self.libraries if library.magic), None)

    @property
    def main_control(self) -> Control | None:
        """The control file the image is named after: the one that requires no other of the source."""
        names = {control.name for control in self.controls}
        mains = [control for control in self.controls if not names & set(control.requires)]
        return mains[0] if len(mains) == 1 else None

    @property
    def name(self) -> str | None:
        """The extension's name, from its control file, else from its only module."""
        if self.main_control is not None:
            return self.main_control.name
        modules = [library.path for library in self.libraries if library.magic]
        return Path(modules[0]).stem if len(modules) == 1 and not self.controls else None

    @property
    def version(self) -> str | None:
        """The control file's `default_version`."""
        return self.main_control.default_version if self.main_control else None

    @property
    def scripts(self) -> dict[str, File]:
        """The SQL scripts and control files by path: the part that no platform may have otherwise."""
        files = (entry for entry in self.entries if isinstance(entry, File))
        return {entry.path: entry for entry in files if entry.path.endswith((".sql", ".control"))}


def make_source(
    where: Path,
    kind: str,
    entries: list[Entry],
    *,
    platform: Platform | None = None,
    left_out: tuple[str, ...] = (),
) -> Source:
    """A source from its entries: its libraries and control files are read, and its platform found.

    Raises:
        SourceError: Libraries for several platforms or several servers, or none and no platform given.
        ElfError, ControlError: A library or control file that cannot be read.
    """
    files = [entry for entry in entries if isinstance(entry, File)]
    libraries = tuple(_library(file) for file in files if _is_library(file.path))
    controls = [
        parse_control(read_content(file, SIZE_LIMIT + 1), name=_stem(file.path), where=origin(file))
        for file in files
        if file.path.endswith(".control") and "--" not in _stem(file.path)
    ]
    return Source(
        where=where,
        kind=kind,
        platform=_platform(where, libraries, platform),
        entries=tuple(entries),
        controls=tuple(sorted(controls, key=lambda control: control.name)),
        libraries=libraries,
        left_out=left_out,
    )


def _platform(where: Path, libraries: tuple[Library, ...], given: Platform | None) -> Platform:
    majors = {library.magic.major: library for library in libraries if library.magic}
    if len(majors) > 1:
        listed = ", ".join(f"{majors[major].path} for {major}" for major in sorted(majors))
        raise SourceError(
            f"modules for several PostgreSQL majors: {listed}",
            wanted="one",
            where=where,
            hint="Package each by itself.",
        )
    platforms = {library.platform: library for library in libraries}
    if len(platforms) > 1:
        listed = ", ".join(f"{platforms[item].path} for {item}" for item in sorted(platforms, key=str))
        raise SourceError(
            f"libraries for several platforms: {listed}", wanted="one", where=where, hint="Give one source a platform."
        )
    found = next(iter(platforms), None)
    if found is None and given is None:
        raise SourceError(
            "no library that tells the platform",
            wanted="a .so file",
            where=where,
            hint=f"If there is none, say which platform it is: linux/amd64={where}",
        )
    if found is not None and given is not None and not found.matches(given):
        raise SourceError(f"a library for {found}: {platforms[found].path}", wanted=f"{given}, as given", where=where)
    platform = given if given is not None else found
    assert platform is not None
    return platform.normalized()


def _library(file: File) -> Library:
    where = origin(file)
    if isinstance(file.content, bytes):
        return _read_library(file, io.BytesIO(file.content), file.content, where)
    try:
        with open(file.content, "rb") as stream:
            if not file.size:
                return _read_library(file, stream, b"", where)
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _read_library(file, stream, data, where)
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=where) from error


def _read_library(file: File, stream: BinaryIO, data: bytes | mmap.mmap, where: object) -> Library:
    facts = read_shared_object(stream, where=where)
    magic = None
    if ENTRY_POINT in facts.exports:
        magic = read_magic(data, little_endian=facts.little_endian, where=where)
    return Library(path=file.path, facts=facts, magic=magic)


def _is_library(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.endswith((".so", ".dylib", ".dll")) or ".so." in name


def _stem(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".control")


def origin(file: File) -> object:
    """Where a file's content comes from, for an error."""
    return file.path if isinstance(file.content, bytes) else file.content


def read_content(file: File, limit: int = -1) -> bytes:
    """A file's bytes, at most `limit` of them.

    Raises:
        SourceError: It cannot be read.
    """
    if isinstance(file.content, bytes):
        return file.content if limit < 0 else file.content[:limit]
    try:
        with open(file.content, "rb") as stream:
            return stream.read(limit)
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=file.content) from error


def content_digest(file: File) -> str:
    """The SHA-256 of a file's content."""
    if isinstance(file.content, bytes):
        return hashlib.sha256(file.content).hexdigest()
    try:
        with open(file.content, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=file.content) from error
