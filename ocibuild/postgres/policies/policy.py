"""Policies as values, and where they are read from."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from ocibuild.errors import UsageError

__all__ = ["DISTROS", "Policy", "Provided", "Server", "load_policy", "load_server"]

DISTROS = ("bullseye", "bookworm", "trixie", "sid")
"""The Debian releases that have a policy, oldest first."""

_ARCHITECTURES = ("amd64", "arm64")
_MAJORS = (18,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provided:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
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
        near = difflib.get_close_matches(distro, DISTROS, n=1)
        hint = f"Did you mean {near[0]}?" if near else ""
        raise UsageError(f"distro {distro}", wanted=_choice(DISTROS), hint=hint)
    _check_architecture(architecture, distro)
    document = _document(distro)
    libraries = {
        soname: Provided(
            package=table["package"],
            versions=_names(table, "versions", architecture),
            exports=_names(table, "exports", architecture),
            patterns=tuple(table.get("patterns", "").split()),
        )
        for soname, table in document["libraries"].items()
        if table.get("architecture", architecture) == architecture
    }
    return Policy(
        distro=distro,
        release=document["release"],
        architecture=architecture,
        operand=document["operand"],
        libraries=MappingProxyType(libraries),
        extensions=frozenset(document["extensions"].split()),
        modules=frozenset(document["modules"].split()),
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
        needed=tuple(document["server"]["needed"].split()),
        base=_names(document["base"], "names", architecture),
        patterns=tuple(document["base"]["patterns"].split()),
    )


def _check_architecture(architecture: str, where: str) -> None:
    if architecture not in _ARCHITECTURES:
        raise UsageError(f"no data for the architecture {architecture}", wanted=_choice(_ARCHITECTURES), where=where)


def _choice(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


@cache
def _document(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath(f"{name}.toml").read_text("utf-8"))


def _names(table: Mapping[str, str], key: str, architecture: str) -> frozenset[str]:
    """The names of every architecture and those of one."""
    return frozenset(table.get(key, "").split()).union(table.get(f"{key}-{architecture}", "").split())


def _glibc(libraries: Mapping[str, Provided]) -> str:
    # Not every release of glibc adds something to libc.so.6.
    found = {name for item in libraries.values() if item.package == "libc6" for name in item.versions}
    levels = [name.removeprefix("GLIBC_") for name in found if name.startswith("GLIBC_2.")]
    return max(levels, key=lambda level: [int(part) for part in level.split(".")])
