"""Libraries of a source: what they say of themselves, and of the server they were compiled for."""

from __future__ import annotations

import mmap
import re
from collections import Counter
from collections.abc import Iterable

import msgspec

from ocibuild.elf import SharedObject, read_shared_object
from ocibuild.errors import SourceError
from ocibuild.layer.entry import File
from ocibuild.oci import Platform
from ocibuild.postgres.magic import ENTRY_POINT, Magic, read_magic

from .content import read_content

__all__ = ["ARCHITECTURES", "Library", "common_major", "is_library", "read_library"]

_LIBRARY_NAME = re.compile(r"\.(?:so(?:\.[0-9]+)*|dylib|dll)$")
_MACHINES = {
    ("X86_64", 64): "amd64", ("AARCH64", 64): "arm64", ("386", 32): "386", ("ARM", 32): "arm/v7",
    ("PPC64", 64): "ppc64le", ("S390", 64): "s390x", ("RISCV", 64): "riscv64", ("LOONGARCH", 64): "loong64",
}  # fmt: skip

ARCHITECTURES = frozenset(name.partition("/")[0] for name in _MACHINES.values()) | {"ppc64"}
"""The architectures that a library may be for, as an OCI platform names them."""


class Library(msgspec.Struct, frozen=True, kw_only=True):
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


def common_major(libraries: Iterable[Library]) -> int | None:
    """The PostgreSQL major that most modules were compiled for, the newest of several that as many were."""
    counts = Counter(library.magic.major for library in libraries if library.magic)
    return max(counts, key=lambda major: (counts[major], major), default=None)


def read_library(file: File, where: object) -> Library:
    """A shared object or program.

    Raises:
        ElfError: It is none, or damaged.
        SourceError: It cannot be read.
    """
    if isinstance(file.content, bytes) or not file.size:
        return _facts(file, file.content if isinstance(file.content, bytes) else b"", where)
    try:
        with open(file.content, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _facts(file, data, where)
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=where) from error


def _facts(file: File, data: bytes | mmap.mmap, where: object) -> Library:
    facts = read_shared_object(data, where=where)
    magic = None
    if ENTRY_POINT in facts.exports:
        magic = read_magic(data, little_endian=facts.little_endian, where=where)
    return Library(path=file.path, facts=facts, magic=magic)


def is_library(file: File) -> bool:
    """Whether a file is a library by its name, or a program of a folder `bin` by its first bytes."""
    folder, _, name = file.path.rpartition("/")
    # Most files are told by a look: there may be very many.
    if (".so" in name or ".d" in name) and _LIBRARY_NAME.search(name):
        return True
    return folder.endswith("bin") and folder.rpartition("/")[2] == "bin" and read_content(file, 4) == b"\x7fELF"
