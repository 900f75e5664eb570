"""What is known of a shared object: values."""

from __future__ import annotations

import msgspec

__all__ = ["Import", "SharedObject", "VersionNeed"]


class VersionNeed(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A symbol version that another library must have, such as `GLIBC_2.34` of `libc.so.6`.

    Attributes:
        library: The library's name, one of those it needs.
        version: The version's name.
        weak: The loader only warns when the library does not have it.
    """

    library: str
    version: str
    weak: bool = False


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """A dynamic symbol that something else must define.

    Attributes:
        name: The symbol.
        version: The version it must have; None takes any.
        library: The library that version belongs to; None without one.
        weak: Nothing is wrong when nobody defines it.
    """

    name: str
    version: str | None
    library: str | None
    weak: bool


class SharedObject(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a shared object or program that decide where it can be loaded.

    Attributes:
        machine: The ELF machine without `EM_`, such as `X86_64` or `AARCH64`; a number for one that has no name here.
        bits: 32 or 64.
        little_endian: The byte order.
        soname: The name it goes by, if it has one.
        needed: The libraries it asks the loader for, in order.
        runpath: Where it asks the loader to look first (`DT_RUNPATH`, else `DT_RPATH`); an empty one is the working folder.
        versions: The symbol versions it needs of each library, sorted.
        defines: The symbol versions it defines.
        imports: The dynamic symbols it does not define, sorted by name.
        exports: The names of the dynamic symbols it defines.
        versioned_exports: The exports that have a version.
        executable_stack: The loader makes the stack executable for it.
        text_relocations: The loader makes its code writable to relocate it.
        debug_size: The bytes of its debug sections.
        build_id: The GNU build ID in hexadecimal, if it has one.
    """

    machine: str
    bits: int
    little_endian: bool
    soname: str | None
    needed: tuple[str, ...]
    runpath: tuple[str, ...]
    versions: tuple[VersionNeed, ...]
    defines: frozenset[str]
    imports: tuple[Import, ...]
    exports: frozenset[str]
    versioned_exports: frozenset[str]
    executable_stack: bool
    text_relocations: bool
    debug_size: int
    build_id: str | None
