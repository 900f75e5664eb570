"""The symbols of an ELF file with their sizes: what the dynamic ones and the symbol table say of functions and objects."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable

from ocibuild.elf.dynamic import readable
from ocibuild.elf.headers import ElfFile, Section

__all__ = ["Functions"]

_SYMBOLS, _DYNAMIC_SYMBOLS, _STRINGS = 2, 11, 3
_OBJECT, _FUNCTION, _THREAD_LOCAL, _INDIRECT = 1, 2, 6, 10
_NAME_LIMIT = 4096
_SYMBOLS_LIMIT = 500_000
_NAMES_LIMIT = 64 * 1024 * 1024
_TABLE_LIMIT = 256 * 1024 * 1024


class Functions:
    """The functions and objects that a file defines, as far as its sections tell them.

    Attributes:
        sizes: The size of each by name, as bytes.
        local: Those that `.symtab` alone names and whether they are local; None without one.
    """

    def __init__(self, file: ElfFile) -> None:
        self.sizes: dict[bytes, int] = {}
        self.local: dict[bytes, bool] | None = None
        # A name from the dynamic symbols stands before another of the same place.
        self._places: dict[int, tuple[int, bytes]] = {}
        self._symbols_left, self._names_left = _SYMBOLS_LIMIT, min(_NAMES_LIMIT, 2 * file.size)
        exported: frozenset[bytes] = frozenset()
        for kind in (_DYNAMIC_SYMBOLS, _SYMBOLS):
            table = next((item for item in file.sections if item.kind == kind), None)
            names = {} if table is None else self._read(file, table)
            if kind == _DYNAMIC_SYMBOLS:
                exported = frozenset(names)
            elif table is not None:
                self.local = {name: local for name, local in names.items() if name not in exported}
        self._starts = sorted(self._places)

    def _read(self, file: ElfFile, table: Section) -> dict[bytes, bool]:
        """The names of a table's functions and objects, and whether each is local; none of a table that is damaged."""
        found: dict[bytes, bool] = {}
        layout = file.order + ("I2BH2Q" if file.wide else "3I2BH")
        entry = struct.calcsize(layout)
        count = min(table.size // entry, self._symbols_left)
        self._symbols_left -= count
        strings = file.sections[table.link] if table.link < len(file.sections) else None
        if strings is None or strings.kind != _STRINGS or strings.size > _TABLE_LIMIT:
            return found
        if max(table.offset + count * entry, strings.offset + strings.size) > file.size:
            return found
        text = file.take(strings.offset, strings.size)
        for row in struct.iter_unpack(layout, file.take(table.offset, count * entry)):
            start, info, _, section, address, size = row if file.wide else (row[0], *row[3:], *row[1:3])
            if not section or info & 15 not in (_OBJECT, _FUNCTION, _THREAD_LOCAL, _INDIRECT):
                continue
            end = text.find(0, start, start + _NAME_LIMIT + 1)
            self._names_left -= max(0, end - start)
            if self._names_left < 0:
                break
            if end <= start:
                continue
            name = text[start:end]
            found[name] = not info >> 4
            self.sizes.setdefault(name, size)
            if info & 15 in (_FUNCTION, _INDIRECT, _OBJECT) and size:
                self._places.setdefault(address, (size, name))
        return found

    def within(self, ranges: Iterable[tuple[int, int]], limit: int) -> list[str]:
        """The names of those that ranges of addresses touch at their beginning, each once, and no more than so many."""
        found: dict[bytes, None] = {}
        for start, _ in ranges:
            place = bisect_right(self._starts, start) - 1
            if place >= 0:
                size, name = self._places[self._starts[place]]
                if start < self._starts[place] + size:
                    found[name] = None
                    if len(found) == limit:
                        break
        return [readable(name.decode("latin-1")) for name in found]
