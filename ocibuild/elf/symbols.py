"""The dynamic symbols: how many there are, which no field says, and what each is (System V ABI, chapter 4)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import repeat

from .dynamic import Dynamic, Tag, Versions, readable
from .shared_object import Import

__all__ = ["Symbols"]

_SYMBOLS_LIMIT = 1_000_000
# Mangled names of C++ templates have been longer than any path.
_NAME_LIMIT = 65_536
_DYNAMIC_SYMBOLS = 11
# Global, weak, and GNU's unique: what the loader looks at.
_WEAK = 2
_BINDINGS = frozenset({1, _WEAK, 10})
# Not internal, not hidden.
_VISIBLE = (0, 3)


class Symbols:
    """The dynamic symbols of a file.

    Attributes:
        imports: Those it does not define, sorted by name.
        exports: The names of those it defines.
        versioned: The exports that have a version.
    """

    def __init__(self, dynamic: Dynamic, versions: Versions) -> None:
        self._dynamic = dynamic
        self._file = dynamic.file
        self._entry = 24 if self._file.wide else 16
        exports: set[str] = set()
        versioned: set[str] = set()
        undefined: list[tuple[str, int, bool]] = []
        count = self._count() if Tag.SYMTAB in dynamic.tags else 0
        if dynamic.tags.get(Tag.SYMENT, self._entry) != self._entry:
            raise self._file.damaged("its dynamic symbols")
        if count:
            self._read(count, exports, versioned, undefined)
        self.exports = frozenset(exports)
        self.versioned = frozenset(versioned)
        self.imports = self._imports(undefined, versions)

    def _read(self, count: int, exports: set[str], versioned: set[str], undefined: list[tuple[str, int, bool]]) -> None:
        strings = self._dynamic.strings
        text, budget = strings.text, strings.budget
        find, ascii_only = text.find, text.isascii()
        layout = self._file.order + ("I2BH16x" if self._file.wide else "I8x2BH")
        table = self._file.take_at(self._dynamic.tags[Tag.SYMTAB], count * self._entry)
        for (start, info, other, section), number in zip(
            struct.iter_unpack(layout, table), self._numbers(count), strict=False
        ):
            binding = info >> 4
            if binding not in _BINDINGS:
                continue
            end = find("\0", start, start + _NAME_LIMIT + 1)
            budget -= end - start
            if end < 0 or budget < 0:
                raise self._file.damaged("the name of a symbol")
            if end == start:
                continue
            name = text[start:end] if ascii_only else readable(text[start:end])
            if not section:
                undefined.append((name, number & 0x7FFF, binding == _WEAK))
            elif other & 3 in _VISIBLE:
                exports.add(name)
                if number & 0x7FFF > 1:
                    versioned.add(name)
        strings.budget = budget

    def _numbers(self, count: int) -> Iterable[int]:
        if Tag.VERSYM not in self._dynamic.tags:
            return repeat(0)
        table = self._file.take_at(self._dynamic.tags[Tag.VERSYM], 2 * count)
        return struct.unpack(f"{self._file.order}{count}H", table)

    def _imports(self, undefined: list[tuple[str, int, bool]], versions: Versions) -> tuple[Import, ...]:
        found = []
        for name, number, weak in sorted(undefined):
            version, library = versions.names.get(number, (None, None))
            found.append(Import(name=name, version=version, library=library, weak=weak))
        return tuple(found)

    def _count(self) -> int:
        """The number of symbols, from the first that tells it.

        GNU's hash table leaves out the undefined symbols, which come first; without a defined one it tells nothing.
        """
        count = self._from_gnu_hash() or self._from_hash() or self._from_section() or self._from_relocations()
        if count > _SYMBOLS_LIMIT:
            raise self._file.damaged(f"{count} dynamic symbols")
        return count

    def _from_gnu_hash(self) -> int:
        address = self._dynamic.tags.get(Tag.GNU_HASH)
        if address is None:
            return 0
        order = self._file.order
        buckets, first, words, _ = struct.unpack(f"{order}4I", self._file.take_at(address, 16))
        address += 16 + words * struct.calcsize(f"={self._file.word}")
        if buckets > _SYMBOLS_LIMIT:
            raise self._file.damaged("its hash table")
        table = struct.unpack(f"{order}{buckets}I", self._file.take_at(address, 4 * buckets))
        last = max(table, default=0)
        if not last:
            return 0
        if not first <= last < _SYMBOLS_LIMIT:
            raise self._file.damaged("its hash table")
        found = self._file.locate(address + 4 * (buckets + last - first))
        size = min(len(found) // 4, _SYMBOLS_LIMIT) * 4
        for place, (value,) in enumerate(struct.iter_unpack(f"{order}I", self._file.take(found.start, size))):
            if value & 1:
                return last + place + 1
        raise self._file.damaged("a hash chain without an end")

    def _from_hash(self) -> int:
        address = self._dynamic.tags.get(Tag.HASH)
        if address is None:
            return 0
        # Of all machines, these two have words of 64 bits here.
        wide = self._file.wide and self._file.machine in ("S390", "ALPHA")
        layout = self._file.order + ("2Q" if wide else "2I")
        [_, count] = struct.unpack(layout, self._file.take_at(address, struct.calcsize(layout)))
        return int(count)

    def _from_section(self) -> int:
        for item in self._file.sections:
            if item.kind == _DYNAMIC_SYMBOLS and item.address == self._dynamic.tags[Tag.SYMTAB]:
                return item.size // self._entry
        return 0

    def _from_relocations(self) -> int:
        """One more than the highest symbol of a relocation: the loader looks at no other."""
        tags = self._dynamic.tags
        tables = (
            (Tag.RELA, Tag.RELASZ, True),
            (Tag.REL, Tag.RELSZ, False),
            (Tag.JMPREL, Tag.PLTRELSZ, tags.get(Tag.PLTREL) == Tag.RELA),
        )
        word = self._file.word
        shift = 32 if self._file.wide else 8
        highest = 0
        for start, size, addend in tables:
            if tags.get(size):
                layout = f"{self._file.order}2{word}" + ("8x" if self._file.wide else "4x") * addend
                entry = struct.calcsize(layout)
                table = self._file.take_at(tags.get(start, 0), tags[size] // entry * entry)
                rows = struct.iter_unpack(layout, table)
                highest = max(highest, max((info >> shift for _, info in rows), default=0))
        return highest + 1 if highest else 0
