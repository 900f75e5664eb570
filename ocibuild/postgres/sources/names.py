"""What the names of packages, archives, folders and prefixes tell: software, version, PostgreSQL major."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .base import Package

__all__ = ["debian_name", "major_of_paths", "named_package"]

_SUFFIX = re.compile(r"\.(?:tar(?:\.[a-z0-9]+)?|tgz|txz|tzst|zip|deb)$")
_VERSION = re.compile(r"v?([0-9][0-9A-Za-z.+~_]*)")
_PRERELEASE = re.compile(r"(?:alpha|beta|rc|pre|dev)[0-9A-Za-z.]*")
_MAJOR = re.compile(r"pg-?([0-9]{1,2})", re.IGNORECASE)
_MACHINE = re.compile(
    r"(?:linux|macos|darwin|windows|x86_64|aarch64|amd64|arm64|x64)(?:[_.][A-Za-z0-9_.]*)?", re.IGNORECASE
)
_PREFIX = re.compile(r"(?:^|/)(?:postgresql[/@-]|pgsql-|\.pgrx/)(?P<major>[0-9]{1,2})(?:[./]|$)")
_DEBIAN = re.compile(r"postgresql-(?P<major>[0-9]{1,2})-(?P<name>.+)")


def named_package(name: str, *, is_archive: bool) -> Package:
    """What a file's or folder's name tells; of a folder only when it names a PostgreSQL major, as cargo pgrx has it.

    Example:
        >>> named_package("pg_trickle-0.2.0-pg18-linux-amd64.tar.gz", is_archive=True).version
        '0.2.0'
        >>> named_package("age-PG18-v1.6.0-rc0.zip", is_archive=True).version
        '1.6.0-rc0'
        >>> named_package("artifact", is_archive=False).name is None
        True
    """
    names: list[str] = []
    version = major = None
    for part in (_SUFFIX.sub("", name) if is_archive else name).split("-"):
        if (match := _MAJOR.fullmatch(part)) and names:
            major = int(match[1])
        elif (match := _VERSION.fullmatch(part)) and names and version is None:
            version = match[1]
        elif version is not None and _PRERELEASE.fullmatch(part):
            version += f"-{part}"
        elif (_MACHINE.fullmatch(part) and names) or version is not None or major is not None:
            continue
        else:
            names.append(part)
    if not (major or (is_archive and version)):
        return Package()
    return Package(name="-".join(names), version=version, major=major, origin=name)


def debian_name(package: str) -> tuple[str, int | None]:
    """The software's name and PostgreSQL major in a Debian package's name.

    Example:
        >>> debian_name("postgresql-18-postgis-3-scripts")
        ('postgis-3', 18)
    """
    match = _DEBIAN.fullmatch(package)
    if match is None:
        return package, None
    return match["name"].removesuffix("-scripts"), int(match["major"])


def major_of_paths(paths: Iterable[str]) -> int | None:
    """The PostgreSQL major of the prefix that files lie below, when all agree.

    Example:
        >>> major_of_paths(["usr/share/postgresql/18/extension/x.control"])
        18
    """
    found = {int(match["major"]) for path in paths if (match := _PREFIX.search(path))}
    return found.pop() if len(found) == 1 else None
