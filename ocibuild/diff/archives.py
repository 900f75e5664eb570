"""Two layers' archives, member by member: what is in one alone, and which field of which header is another."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from .difference import Difference
from .files import Change
from .records import Archive, Record

__all__ = ["alone", "archive_differences", "implied", "join", "member_differences"]

_SINGLE = 3
"""As many entries with the same difference are shown one by one; more are shown together."""
_LISTED = 20
_FIELDS = 100
_NAMED = 3
_ORDINARY = (0o755, 0, 0)
_WEIGHTS = {"pax": 1, "tar": 2}

_Entry = tuple[str, Record]
_Key = tuple[str, int]
_Values = tuple[str, str | None, str | None]
"""A path, and what both sides say there."""


def archive_differences(a: Archive, b: Archive) -> tuple[list[Difference], list[Change]]:
    """The differences of two archives, the most telling first, and the files whose content differs.

    A file whose content differs stands in both: the caller looks into it.
    """
    ours, theirs = _numbered(a.records), _numbered(b.records)
    both = [key for key in ours if key in theirs]
    pairs = ((key[0], (ours[key], a.records[ours[key]]), (theirs[key], b.records[theirs[key]])) for key in both)
    headers, changes, _ = member_differences(pairs)
    sides = ({path for path, _ in keys} for keys in (ours, theirs))
    gone = [(key[0], a.records[number]) for key, number in ours.items() if key not in theirs]
    new = [(key[0], b.records[number]) for key, number in theirs.items() if key not in ours]
    found = [*alone(gone, new, *sides), *headers, *_order(both, [key for key in theirs if key in ours])]
    if a.tail != b.tail:
        texts = (f"{side.tail:,} bytes of zeros" for side in (a, b))
        found.append(Difference(kind="tar", where="end of the archive", a=next(texts), b=next(texts), note="padding"))
    if a.after != b.after:
        where = "headers after the last entry"
        found.append(Difference(kind="tar", where=where, a=a.after or "none", b=b.after or "none"))
    return found, changes


def member_differences(
    pairs: Iterable[tuple[str, tuple[int, Record], tuple[int, Record]]], *, semantic: bool = False
) -> tuple[list[Difference], list[Change], int]:
    """How the headers of members differ, the files whose content does, and how many files are the same.

    Args:
        pairs: A path, and its member on both sides with the number of the one that has its content.
        semantic: Leave out what has no effect on a container.
    """
    changes = []
    fields: dict[tuple[str, str], list[_Values]] = {}
    same = 0
    for path, (one, first), (other, second) in pairs:
        if first.content != second.content and first.member.kind == second.member.kind:
            changes.append(Change(path, one, other, (first.member.size, second.member.size)))
        found = [item for item in _fields(first, second) if not semantic or _matters(*item[:2])]
        for kind, where, left, right in found:
            fields.setdefault((kind, where), []).append((path, left, right))
        same += bool(first.content) and first.content == second.content and not found
    return list(_headers(fields)), changes, same


def alone(
    gone: Sequence[_Entry], new: Sequence[_Entry], ours: Collection[str] = (), theirs: Collection[str] = ()
) -> Iterator[Difference]:
    """What is on one side alone; a file with the same content on both sides has another name.

    Args:
        gone: What the first side alone has.
        new: What the second side alone has.
        ours: All paths of the first side.
        theirs: All paths of the second.
    """
    by_content: dict[str, list[str]] = {}
    for path, record in new:
        if record.content and record.member.size:
            by_content.setdefault(record.content, []).append(path)
    # Those that come first are the first to be taken.
    for targets in by_content.values():
        targets.reverse()
    moved: set[str] = set()
    left = []
    for path, record in gone:
        if record.content and (names := by_content.get(record.content)):
            target = names.pop()
            moved.add(target)
            if len(moved) <= _LISTED:
                yield Difference(kind="file", where="name", a=path, b=target, note="the same content")
        else:
            left.append((path, record))
    if len(moved) > _LISTED:
        yield Difference(kind="files", note=f"and {len(moved) - _LISTED} more have another name")
    yield from _listed(_without_folders(left, gone, theirs), first=True)
    yield from _listed(_without_folders([item for item in new if item[0] not in moved], new, ours), first=False)


def implied(path: str, record: Record, paths: Sequence[str]) -> bool:
    """Whether a folder is no more than what files in it need: runtimes make it so where no member says so.

    Args:
        path: Its path.
        record: Its member.
        paths: The files, sorted.
    """
    member = record.member
    if member.kind != "directory" or (member.mode, member.uid, member.gid) != _ORDINARY:
        return False
    lead = f"{path}/" if path else ""
    at = bisect_left(paths, lead)
    return at < len(paths) and paths[at].startswith(lead)


def _without_folders(shown: Sequence[_Entry], all_: Sequence[_Entry], others: Collection[str]) -> list[_Entry]:
    """The entries but for folders that are there only because something in them is, which is shown."""
    here = sorted(path for path, record in all_ if record.member.kind != "directory")
    there = sorted(others)
    return [item for item in shown if not (implied(*item, here) and not implied(*item, there))]


def _listed(records: Sequence[_Entry], *, first: bool) -> Iterator[Difference]:
    """Members of one side."""
    for path, record in records[:_LISTED]:
        text = _summary(record)
        yield Difference(
            kind=record.member.kind, where=path or "/", a=text if first else None, b=None if first else text
        )
    if len(records) > _LISTED:
        text = f"{len(records) - _LISTED} entries"
        yield Difference(kind="files", where="and more", a=text if first else None, b=None if first else text)


def _numbered(records: Sequence[Record]) -> dict[_Key, int]:
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
    for name in ("uid", "gid", "mtime", "uname", "gname", "device"):
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
    if isinstance(value, tuple):
        return f"{value[0]}:{value[1]}"
    return str(value) if value not in ("", None) else "(none)"


def _matters(kind: str, where: str) -> bool:
    """Whether a field has an effect on a container: not times, names of owners, and how a header is written."""
    if kind == "pax":
        # What was left out may be one of them.
        return where.endswith("…") or ".xattr." in where.lower() or "acl" in where.lower()
    return kind == "link" or where in ("type", "mode", "uid", "gid", "device")


def _headers(fields: dict[tuple[str, str], list[_Values]]) -> Iterator[Difference]:
    """The fields that differ: by entry where there are few, by field where there are many."""
    single: dict[str, list[Difference]] = {}
    many = []
    for (kind, where), items in sorted(fields.items(), key=lambda item: (_WEIGHTS.get(item[0][0], 0), item[0])):
        if len(items) > _SINGLE:
            many.append(_together(kind, where, items))
        else:
            for path, left, right in items:
                single.setdefault(path, []).append(Difference(kind=kind, where=where, a=left, b=right))
    for path, below in list(single.items())[:_LISTED]:
        yield Difference(kind="entry", where=path or "/", below=tuple(below))
    if len(single) > _LISTED:
        yield Difference(kind="entries", note=f"and {len(single) - _LISTED} more")
    yield from many[:_FIELDS]
    if len(many) > _FIELDS:
        yield Difference(kind="entries", note=f"and {len(many) - _FIELDS} more fields")


def _together(kind: str, where: str, items: list[_Values]) -> Difference:
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


def _order(left: list[_Key], right: list[_Key]) -> Iterator[Difference]:
    """Whether the members that both have come in the same order."""
    places = [at for at, (one, other) in enumerate(zip(left, right, strict=True)) if one != other]
    if places:
        note = f"entry {places[0] + 1} and {len(places) - 1} more are at another place"
        one, other = (keys[places[0]][0] + _sorted(keys) for keys in (left, right))
        yield Difference(kind="order", where="of entries", a=one, b=other, note=note)


def _sorted(keys: list[_Key]) -> str:
    paths = [path.encode(errors="surrogateescape") for path, _ in keys]
    return " (sorted)" if paths == sorted(paths) else " (not sorted)"


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
