"""What every kind of source comes to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from ocibuild.errors import ControlError, SourceError
from ocibuild.layer.entry import Directory, Entry, File, Symlink
from ocibuild.layer.plan import resolve
from ocibuild.oci import Platform
from ocibuild.postgres.control import SIZE_LIMIT, Control, parse_control

from .content import read_content
from .library import Library, common_major, is_library, read_library

__all__ = ["Package", "Source", "main_control", "make_source"]

_COUNT_LIMIT = 500
_SYMBOLS_LIMIT = 1_000_000


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """What a source's own packaging says: a Debian package's fields, an archive's or a folder's name.

    Attributes:
        name: The software's name, such as `pgvector`.
        version: Its version, such as `0.8.7`.
        major: The PostgreSQL major version it was made for.
        labels: Labels, by full key.
        origin: Where this was read, for a person.
        is_given: The major was said, not read.
    """

    name: str | None = None
    version: str | None = None
    major: int | None = None
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    origin: str = ""
    is_given: bool = False


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One platform's part of an extension, or a part for every platform, ready to be an image.

    Attributes:
        where: What was read.
        kind: How it was understood: `pgrx`, `install`, `archive`, `deb`, `image` or `plain`.
        platform: What it runs on; None for scripts alone, which go with every platform.
        entries: The files at the paths they have in the image.
        controls: The control files, sorted by path.
        libraries: The shared objects and programs, sorted by path.
        left_out: Files of the source that are no part of the image.
        package: What its packaging says.
        unreadable: Libraries and control files that cannot be read, by path, and why.
        keeps: What keeps the content of files that came out of an archive.
    """

    where: Path
    kind: str
    platform: Platform | None
    entries: tuple[Entry, ...]
    controls: tuple[Control, ...] = ()
    libraries: tuple[Library, ...] = ()
    left_out: tuple[str, ...] = ()
    package: Package = Package()
    unreadable: Mapping[str, SourceError] = msgspec.field(default_factory=dict)
    keeps: tuple[object, ...] = ()

    @property
    def major(self) -> int | None:
        """The PostgreSQL major version its modules were compiled for, else the one its packaging names."""
        return common_major(self.libraries) or self.package.major

    @property
    def main_control(self) -> Control | None:
        """The control file the image is named after: the one that requires no other of the source."""
        return main_control(self.controls, [self.package.name] if self.package.name else [])

    @property
    def name(self) -> str | None:
        """The software's name: its package's, else its control file's, else its only module's."""
        if self.package.name is not None:
            return self.package.name
        if self.main_control is not None:
            return self.main_control.name
        modules = [library.path for library in self.libraries if library.magic]
        return Path(modules[0]).stem if len(modules) == 1 and not self.controls else None

    @property
    def version(self) -> str | None:
        """The software's version: its package's, else the control file's `default_version`."""
        return self.package.version or (self.main_control.default_version if self.main_control else None)


def main_control(controls: Sequence[Control], packages: Iterable[str] = ()) -> Control | None:
    """The control file that requires none of its neighbours: the only one, or the one that a package is named after."""
    names = {control.name for control in controls}
    mains = [control for control in controls if not names & set(control.requires)]
    if len(mains) > 1:
        called = {name.replace("-", "_") for name in packages}
        mains = [control for control in mains if control.name.replace("-", "_") in called]
    return mains[0] if len(mains) == 1 else None


def make_source(
    where: Path,
    kind: str,
    entries: Sequence[Entry],
    *,
    platform: Platform | None = None,
    left_out: tuple[str, ...] = (),
    package: Package | None = None,
    keeps: tuple[object, ...] = (),
) -> Source:
    """A source from its entries: its libraries and control files are read, and its platform found.

    Args:
        where: What was read.
        kind: How it was understood.
        entries: At the paths they have in the image.
        platform: Given, or else that of the libraries.
        left_out: What is no part of the image.
        package: What its packaging says.
        keeps: What keeps the entries' content.

    Raises:
        SourceError: Libraries for several platforms, and none given. What cannot be read is kept in `unreadable`.
    """
    files = {entry.path: entry for entry in entries if isinstance(entry, File)}
    compiled = [file for file in files.values() if is_library(file)]
    if len(compiled) > _COUNT_LIMIT or sum(entry.path.endswith(".control") for entry in entries) > _COUNT_LIMIT:
        raise SourceError(f"more than {_COUNT_LIMIT} libraries or control files", wanted="an extension", where=where)
    libraries: list[Library] = []
    controls: list[Control] = []
    unreadable: dict[str, SourceError] = {}
    symbols = 0
    for file in compiled:
        if symbols > _SYMBOLS_LIMIT:
            raise SourceError(f"more than {_SYMBOLS_LIMIT} symbols", wanted="an extension", where=where)
        try:
            libraries.append(read_library(file, _origin(where, file)))
            symbols += len(libraries[-1].facts.imports) + len(libraries[-1].facts.exports)
        except SourceError as error:
            unreadable[file.path] = error
    if unreadable and not libraries and platform is None:
        raise next(iter(unreadable.values()))  # nothing tells the platform
    for path, file in _control_files(entries).items():
        raw = read_content(file, SIZE_LIMIT + 1)
        try:
            controls.append(parse_control(raw, name=_stem(path), path=path, where=_origin(where, file)))
        except ControlError as error:
            if _in_extension(path):
                unreadable[path] = error
    return Source(
        where=where,
        kind=kind,
        platform=_platform(where, libraries, platform),
        entries=tuple(entries),
        controls=tuple(sorted(controls, key=lambda control: control.path)),
        libraries=tuple(sorted(libraries, key=lambda library: library.path)),
        left_out=left_out,
        package=package or Package(),
        unreadable=unreadable,
        keeps=keeps,
    )


def _in_extension(path: str) -> bool:
    return path.rpartition("/")[0].rpartition("/")[2] == "extension"


def _control_files(entries: Sequence[Entry]) -> dict[str, File]:
    """The control files by path. One that only lends its content to a link (Debian's alternatives) is not one itself."""
    tree = {entry.path: entry for entry in entries}
    found: dict[str, File] = {}
    lent = set()
    for entry in entries:
        if not entry.path.endswith(".control") or "--" in _stem(entry.path) or isinstance(entry, Directory):
            continue
        target = tree.get(resolve(entry.path, tree) or "")
        if isinstance(target, File):
            found[entry.path] = target
            if isinstance(entry, Symlink):
                lent.add(target.path)
    return {path: file for path, file in found.items() if path not in lent}


def _platform(where: Path, libraries: Sequence[Library], given: Platform | None) -> Platform | None:
    if given is not None:
        return given.normalized()
    platforms = {library.platform: library for library in libraries}
    if len(platforms) > 1:
        listed = ", ".join(f"{platforms[item].path} for {item}" for item in sorted(platforms, key=str))
        raise SourceError(
            f"libraries for several platforms: {listed}",
            wanted="one",
            where=where,
            hint=f"Say which is meant, to see all that is wrong: linux/amd64={where}",
        )
    return next(iter(platforms)).normalized() if platforms else None


def _stem(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".control")


def _origin(where: Path, file: File) -> object:
    """Where a file's content comes from, for an error: not the temporary file that an archive's member is in."""
    if not isinstance(file.content, bytes) and Path(file.content).is_relative_to(where):
        return Path(file.content)
    return f"{where}: {file.path}"
