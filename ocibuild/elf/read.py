"""Reading an ELF file as the dynamic loader sees it: by its segments, not by its sections, which it may be without."""

from __future__ import annotations

import mmap

from .dynamic import Dynamic, Tag, Versions
from .extras import build_id, debug_size
from .headers import ElfFile
from .shared_object import SharedObject
from .symbols import Symbols

__all__ = ["read_shared_object"]

_STACK_SEGMENT = 0x6474E551
_EXECUTABLE = 1
_TEXT_RELOCATIONS = 4
# Where glibc takes a file that says nothing of the stack to want an executable one (`DEFAULT_STACK_PERMS` of each
# machine). On AArch64, PPC64, RISC-V and LoongArch it does not.
_STACK_MACHINES = ("X86_64", "386", "ARM", "S390", "PPC", "MIPS", "SPARC", "SPARCV9", "68K", "SH", "ALPHA", "PARISC")


def read_shared_object(data: bytes | mmap.mmap | memoryview, *, where: object = "") -> SharedObject:
    """The facts of a shared object or program.

    Args:
        data: The file's bytes. A map can be closed at once afterwards, also after an error.
        where: What to name in an error.

    Raises:
        ElfError: Not ELF (the message says what it is where that is known), of a type that is never loaded, truncated
            or damaged.

    Example:
        >>> read_shared_object(b"MZ and so on", where="x.dll")
        Traceback (most recent call last):
        ocibuild.errors.ElfError: x.dll: a Windows DLL, wanted an ELF shared object. Take the package built for Linux.
    """
    file = ElfFile(data, where)
    dynamic = Dynamic(file)
    versions = Versions(dynamic)
    symbols = Symbols(dynamic, versions)
    tags = dynamic.tags
    path = dynamic.string(Tag.RUNPATH if Tag.RUNPATH in tags else Tag.RPATH)
    return SharedObject(
        machine=file.machine,
        bits=64 if file.wide else 32,
        little_endian=file.little_endian,
        soname=dynamic.string(Tag.SONAME),
        needed=dynamic.needed,
        runpath=tuple(path.split(":")) if path else (),
        versions=versions.needs,
        defines=versions.defines,
        imports=symbols.imports,
        exports=symbols.exports,
        versioned_exports=symbols.versioned,
        executable_stack=_executable_stack(file),
        text_relocations=Tag.TEXTREL in tags or bool(tags.get(Tag.FLAGS, 0) & _TEXT_RELOCATIONS),
        debug_size=debug_size(file),
        build_id=build_id(file),
    )


def _executable_stack(file: ElfFile) -> bool:
    said = [bool(item.flags & _EXECUTABLE) for item in file.segments if item.kind == _STACK_SEGMENT]
    return said[-1] if said else file.machine in _STACK_MACHINES
