"""What the names of packages, archives, folders and prefixes tell: software, version, PostgreSQL major."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .base import Package

__all__ = ["debian_name", "major_of_paths", "named_package"]

_SUFFIX = re.compile(r"\.(?:tar(?:\.[a-z0-9]+)?|tgz|txz|tzst|zip|deb)$")
_NAME = re.compile(
    r"(?P<name>[A-Za-z0-9_+.-]*?[A-Za-z_][A-Za-z0-9_+.]*?)"
    r"(?:-v?(?P<version>[0-9][0-9A-Za-z.+~]*(?:-(?:alpha|beta|rc|pre|dev)[0-9A-Za-z.]*)?))?"
    r"(?:-pg(?P<major>[0-9]{1,2}))?"
    r"(?:-(?:linux|macos|darwin|windows|x86_64|aarch64|amd64|arm64)[A-Za-z0-9_.-]*)?"
)
_PREFIX = re.compile(r"(?:^|/)(?:postgresql[/@-]|pgsql-|\.pgrx/)(?P<major>[0-9]{1,2})(?:[./]|$)")
_DEBIAN = re.compile(r"postgresql-(?P<major>[0-9]{1,2})-(?P<name>.+)")


def named_package(name: str, *, is_archive: bool) -> Package:
    """What a file's or folder's name tells; of a folder only when it names a PostgreSQL major, as cargo pgrx has it.

    Example:
        >>> named_package("pg_trickle-0.2.0-pg18-linux-amd64.tar.gz", is_archive=True).version
        '0.2.0'
        >>> named_package("artifact", is_archive=False).name is None
        True
    """
    match = _NAME.fullmatch(_SUFFIX.sub("", name) if is_archive else name)
    if match is None or not (match["major"] or (is_archive and match["version"])):
        return Package()
    major = int(match["major"]) if match["major"] else None
    return Package(name=match["name"], version=match["version"], major=major, origin=name)


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
