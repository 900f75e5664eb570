"""What the loader does not read: the build ID and the debug sections."""

from __future__ import annotations

from collections.abc import Iterator

from .headers import ENTRIES_LIMIT, ElfFile

__all__ = ["build_id", "debug_size"]

_BUILD_ID_LIMIT = 1024
_NOTES = 4
_BUILD_ID = 3
_OWNER = b"GNU\0"
_WIDE = 8
_STRING_TABLE, _NO_BITS = 3, 8


def debug_size(file: ElfFile) -> int:
    """The bytes of the sections that only a debugger reads."""
    if not file.sections or not file.names:
        return 0
    if file.names >= len(file.sections) or file.sections[file.names].kind != _STRING_TABLE:
        raise file.damaged("its section names")
    names = file.take(file.sections[file.names].offset, file.sections[file.names].size)
    total = 0
    for item in file.sections:
        if item.kind != _NO_BITS and names.startswith((b".debug_", b".zdebug_"), item.name):
            file.check(item.offset, item.size)
            total += item.size
    # Sections may overlap.
    return min(total, file.size)


def build_id(file: ElfFile) -> str | None:
    """The GNU build ID, in hexadecimal."""
    for kind, owner, start, size in _notes(file):
        if kind == _BUILD_ID and owner == _OWNER:
            if size > _BUILD_ID_LIMIT:
                raise file.damaged(f"a build ID of {size} bytes")
            return file.take(start, size).hex()
    return None


def _notes(file: ElfFile) -> Iterator[tuple[int, bytes, int, int]]:
    """The kind and owner of each note, and where what it says is."""
    budget = ENTRIES_LIMIT
    for segment in file.segments:
        if segment.kind != _NOTES:
            continue
        file.check(segment.offset, segment.size)
        at, end = segment.offset, segment.offset + segment.size
        pad = 7 if segment.align == _WIDE else 3
        while at + 12 <= end:
            name_size, size, kind = file.unpack("3I", at)
            start = at + (12 + name_size + pad & ~pad)
            budget -= 1
            if budget < 0:
                raise file.damaged("more notes than any honest one")
            # Linkers have merged notes of two alignments: what then makes no sense is no reason to refuse the file.
            if start + size > end:
                break
            yield kind, file.take(at + 12, min(name_size, len(_OWNER) + 1)), start, size
            at = start + (size + pad & ~pad)
