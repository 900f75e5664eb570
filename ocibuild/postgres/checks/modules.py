"""Checks on libraries by themselves: what they were built for, and what a build left in them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ocibuild.postgres.root import ImageRoot
from ocibuild.postgres.sources import Library

from .finding import FIRST_MAJOR, Finding

__all__ = ["check_modules"]

_LIBC = re.compile(
    r"(?:ld-linux[\w-]*|ld-musl[\w-]*|ld64|ld-[0-9.]+|libc\.musl[\w-]*"
    r"|lib(?:c|m|pthread|dl|rt|resolv|mvec|nsl|util|anl|nss_[a-z]+)(?:-[0-9.]+)?)\.so(?:\.[0-9]+)*"
)
_MEGABYTE = 1_000_000


def check_modules(root: ImageRoot, major: int | None) -> Iterator[Finding]:
    """What would hinder the libraries of a root, whichever Debian release the server runs on."""
    wanted = major or root.major
    for source in root.sources:
        for path, error in source.unreadable.items():
            yield Finding(
                id="unreadable-file",
                severity="error",
                message=f"{error.found}, wanted {error.wanted}" if error.wanted else error.found,
                where=root.where(path),
                hint=error.hint,
            )
    for library in root.libraries:
        where = root.where(library.path)
        if not library.platform.matches(root.platform):
            yield Finding(
                id="wrong-architecture",
                severity="error",
                message=f"a library for {library.platform} in the image for {root.platform}",
                where=where,
                hint="Package it on a machine of that architecture.",
            )
        yield from _magic(library, wanted, where)
        yield from _leftovers(library, where)
    for path in root.entries:
        if _LIBC.fullmatch(path.rpartition("/")[2]):
            yield Finding(
                id="libc-in-image",
                severity="error",
                message="a part of the C library: with the server's own it makes two, and the server crashes",
                where=root.where(path),
                hint="Leave it out; the server's image has its own.",
            )
    if wanted and wanted < FIRST_MAJOR:
        yield Finding(
            id="major-too-old",
            severity="warning",
            message=f"PostgreSQL {wanted} cannot load an extension from a mounted image: no extension_control_path",
            where=f"{root.platform}",
            hint=f"Image volumes need PostgreSQL {FIRST_MAJOR} or later.",
        )


def _magic(library: Library, wanted: int | None, where: str) -> Iterator[Finding]:
    if library.magic is None:
        return
    if wanted and library.magic.major != wanted:
        yield Finding(
            id="major-differs",
            severity="error",
            message=f"a module for PostgreSQL {library.magic.major}, in an image for {wanted}: the server refuses it",
            where=where,
            hint=f"Build it with the headers of PostgreSQL {wanted}.",
        )
    if library.magic.abi not in ("", "PostgreSQL"):
        yield Finding(
            id="foreign-abi",
            severity="error",
            message=f"a module for the ABI {library.magic.abi!r}: PostgreSQL's own is 'PostgreSQL'",
            where=where,
            hint="Build it with the community's headers.",
        )


def _leftovers(library: Library, where: str) -> Iterator[Finding]:
    facts = library.facts
    if facts.text_relocations:
        yield Finding(
            id="text-relocations",
            severity="warning",
            message="text relocations: the loader writes into its code, which hardened systems forbid",
            where=where,
            hint="Compile with -fPIC.",
        )
    if strange := [item for item in facts.runpath if not item.startswith(("$ORIGIN", "${ORIGIN}"))]:
        yield Finding(
            id="run-path",
            severity="warning",
            message=f"it looks for libraries in {', '.join(strange)}, which is no folder of the image",
            where=where,
            hint="Remove it with patchelf --remove-rpath, or use $ORIGIN.",
        )
    if facts.debug_size:
        yield Finding(
            id="debug-sections",
            severity="warning",
            message=f"{max(facts.debug_size / _MEGABYTE, 0.1):.1f} MB of debug sections",
            where=where,
            hint="strip --strip-debug, or strip = 'debuginfo' in the Cargo profile.",
        )
