"""Reading ELF shared objects (System V ABI; symbol versions as in the Linux Standard Base) with pyelftools.

The file is hostile: every count is bounded, and every failure is one `ElfError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from ocibuild.errors import ElfError

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

__all__ = ["SharedObject", "VersionNeed", "read_shared_object"]

_SECTIONS_LIMIT = 10_000
_TABLES_LIMIT = 10
_ENTRIES_LIMIT = 20_000
_SYMBOLS_LIMIT = 1_000_000
_TEXT_LIMIT = 4096
_OTHERS = {
    b"\xcf\xfa\xed\xfe": "a Mach-O library (macOS)",
    b"\xce\xfa\xed\xfe": "a Mach-O library (macOS)",
    b"\xca\xfe\xba\xbe": "a universal Mach-O library (macOS)",
    b"MZ": "a Windows DLL",
    b"!<arch>\n": "a static archive",
}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class VersionNeed:
    """A symbol version that another library must have, such as `GLIBC_2.34` of `libc.so.6`."""

    library: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedObject:
    """The facts of a shared object that decide where it can be loaded.

    Attributes:
        machine: The ELF machine without `EM_`, such as `X86_64` or `AARCH64`.
        bits: 32 or 64.
        little_endian: The byte order.
        soname: The name it goes by, if it has one.
        needed: The libraries it asks the loader for, in order.
        runpath: Where it asks the loader to look first (`DT_RUNPATH`, else `DT_RPATH`).
        versions: The symbol versions it needs of each library.
        exports: The names of the dynamic symbols it defines.
    """

    machine: str
    bits: int
    little_endian: bool
    soname: str | None
    needed: tuple[str, ...]
    runpath: str | None
    versions: tuple[VersionNeed, ...]
    exports: frozenset[str]


def read_shared_object(stream: BinaryIO, *, where: object = "") -> SharedObject:
    """The facts of a shared object.

    Args:
        stream: The file, seekable.
        where: What to name in an error.

    Raises:
        ElfError: Not ELF (the message says what it is where that is known), not a shared object, truncated or damaged.

    Example:
        >>> import io
        >>> read_shared_object(io.BytesIO(b"MZ and so on"), where="x.dll")
        Traceback (most recent call last):
        ocibuild.errors.ElfError: x.dll: a Windows DLL, wanted an ELF shared object. Take the package built for Linux.
    """
    from elftools.elf.elffile import ELFFile

    stream.seek(0)
    head = stream.read(64)
    if not head.startswith(b"\x7fELF"):
        raise _not_elf(head, where)
    try:
        elf = ELFFile(stream)
        _check_header(elf, where)
        return _facts(elf, where)
    except ElfError:
        raise
    except Exception as error:  # whatever a parser has for damaged input: one kind for the caller
        text = f"a damaged ELF file ({type(error).__name__})"
        raise ElfError(text, where=where, hint="Was it copied whole? Build or download it again.") from error


def _not_elf(head: bytes, where: object) -> ElfError:
    found = next((name for magic, name in _OTHERS.items() if head.startswith(magic)), "")
    hint = "Take the package built for Linux." if found else "Was it copied whole?"
    return ElfError(
        found or ("an empty file" if not head else "not an ELF file"),
        wanted="an ELF shared object",
        where=where,
        hint=hint,
    )


def _check_header(elf: ELFFile, where: object) -> None:
    stream = elf.stream
    size = stream.seek(0, 2)
    header = elf.header
    table_end = header["e_shoff"] + header["e_shnum"] * header["e_shentsize"]
    if header["e_type"] != "ET_DYN":
        raise ElfError(f"an ELF file of type {header['e_type']}", wanted="a shared object", where=where)
    if not 0 < header["e_shnum"] < _SECTIONS_LIMIT or header["e_shentsize"] not in (40, 64):
        raise ElfError("an ELF file without section headers", where=where, hint="Strip it with strip, not sstrip.")
    if table_end > size or header["e_phoff"] + header["e_phnum"] * header["e_phentsize"] > size:
        raise ElfError(
            f"a truncated ELF file of {size} bytes", wanted=f"at least {table_end}", where=where, hint="Copy it again."
        )


def _facts(elf: ELFFile, where: object) -> SharedObject:
    tags: dict[str, list[str]] = {}
    versions: set[VersionNeed] = set()
    exports: set[str] = set()
    small, large = iter(range(_ENTRIES_LIMIT)), iter(range(_SYMBOLS_LIMIT))
    for kind, section in _sections(elf, where):
        if kind == "SHT_DYNAMIC":
            for name, value in _tags(_bounded(section.iter_tags(), small, where)):
                tags.setdefault(name, []).append(value)
        elif kind == "SHT_GNU_verneed":
            versions.update(_version_needs(section, small, where))
        elif kind == "SHT_DYNSYM":
            exports.update(_exports(_bounded(section.iter_symbols(), large, where)))
    return SharedObject(
        machine=str(elf.header["e_machine"]).removeprefix("EM_"),
        bits=elf.elfclass,
        little_endian=elf.little_endian,
        soname=next(iter(tags.get("soname", ())), None),
        needed=tuple(tags.get("needed", ())),
        runpath=":".join(tags.get("runpath", tags.get("rpath", ()))) or None,
        versions=tuple(sorted(versions)),
        exports=frozenset(exports),
    )


def _sections(elf: ELFFile, where: object) -> Iterator[tuple[str, Any]]:
    """The sections that say something; making any other would read its name, which may be as long as the file."""
    from elftools.common.utils import struct_parse

    header = elf.header
    found = 0
    for number in range(header["e_shnum"]):
        at = header["e_shoff"] + number * header["e_shentsize"]
        kind = struct_parse(elf.structs.Elf_Shdr, elf.stream, at)["sh_type"]
        if kind in ("SHT_DYNAMIC", "SHT_GNU_verneed", "SHT_DYNSYM"):
            found += 1
            if found > _TABLES_LIMIT:
                raise ElfError(f"more than {_TABLES_LIMIT} dynamic tables", where=where)
            yield kind, elf.get_section(number)


def _tags(tags: Iterator[Any]) -> Iterator[tuple[str, str]]:
    for tag in tags:
        for name in ("needed", "soname", "rpath", "runpath"):
            if tag.entry.d_tag == f"DT_{name.upper()}":
                yield name, _text(getattr(tag, name))


def _version_needs(section: Any, budget: Iterator[int], where: object) -> Iterator[VersionNeed]:
    for library, needs in _bounded(section.iter_versions(), budget, where):
        for need in _bounded(needs, budget, where):
            yield VersionNeed(library=_text(library.name), version=_text(need.name))


def _exports(symbols: Iterator[Any]) -> Iterator[str]:
    for symbol in symbols:
        if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] != "STB_LOCAL":
            yield _text(symbol.name)


def _bounded(items: Iterable[Any], budget: Iterator[int], where: object) -> Iterator[Any]:
    """The items, as long as the budget has numbers left; nested tables share one, since a table may name itself."""
    for item in items:
        if next(budget, None) is None:
            raise ElfError("an ELF table with more entries than any honest one", where=where)
        yield item


def _text(name: str) -> str:
    if len(name) > _TEXT_LIMIT:
        raise ElfError(f"a name of {len(name)} characters")
    return name
