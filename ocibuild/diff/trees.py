"""Two images as a container sees them: the files that remain when all layers are applied, whatever layer they are in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ocibuild.contents import place_members
from ocibuild.layer.read import Budget, Member

from .archives import alone, member_difference
from .difference import Difference
from .files import explain
from .layers import Side
from .records import Record, read_archive

__all__ = ["tree_differences"]

_FOLDER_MODE = 0o755


@dataclass(frozen=True, slots=True)
class _Tree:
    """The files of one side by path, each with the number of the member that has its content."""

    side: Side
    files: dict[str, tuple[int, Record]]
    folders: set[str]

    @classmethod
    def read(cls, side: Side) -> _Tree:
        """Apply all layers."""
        records: list[Record] = []
        placed = []
        budget = Budget(*(layer.blob.size for layer in side.layers))
        starts = []
        for layer in side.layers:
            starts.append(len(records))
            records += read_archive(layer.source, layer.blob, layer.diff_id, budget).records
            placed += [(layer.number, at, record.member) for at, record in enumerate(records[starts[-1] :])]
        files = {}
        for path, item in place_members(placed).items():
            layer_number, at = item.content
            number = starts[layer_number] + at
            files[path] = number, records[number]
        return cls(side, files, {folder for path in files for folder in _parents(path)})

    def members(self) -> Iterator[tuple[int, Member, BinaryIO]]:
        """Every member of every layer, numbered through."""
        start = 0
        for layer in self.side.layers:
            count = 0
            for number, member, content in layer.members():
                count = number + 1
                yield start + number, member, content
            start += count

    def implies(self, path: str, record: Record) -> bool:
        """Whether a folder is there though no member says so, as runtimes make it."""
        member = record.member
        return (
            member.kind == "directory"
            and path in self.folders
            and (member.mode, member.uid, member.gid) == (_FOLDER_MODE, 0, 0)
        )


def tree_differences(a: Side, b: Side) -> tuple[list[Difference], int]:
    """What a container sees otherwise, and how many files are the same."""
    ours, theirs = _Tree.read(a), _Tree.read(b)
    changes: dict[str, tuple[int, int]] = {}
    fields: dict[str, Difference] = {}
    same = 0
    for path in ours.files.keys() & theirs.files.keys():
        (one, first), (other, second) = ours.files[path], theirs.files[path]
        difference = member_difference(path, first, second, semantic=True)
        if difference is not None:
            fields[path] = difference
        if first.content != second.content and first.member.kind == second.member.kind:
            changes[path] = one, other
        elif difference is None and first.content:
            same += 1
    explained = explain(dict(sorted(changes.items())), ours.members, theirs.members)
    found = []
    for path in sorted(changes.keys() | fields.keys()):
        about = explained.get(path) or Difference(
            kind="file", where=path, note="not looked into" if path in changes else ""
        )
        extra = fields[path].below if path in fields else ()
        kind = "entry" if path not in changes else about.kind
        found.append(
            Difference(
                kind=kind,
                where=path,
                a=about.a,
                b=about.b,
                note=about.note,
                lines=about.lines,
                below=about.below + extra,
            )
        )
    gone = [(path, record) for path, (_, record) in ours.files.items() if path not in theirs.files]
    new = [(path, record) for path, (_, record) in theirs.files.items() if path not in ours.files]
    found += alone(
        [item for item in gone if not theirs.implies(*item)], [item for item in new if not ours.implies(*item)]
    )
    return found, same


def _parents(path: str) -> Iterator[str]:
    while (slash := path.rfind("/")) > 0:
        path = path[:slash]
        yield path
