"""The sections of two ELF files, matched by name, or their segments: what was added, removed, resized or changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ocibuild.elf.dynamic import readable
from ocibuild.elf.headers import ElfFile, Section, Segment

from .difference import Difference
from .functions import Functions
from .spans import Bytes, Change, Work, compare_spans, describe_count

__all__ = ["Part", "gap_differences", "headers", "parts", "section_differences"]

_NULL, _NO_BITS = 0, 8
_LOAD = 1
_NAMES_LIMIT = 16 * 1024 * 1024
_NAME_LIMIT = 200
_FUNCTIONS_SHOWN = 3
_PLACES_LIMIT = 5
_TOLD = 500


@dataclass(frozen=True, slots=True)
class Part:
    """A section, a segment or a header.

    Attributes:
        kind: `section`, `segment` or `elf header`.
        name: What it is called, with a number where others are called so too.
        offset: Where it is in the file.
        stored: The bytes it has there.
        size: Its size.
        address: Where it is loaded, else 0.
    """

    kind: str
    name: str
    offset: int
    stored: int
    size: int
    address: int


def parts(file: ElfFile, *, by_segments: bool) -> dict[tuple[str, int], Part]:
    """The sections, or the segments that are loaded, by name and number of that name."""
    found: dict[tuple[str, int], Part] = {}
    seen: Counter[str] = Counter()
    names = b"" if by_segments else _names(file)
    rows: Sequence[Section | Segment] = file.segments if by_segments else file.sections
    for place, item in enumerate(rows):
        if item.kind != _LOAD if by_segments else item.kind == _NULL:
            continue
        name = "LOAD" if by_segments else _name(names, item[0]) or f"section {place}"
        seen[name] += 1
        stored = 0 if item.kind == _NO_BITS and not by_segments else max(0, min(item.size, file.size - item.offset))
        shown = f"{name} #{seen[name]}" if seen[name] > 1 or by_segments else name
        kind = "segment" if by_segments else "section"
        found[name, seen[name]] = Part(kind, shown, item.offset, stored, item.size, item.address)
    return found


def _names(file: ElfFile) -> bytes:
    if not 0 < file.names < len(file.sections):
        return b""
    table = file.sections[file.names]
    fits = table.kind != _NO_BITS and table.offset + table.size <= file.size and table.size <= _NAMES_LIMIT
    return file.take(table.offset, table.size) if fits else b""


def _name(names: bytes, at: int) -> str:
    text = names[at : at + _NAME_LIMIT]
    end = text.find(0)
    return readable((text if end < 0 else text[:end]).decode("latin-1")) + "…" * (end < 0 and len(text) == _NAME_LIMIT)


def headers(file: ElfFile) -> list[Part]:
    """The file's own header and its two tables."""
    wide = file.wide
    segments, sections = file.unpack(f"2{file.word}", 32 if wide else 28)
    found = [("ELF header", 0, 64 if wide else 52)]
    found.append(("program headers", segments, (56 if wide else 32) * len(file.segments)))
    found.append(("section headers", sections, (64 if wide else 40) * len(file.sections)))
    return [Part("elf header", name, offset, size, size, 0) for name, offset, size in found if size]


def section_differences(
    a: Bytes,
    b: Bytes,
    ours: Mapping[tuple[str, int], Part],
    theirs: Mapping[tuple[str, int], Part],
    functions: Functions,
    work: Work,
) -> Iterator[Difference]:
    """What was added, removed, resized or changed, in the order of the first file."""
    told = 0
    for key, one in ours.items():
        other = theirs.get(key)
        if other is None:
            yield Difference(kind=one.kind, where=one.name, a=f"{one.size:,} bytes")
        elif (one.size, one.stored) != (other.size, other.stored):
            note = ""
            shared = min(one.stored, other.stored)
            if shared and work.spend(shared):
                change = compare_spans(a, one.offset, b, other.offset, shared, first_only=True)
                place = change and _place(change, one, functions)
                note = f"the first difference {place}" if place else "one is the beginning of the other"
            yield Difference(
                kind=one.kind, where=one.name, a=f"{one.size:,} bytes", b=f"{other.size:,} bytes", note=note
            )
        elif told >= _TOLD and work.spend(one.stored):
            # Only counted: the few that are shown are among the first.
            if compare_spans(a, one.offset, b, other.offset, one.stored, first_only=True):
                yield Difference(kind=one.kind, where=one.name, note="differs")
        elif found := part_difference(a, b, one, other, functions, work):
            told += 1
            yield found
    for key, other in theirs.items():
        if key not in ours:
            yield Difference(kind=other.kind, where=other.name, b=f"{other.size:,} bytes")


def part_difference(a: Bytes, b: Bytes, one: Part, other: Part, functions: Functions, work: Work) -> Difference | None:
    """How two parts of one size differ."""
    if not work.spend(one.stored):
        return None
    change = compare_spans(a, one.offset, b, other.offset, one.stored)
    if change is None:
        return None
    count = describe_count(change, one.stored)
    return Difference(kind=one.kind, where=one.name, note=f"{count}, the first {_place(change, one, functions)}")


def _place(change: Change, part: Part, functions: Functions) -> str:
    """Where the first byte that differs is, and in which functions those are that were looked at."""
    text = f"at {change.first:#x}"
    if part.address:
        text += f", address {part.address + change.first:#x}"
    text += f" ({change.values[0]:02x} → {change.values[1]:02x})"
    runs = change.runs[:1] if change.more else change.runs
    places = ((part.address + start, part.address + end) for start, end in runs if part.address)
    names = functions.within(places, _FUNCTIONS_SHOWN + 1)
    more = " and others" * (len(names) > _FUNCTIONS_SHOWN)
    return f"{text}, in {', '.join(names[:_FUNCTIONS_SHOWN])}{more}" if names else text


def gap_differences(
    a: Bytes, b: Bytes, covered: list[Part], other: list[Part], functions: Functions, work: Work
) -> Iterator[Difference]:
    """What differs in the headers and in the bytes outside all sections, where both files are laid out alike."""
    places = [{(item.offset, item.stored, item.address) for item in side} for side in (covered, other)]
    if places[0] != places[1]:
        return
    if len(a) != len(b):
        texts = (f"{len(data):,} bytes" for data in (a, b))
        yield Difference(kind="padding", where="end of the file", a=next(texts), b=next(texts))
    shown = [item for item in covered if item.kind == "elf header"]
    at = 0
    for item in [*sorted(covered, key=lambda item: item.offset), Part("", "", min(len(a), len(b)), 1, 0, 0)]:
        if item.stored and item.offset > at:
            shown.append(Part("padding", f"at {at:#x} of the file", at, item.offset - at, item.offset - at, 0))
        if item.stored:
            at = max(at, item.offset + item.stored)
    count = 0
    for item in shown:
        if found := part_difference(a, b, item, item, functions, work):
            count += 1
            if count <= _PLACES_LIMIT:
                yield found
    if count > _PLACES_LIMIT:
        yield Difference(kind="padding", note=f"and {count - _PLACES_LIMIT:,} places more")
