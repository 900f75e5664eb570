"""Policies as values, and where they are read from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import msgspec

from ocibuild.errors import UsageError
from ocibuild.postgres.distros import DISTROS

__all__ = ["Policy", "Provided", "Server", "load_policy", "load_server"]

_ARCHITECTURES = ("amd64", "arm64")
_MAJORS = (18,)


class Provided(msgspec.Struct, frozen=True, kw_only=True):
    """A shared library of an image.

    Attributes:
        package: The Debian package it is in.
        versions: The symbol versions it defines.
        exports: The names it defines without a version.
        patterns: As `exports`, for names that follow a rule: `fnmatch.fnmatchcase` tells whether one does.
    """

    package: str
    versions: frozenset[str]
    exports: frozenset[str]
    patterns: tuple[str, ...]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What CloudNativePG's minimal operand image of a distribution provides.

    Attributes:
        distro: The code name.
        release: The number, such as `12`; `unstable` for one that has none.
        architecture: The architecture, as in an OCI platform.
        operand: CloudNativePG makes operand images of it.
        libraries: The libraries that the loader finds by name, by that name.
        extensions: The extensions that come with PostgreSQL.
        modules: The modules that come with PostgreSQL, without `.so`.
        glibc: The highest symbol version of glibc, such as `2.36`.
    """

    distro: str
    release: str
    architecture: str
    operand: bool
    libraries: Mapping[str, Provided]
    extensions: frozenset[str]
    modules: frozenset[str]
    glibc: str


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What the PostgreSQL server gives to a module that it loads.

    Attributes:
        major: The major version.
        exports: The names that the server defines.
        needed: The libraries it needs. Some go by another name in another distribution.
        base: The names that its libraries and those of C and C++ define, in all distributions together. A module gets
            them without needing the library.
        patterns: As `base`, for names that follow a rule: `fnmatch.fnmatchcase` tells whether one does.
    """

    major: int
    exports: frozenset[str]
    needed: tuple[str, ...]
    base: frozenset[str]
    patterns: tuple[str, ...]


@cache
def load_policy(distro: str, architecture: str) -> Policy:
    """The policy of a distribution and architecture.

    Args:
        distro: One of `DISTROS`.
        architecture: As in an OCI platform: `amd64` or `arm64`.

    Raises:
        UsageError: There is none.

    Example:
        >>> policy = load_policy("bookworm", "amd64")
        >>> policy.release, policy.glibc, "plpgsql" in policy.extensions
        ('12', '2.36', True)
        >>> policy.libraries["libssl.so.3"].package
        'libssl3'
        >>> load_policy("bokworm", "amd64")
        Traceback (most recent call last):
        ocibuild.errors.UsageError: distro bokworm, wanted bullseye, bookworm, trixie or sid. Did you mean bookworm?
    """
    if distro not in DISTROS:
        import difflib

        near = difflib.get_close_matches(distro, DISTROS, n=1)
        hint = f"Did you mean {near[0]}?" if near else ""
        raise UsageError(f"distro {distro}", wanted=_choice(DISTROS), hint=hint)
    _check_architecture(architecture, distro)
    document = _document(distro)
    libraries = _Libraries(document["libraries"], architecture)
    return Policy(
        distro=distro,
        release=document["release"],
        architecture=architecture,
        operand=document["operand"],
        libraries=libraries,
        extensions=_names(document, "extensions", architecture),
        modules=_names(document, "modules", architecture),
        glibc=_glibc(libraries),
    )


@cache
def load_server(major: int, architecture: str) -> Server | None:
    """What the server of a major version exports; None for a major that there is no data for.

    Args:
        major: The major version.
        architecture: As in an OCI platform: `amd64` or `arm64`.

    Raises:
        UsageError: There is no data for the architecture.

    Example:
        >>> server = load_server(18, "arm64")
        >>> "SPI_connect" in server.exports, "cos" in server.base
        (True, True)
        >>> load_server(9, "arm64") is None
        True
    """
    if major not in _MAJORS:
        return None
    _check_architecture(architecture, f"PostgreSQL {major}")
    document = _document(f"server-{major}")
    return Server(
        major=major,
        exports=_names(document["server"], "exports", architecture),
        needed=tuple(document["server"]["needed"]),
        base=_names(document["base"], "names", architecture),
        patterns=tuple(" ".join(document["base"]["patterns"]).split()),
    )


def _check_architecture(architecture: str, where: str) -> None:
    if architecture not in _ARCHITECTURES:
        raise UsageError(f"no data for the architecture {architecture}", wanted=_choice(_ARCHITECTURES), where=where)


def _choice(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


class _Libraries(Mapping[str, Provided]):
    """The libraries of one architecture, each read when it is first asked for: most modules ask for few."""

    def __init__(self, tables: Mapping[str, dict[str, Any]], architecture: str) -> None:
        self._tables = {
            soname: table for soname, table in tables.items() if table.get("architecture", architecture) == architecture
        }
        self._architecture = architecture
        self._read: dict[str, Provided] = {}

    def __getitem__(self, soname: str) -> Provided:
        if soname not in self._read:
            table = self._tables[soname]
            self._read[soname] = Provided(
                package=table["package"],
                versions=_names(table, "versions", self._architecture),
                exports=_names(table, "exports", self._architecture),
                patterns=tuple(" ".join(table.get("patterns", ())).split()),
            )
        return self._read[soname]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def __contains__(self, soname: object) -> bool:
        return soname in self._tables

    def packaged(self, package: str) -> Iterator[Provided]:
        """The libraries of a package."""
        return (self[soname] for soname, table in self._tables.items() if table["package"] == package)


@cache
def _document(name: str) -> dict[str, Any]:
    path = os.path.join(os.path.dirname(__file__), f"{name}.json")
    with open(path, "rb") as stream:
        document: dict[str, Any] = msgspec.json.decode(stream.read())
    return document


def _names(table: Mapping[str, list[str]], key: str, architecture: str) -> frozenset[str]:
    """The names of every architecture and those of one."""
    return frozenset(" ".join([*table.get(key, ()), *table.get(f"{key}-{architecture}", ())]).split())


def _glibc(libraries: _Libraries) -> str:
    # Not every release of glibc adds something to libc.so.6.
    found = {name for item in libraries.packaged("libc6") for name in item.versions}
    levels = [name.removeprefix("GLIBC_") for name in found if name.startswith("GLIBC_2.")]
    return max(levels, key=lambda level: [int(part) for part in level.split(".")])
