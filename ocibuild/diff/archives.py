"""Two layers' archives, member by member: what is in one alone, and which field of which header is another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from .difference import Difference
from .records import Archive, Record

__all__ = ["Change", "alone", "archive_differences", "join", "member_difference"]

_SINGLE = 3
"""As many entries with the same difference are shown one by one; more are shown together."""
_LISTED = 20
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Change:
    """A file whose content is not the same, to be looked into.

    Attributes:
        path: Where it is in the image.
        a: The number of its member in the first archive.
        b: The same in the second.
    """

    path: str
    a: int
    b: int


def archive_differences(a: Archive, b: Archive) -> tuple[list[Difference], list[Change]]:
    """The differences of two archives, the most telling first, and the files whose content differs.

    A file whose content differs stands in both: the caller looks into it.
    """
    ours, theirs = _numbered(a.records), _numbered(b.records)
    both = [key for key in ours if key in theirs]
    changes = []
    fields: dict[tuple[str, str, str], list[tuple[str, str | None, str | None]]] = {}
    for path, count in both:
        one, other = ours[path, count], theirs[path, count]
        first, second = a.records[one], b.records[other]
        if first.content != second.content and first.member.kind == second.member.kind:
            changes.append(Change(path, one, other))
        for kind, where, left, right in _fields(first, second):
            fields.setdefault((kind, where, _weight(kind)), []).append((path, left, right))
    gone = [(key[0], a.records[number]) for key, number in ours.items() if key not in theirs]
    new = [(key[0], b.records[number]) for key, number in theirs.items() if key not in ours]
    found = [*alone(gone, new)]
    found += _headers(fields)
    found += _order(list(ours), list(theirs))
    if a.tail != b.tail:
        found.append(_tail(a.tail, b.tail))
    return found, changes


def member_difference(path: str, a: Record, b: Record, *, semantic: bool = False) -> Difference | None:
    """How two members at one path differ, their content aside; None where they do not."""
    found = [
        Difference(kind=kind, where=where, a=left, b=right)
        for kind, where, left, right in _fields(a, b)
        if not (semantic and not _matters(kind, where))
    ]
    return Difference(kind=b.member.kind, where=path, below=tuple(found)) if found else None


def alone(gone: Sequence[tuple[str, Record]], new: Sequence[tuple[str, Record]]) -> Iterator[Difference]:
    """What is on one side alone; a file with the same content on both sides has another name."""
    by_content: dict[str, list[str]] = {}
    for path, record in new:
        if record.content and record.member.size:
            by_content.setdefault(record.content, []).append(path)
    moved: set[str] = set()
    left = []
    for path, record in gone:
        if record.content and (targets := by_content.get(record.content)):
            target = targets.pop(0)
            moved.add(target)
            yield Difference(kind="file", where="name", a=path, b=target, note="the same content")
        else:
            left.append((path, record))
    yield from _listed(left, first=True)
    yield from _listed([item for item in new if item[0] not in moved], first=False)


def _listed(records: Sequence[tuple[str, Record]], *, first: bool) -> Iterator[Difference]:
    """Members of one side."""
    for path, record in records[:_LISTED]:
        text = _summary(record)
        yield Difference(
            kind=record.member.kind, where=path or "/", a=text if first else None, b=None if first else text
        )
    if len(records) > _LISTED:
        text = f"{len(records) - _LISTED} entries"
        yield Difference(kind="files", where="and more", a=text if first else None, b=None if first else text)


def _numbered(records: Sequence[Record]) -> dict[tuple[str, int], int]:
    """The number of each member by its path and how often that path came before."""
    seen: Counter[str] = Counter()
    found = {}
    for number, record in enumerate(records):
        path = record.member.path
        found[path, seen[path]] = number
        seen[path] += 1
    return found


def _fields(a: Record, b: Record) -> Iterator[tuple[str, str, str | None, str | None]]:
    """Every field of the headers that differs: kind, name, and both values."""
    one, other = a.member, b.member
    if one.kind != other.kind:
        yield "header", "type", _summary(a), _summary(b)
    elif one.link != other.link:
        yield "link", "target", one.link, other.link
    if one.mode != other.mode:
        yield "header", "mode", f"{one.mode:04o}", f"{other.mode:04o}"
    for name in ("uid", "gid", "mtime", "uname", "gname"):
        left, right = getattr(one, name), getattr(other, name)
        if left != right:
            yield "header", name, _shown(left), _shown(right)
    yield from _pairs("pax", dict(a.pax), dict(b.pax))
    if a.style != b.style:
        ours, theirs = dict(a.style), dict(b.style)
        if one.kind != other.kind:
            theirs["type flag"] = ours["type flag"]
        # The names of extended headers that one side alone has follow from that.
        both = ours.keys() & theirs.keys()
        yield from _pairs("tar", {key: ours[key] for key in both}, {key: theirs[key] for key in both})


def _pairs(kind: str, a: dict[str, str], b: dict[str, str]) -> Iterator[tuple[str, str, str | None, str | None]]:
    for key in sorted(a.keys() | b.keys()):
        if a.get(key) != b.get(key):
            yield kind, key, a.get(key), b.get(key)


def _shown(value: object) -> str:
    return str(value) if value != "" else "(none)"


def _matters(kind: str, where: str) -> bool:
    """Whether a field has an effect on a container: not times, names of owners, and how a header is written."""
    if kind == "pax":
        return ".xattr." in where.lower() or "acl" in where.lower()
    return kind == "link" or where in ("type", "mode", "uid", "gid")


def _weight(kind: str) -> str:
    return "1" if kind in ("link", "header") else "2" if kind == "pax" else "3"


def _headers(fields: dict[tuple[str, str, str], list[tuple[str, str | None, str | None]]]) -> Iterator[Difference]:
    """The fields that differ: by entry where there are few, by field where there are many."""
    single: dict[str, list[Difference]] = {}
    many = []
    for (kind, where, weight), items in sorted(fields.items(), key=lambda item: (item[0][2], item[0])):
        if len(items) > _SINGLE:
            many.append((weight, _together(kind, where, items)))
        else:
            for path, left, right in items:
                single.setdefault(path, []).append(Difference(kind=kind, where=where, a=left, b=right))
    for path, below in list(single.items())[:_LISTED]:
        yield Difference(kind="entry", where=path or "/", below=tuple(below))
    for _, item in sorted(many, key=lambda item: item[0]):
        yield item


def _together(kind: str, where: str, items: list[tuple[str, str | None, str | None]]) -> Difference:
    pairs = {(left, right) for _, left, right in items}
    names = ", ".join(path or "/" for path, _, _ in items[:_NAMED]) + (", …" if len(items) > _NAMED else "")
    path, left, right = items[0]
    if len(pairs) == 1:
        return Difference(kind=kind, where=where, a=left, b=right, note=f"{len(items)} entries: {names}")
    return Difference(kind=kind, where=where, a=left, b=right, note=f"at {path}; {len(items)} entries: {names}")


def _summary(record: Record) -> str:
    member = record.member
    if member.kind == "file":
        return f"file, {member.size:,} bytes"
    return f"{member.kind} to {member.link}" if member.link else member.kind


def _order(ours: Iterable[tuple[str, int]], theirs: Iterable[tuple[str, int]]) -> Iterator[Difference]:
    """Whether the members that both have come in the same order."""
    theirs = list(theirs)
    known = set(theirs)
    left = [key for key in ours if key in known]
    kept = set(left)
    right = [key for key in theirs if key in kept]
    if left == right:
        return
    at = next(number for number, (one, other) in enumerate(zip(left, right, strict=True)) if one != other)
    places = sum(one != other for one, other in zip(left, right, strict=True))
    yield Difference(
        kind="order",
        where="of entries",
        a=left[at][0] + _sorted(left),
        b=right[at][0] + _sorted(right),
        note=f"entry {at + 1} and {places - 1} more are at another place",
    )


def _sorted(keys: list[tuple[str, int]]) -> str:
    paths = [path.encode(errors="surrogateescape") for path, _ in keys]
    return " (sorted)" if paths == sorted(paths) else " (not sorted)"


def _tail(a: int, b: int) -> Difference:
    return Difference(
        kind="tar", where="end of the archive", a=f"{a:,} bytes of zeros", b=f"{b:,} bytes of zeros", note="padding"
    )


def join(found: list[Difference], explained: dict[str, Difference]) -> list[Difference]:
    """The differences with those of contents put to the entries they belong to, the contents first."""
    rest = []
    for item in found:
        if item.kind == "entry" and item.where in explained:
            about = explained[item.where]
            explained[item.where] = replace(about, below=(*about.below, *item.below))
        else:
            rest.append(item)
    return [*explained.values(), *rest]
