"""The magic block: which server a module was compiled for (`fmgr.h`, `Pg_magic_struct`).

The block is found by what is constant in every build of PostgreSQL: 100 function arguments, 32 index keys, 64 bytes of a
name, 8-byte floats by value. Before them stand the block's length and the server's version.
"""

from __future__ import annotations

import mmap
import struct

import msgspec

from ocibuild.errors import SourceError

__all__ = ["ENTRY_POINT", "Magic", "read_magic"]

ENTRY_POINT = "Pg_magic_func"
"""The function every loadable module exports; a library without it is not a module."""

_CONSTANTS = (100, 32, 64, 1)
# PostgreSQL 13 and 14; 15 to 17, with 32 bytes of ABI name; 18 and later, with two pointers on 64 bit.
_LENGTHS = {24, 56, 72}
_MAJORS = range(13, 41)


class Magic(msgspec.Struct, frozen=True, kw_only=True):
    """A module's magic block.

    Attributes:
        major: The PostgreSQL major version, such as 18.
        abi: The server's ABI name (`PostgreSQL`), empty before version 15.
    """

    major: int
    abi: str


def read_magic(data: bytes | mmap.mmap, *, little_endian: bool = True, where: object = "") -> Magic | None:
    """The magic block in a library's bytes; None when there is none.

    Raises:
        SourceError: Blocks for different servers in one library.

    Example:
        >>> block = struct.pack("<6i32s", 56, 1700, 100, 32, 64, 1, b"PostgreSQL")
        >>> read_magic(b"..." + block)
        Magic(major=17, abi='PostgreSQL')
    """
    order = "<" if little_endian else ">"
    pattern = struct.pack(f"{order}4i", *_CONSTANTS)
    found: set[Magic] = set()
    at = data.find(pattern)
    while at >= 0:
        if at >= 8:  # noqa: PLR2004 - the two fields before the constants
            length, version = struct.unpack_from(f"{order}2i", data, at - 8)
            if length in _LENGTHS and version // 100 in _MAJORS:
                abi = data[at + 16 : at + 48].partition(b"\0")[0] if length > 24 else b""  # noqa: PLR2004
                found.add(Magic(major=version // 100, abi=abi.decode(errors="replace")))
        at = data.find(pattern, at + 1)
    if len(found) > 1:
        majors = ", ".join(str(item.major) for item in sorted(found, key=lambda item: item.major))
        raise SourceError(f"magic blocks for several servers: {majors}", wanted="one PostgreSQL major", where=where)
    return next(iter(found), None)
