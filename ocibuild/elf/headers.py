"""The headers of an ELF file (System V ABI, chapters 4 and 5): what it is, and what is loaded where.

The file is hostile: nothing is read that was not found to be inside it, and whatever is wrong is one `ElfError`.
Ranges are copied, not viewed: a view that an error's traceback keeps alive would keep a map from being closed.
"""

from __future__ import annotations

import mmap
import struct
from typing import Any, NamedTuple

from ocibuild.errors import ElfError

__all__ = ["ENTRIES_LIMIT", "ElfFile", "Section", "Segment"]

ENTRIES_LIMIT = 20_000
_EXECUTABLE, _SHARED = 2, 3
_LOAD = 1
_IDENTIFICATION = 16
_NARROW, _WIDE = 1, 2
_KINDS = {1: "a relocatable object (.o)", 4: "a core dump"}
_MACHINES = {
    2: "SPARC", 3: "386", 4: "68K", 8: "MIPS", 15: "PARISC", 20: "PPC", 21: "PPC64", 22: "S390", 40: "ARM", 42: "SH",
    43: "SPARCV9", 50: "IA_64", 62: "X86_64", 183: "AARCH64", 243: "RISCV", 258: "LOONGARCH", 0x9026: "ALPHA",
}  # fmt: skip
_OTHERS = {
    b"\xcf\xfa\xed\xfe": "a Mach-O library (macOS)",
    b"\xce\xfa\xed\xfe": "a Mach-O library (macOS)",
    b"\xca\xfe\xba\xbe": "a universal Mach-O library (macOS)",
    b"MZ": "a Windows DLL",
    b"!<arch>\n": "a static archive",
}


class Segment(NamedTuple):
    """A program header: what the loader looks at."""

    kind: int
    flags: int
    offset: int
    address: int
    size: int
    align: int


class Section(NamedTuple):
    """A section header: what the loader does not look at."""

    name: int
    kind: int
    address: int
    offset: int
    size: int
    link: int


class ElfFile:
    """A file whose headers are sound: what they name is inside it.

    Args:
        data: The file's bytes.
        where: What to name in an error.

    Attributes:
        wide: It has words of 64 bits, not 32.
        little_endian: The byte order; `order` is what `struct` calls it, `word` what it calls a word.
        shared: It can be loaded anywhere: a shared object, and most programs.
        machine: The machine's name, or its number as text.
        segments: The program headers.
        sections: The section headers, which may be none; `names` is the number of the one that holds their names.

    Raises:
        ElfError: Not ELF, of a type that is never loaded, truncated or damaged.
    """

    def __init__(self, data: bytes | mmap.mmap | memoryview, where: object) -> None:
        if isinstance(data, memoryview) and (data.format, data.ndim) != ("B", 1):
            data = data.tobytes()
        self._data = data
        self.where = where
        self.size = len(data)
        head = bytes(data[:_IDENTIFICATION])
        if not head.startswith(b"\x7fELF"):
            raise _not_elf(head, where)
        if len(head) < _IDENTIFICATION or head[4] not in (_NARROW, _WIDE) or head[5] not in (1, 2) or head[6] != 1:
            raise self.damaged("its header")
        self.wide = head[4] == _WIDE
        self.little_endian = head[5] == 1
        self.order = "<" if self.little_endian else ">"
        self.word = "Q" if self.wide else "I"
        kind, machine, version, _, segments, sections, _, _, *counts = self.unpack(
            f"2HI3{self.word}I6H", _IDENTIFICATION
        )
        if kind not in (_EXECUTABLE, _SHARED):
            found = _KINDS.get(kind, f"an ELF file of type {kind}")
            raise ElfError(found, wanted="a shared object or a program", where=where)
        if version != 1:
            raise self.damaged("its header")
        self.shared = kind == _SHARED
        self.machine = _MACHINES.get(machine, str(machine))
        segment_size, segment_count, section_size, section_count, self.names = counts
        self.segments = self._segments(segments, segment_size, segment_count)
        self.sections = self._sections(sections, section_size, section_count)

    def _segments(self, offset: int, entry: int, count: int) -> list[Segment]:
        if count and entry != (56 if self.wide else 32):
            raise self.damaged("its program headers")
        table = self.take(offset, entry * count)
        found = []
        if self.wide:
            for kind, flags, start, address, _, size, _, align in struct.iter_unpack(f"{self.order}2I6Q", table):
                found.append(Segment(kind, flags, start, address, size, align))
        else:
            for kind, start, address, _, size, _, flags, align in struct.iter_unpack(f"{self.order}8I", table):
                found.append(Segment(kind, flags, start, address, size, align))
        self._loaded = [item for item in found if item.kind == _LOAD and item.size]
        for item in self._loaded:
            self.check(item.offset, item.size)
        # Where two overlap, the loader maps the later one over the other.
        self._loaded.reverse()
        return found

    def _sections(self, offset: int, entry: int, count: int) -> list[Section]:
        if not offset or not count:
            return []
        if entry != (64 if self.wide else 40):
            raise self.damaged("its section headers")
        layout = "2I4Q2I2Q" if self.wide else "10I"
        rows = struct.iter_unpack(self.order + layout, self.take(offset, entry * count))
        return [Section(row[0], row[1], row[3], row[4], row[5], row[6]) for row in rows]

    def damaged(self, what: str) -> ElfError:
        """The error for a file that contradicts itself."""
        hint = "Was it copied whole? Build or download it again."
        return ElfError(f"a damaged ELF file ({what})", where=self.where, hint=hint)

    def check(self, offset: int, size: int) -> None:
        """Refuse a range that is not inside the file."""
        if offset + size > self.size:
            raise ElfError(
                f"a truncated ELF file of {self.size} bytes",
                wanted=f"at least {offset + size}",
                where=self.where,
                hint="Copy it again.",
            )

    def take(self, offset: int, size: int) -> bytes:
        """A copy of a range of the file."""
        self.check(offset, size)
        return bytes(self._data[offset : offset + size])

    def unpack(self, layout: str, offset: int) -> tuple[Any, ...]:
        """The fields at an offset."""
        layout = self.order + layout
        self.check(offset, struct.calcsize(layout))
        return struct.unpack_from(layout, self._data, offset)

    def locate(self, address: int) -> range:
        """The range of the file from what is loaded at an address to the end of its segment."""
        for item in self._loaded:
            if item.address <= address < item.address + item.size:
                return range(item.offset + address - item.address, item.offset + item.size)
        raise self.damaged(f"nothing at address {address:#x}")

    def take_at(self, address: int, size: int) -> bytes:
        """A copy of what is loaded at an address."""
        found = self.locate(address)
        if size > len(found):
            raise self.damaged(f"{size} bytes at address {address:#x}, where {len(found)} are")
        return self.take(found.start, size)


def _not_elf(head: bytes, where: object) -> ElfError:
    found = next((name for magic, name in _OTHERS.items() if head.startswith(magic)), "")
    hint = "Take the package built for Linux." if found else "Was it copied whole?"
    return ElfError(
        found or ("an empty file" if not head else "not an ELF file"),
        wanted="an ELF shared object",
        where=where,
        hint=hint,
    )
