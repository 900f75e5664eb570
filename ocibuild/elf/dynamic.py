"""The dynamic section, its strings and its symbol versions (System V ABI, chapter 5; Linux Standard Base for versions)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ocibuild.errors import ElfError

from .headers import ENTRIES_LIMIT, ElfFile
from .shared_object import VersionNeed

__all__ = ["Dynamic", "Strings", "Tag", "Versions"]

_NAME_LIMIT = 4096
_DYNAMIC_SEGMENT = 2
_BASE, _WEAK = 1, 2


class Tag:
    """Entries of the dynamic section."""

    NEEDED, PLTRELSZ, HASH, STRTAB, SYMTAB, RELA, RELASZ = 1, 2, 4, 5, 6, 7, 8
    STRSZ, SYMENT, SONAME, RPATH, REL, RELSZ, PLTREL = 10, 11, 14, 15, 17, 18, 20
    TEXTREL, JMPREL, RUNPATH, FLAGS = 22, 23, 29, 30
    GNU_HASH, VERSYM, VERDEF, VERNEED = 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFE


class Strings:
    """The string table of the dynamic section.

    Attributes:
        text: The table, a character a byte.
        budget: How many characters may still be taken: names may overlap, and a million of them may be the same long one.
    """

    def __init__(self, file: ElfFile, table: bytes) -> None:
        self.file = file
        self.text = table.decode("latin-1")
        self.budget = 2 * file.size

    def get(self, offset: int) -> str:
        """The name at an offset."""
        end = self.text.find("\0", offset, offset + _NAME_LIMIT + 1)
        if end < 0:
            raise self.file.damaged("a name without an end")
        self.budget -= end - offset
        if self.budget < 0:
            raise self.file.damaged("more names than it has room for")
        return readable(self.text[offset:end])


def readable(name: str) -> str:
    r"""A name whose characters are bytes, as UTF-8.

    What is not UTF-8 becomes `\xff`: two names stay two, which a replacement character would not leave them, and each
    can be printed and be JSON, which a surrogate cannot.
    """
    return name if name.isascii() else name.encode("latin-1").decode(errors="backslashreplace")


_STRINGS_LIMIT = 128 * 1024 * 1024


class Dynamic:
    """The dynamic section: of each tag the last value, as the loader takes it.

    Attributes:
        tags: The values by tag.
        strings: The string table.
        needed: The libraries to load, in order.
    """

    def __init__(self, file: ElfFile) -> None:
        self.file = file
        self.tags: dict[int, int] = {}
        needed = []
        for tag, value in self._entries():
            self.tags[tag] = value
            if tag == Tag.NEEDED:
                needed.append(value)
        self.strings = Strings(file, self._string_table())
        self.needed = tuple(self.strings.get(value) for value in needed)

    def _entries(self) -> Iterator[tuple[int, int]]:
        segment = next((item for item in reversed(self.file.segments) if item.kind == _DYNAMIC_SEGMENT), None)
        if segment is None or not segment.size:
            if self.file.shared:
                raise ElfError(
                    "a shared object without a dynamic section",
                    wanted="one that can be loaded",
                    where=self.file.where,
                    hint="If it is a detached debug file, leave it out.",
                )
            return
        # The loader goes by the address, and on to the null entry, whatever the segment's size.
        found = self.file.locate(segment.address)
        layout = f"{self.file.order}2{self.file.word}"
        entry = struct.calcsize(layout)
        count = min(len(found) // entry, ENTRIES_LIMIT)
        for tag, value in struct.iter_unpack(layout, self.file.take(found.start, count * entry)):
            if not tag:
                return
            yield tag, value
        raise self.file.damaged("a dynamic section without an end")

    def _string_table(self) -> bytes:
        if Tag.STRTAB not in self.tags:
            return b""
        address = self.tags[Tag.STRTAB]
        # The loader does without the size.
        size = self.tags.get(Tag.STRSZ, len(self.file.locate(address)))
        if size > _STRINGS_LIMIT:
            raise ElfError(f"{size} bytes of names", wanted=f"at most {_STRINGS_LIMIT}", where=self.file.where)
        return self.file.take_at(address, size)

    def string(self, tag: int) -> str | None:
        """The string that a tag names."""
        return self.strings.get(self.tags[tag]) if tag in self.tags else None


class Versions:
    """The symbol versions a file needs and defines.

    Attributes:
        needs: The versions needed, sorted.
        defines: The names of the versions defined.
        names: Name and library (None for its own) of each version by its number in the symbols' version table.
    """

    def __init__(self, dynamic: Dynamic) -> None:
        self._dynamic = dynamic
        self._file = dynamic.file
        self._budget = ENTRIES_LIMIT
        self.names: dict[int, tuple[str, str | None]] = {}
        self.defines = frozenset(self._defines())
        # Needed twice, it is as needed as the stronger says.
        needs: dict[tuple[str, str], bool] = {}
        for library, version, weak in self._needs():
            needs[library, version] = weak and needs.get((library, version), True)
        self.needs = tuple(
            VersionNeed(library=library, version=version, weak=weak)
            for (library, version), weak in sorted(needs.items())
        )

    def _needs(self) -> Iterator[tuple[str, str, bool]]:
        for rest, (revision, _, name, first, _) in self._chain(Tag.VERNEED, "2H3I"):
            self._known(revision)
            library = self._dynamic.strings.get(name)
            for _, (_, flags, number, label, _) in self._walk(rest[first:], "I2H2I"):
                version = self._dynamic.strings.get(label)
                self.names[number & 0x7FFF] = (version, library)
                yield library, version, bool(flags & _WEAK)

    def _defines(self) -> Iterator[str]:
        for rest, (revision, flags, number, _, _, first, _) in self._chain(Tag.VERDEF, "4H3I"):
            self._known(revision)
            [label] = self._unpack("I", rest[first:])
            version = self._dynamic.strings.get(label)
            # The base version is the file's own name.
            if not flags & _BASE:
                self.names[number & 0x7FFF] = (version, None)
                yield version

    def _known(self, revision: int) -> None:
        if revision != 1:
            raise self._file.damaged("its symbol versions")

    def _chain(self, tag: int, layout: str) -> Iterator[tuple[range, tuple[int, ...]]]:
        if tag in self._dynamic.tags:
            yield from self._walk(self._file.locate(self._dynamic.tags[tag]), layout)

    def _walk(self, rest: range, layout: str) -> Iterator[tuple[range, tuple[int, ...]]]:
        """The entries of a chain, whose last field is the distance of the next; they may overlap, never go back."""
        step = 1
        while step:
            self._budget -= 1
            if self._budget < 0:
                raise self._file.damaged("more symbol versions than any honest one")
            entry = self._unpack(layout, rest)
            yield rest, entry
            step = entry[-1]
            rest = rest[step:]

    def _unpack(self, layout: str, rest: range) -> tuple[int, ...]:
        if len(rest) < struct.calcsize("=" + layout):
            raise self._file.damaged("its symbol versions")
        return self._file.unpack(layout, rest.start)
