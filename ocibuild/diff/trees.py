"""Two images as a container sees them: the files that remain when all layers are applied, whatever layer they are in."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from ocibuild.contents import place_members
from ocibuild.layer.read import Member

from .archives import alone, implied, join, member_differences
from .difference import Difference
from .files import explain
from .layers import Side
from .records import Record

__all__ = ["tree_differences"]


@dataclass(frozen=True, slots=True)
class _Tree:
    """The files of one side by path, each with the number of the member that has its content."""

    side: Side
    files: dict[str, tuple[int, Record]]

    @classmethod
    def read(cls, side: Side) -> _Tree:
        """Apply all layers."""
        layers = [layer.archive().records for layer in side.layers]
        starts = [sum(map(len, layers[:number])) for number in range(len(layers))]
        members = (
            (number, at, record.member) for number, records in enumerate(layers) for at, record in enumerate(records)
        )
        files = {}
        for path, item in place_members(members, root=True).items():
            (layer, at), (of, header) = item.content, item.headers
            record = replace(layers[layer][at], member=item.member, pax=layers[of][header].pax)
            files[path] = starts[layer] + at, record
        return cls(side, files)

    def members(self, wanted: Collection[int]) -> Iterator[tuple[int, Member, BinaryIO]]:
        """The members of those numbers, of all layers numbered through."""
        start = 0
        for layer in self.side.layers:
            end = start + len(layer.archive().records)
            here = {number - start for number in wanted if start <= number < end}
            for number, member, content in layer.members(here):
                yield start + number, member, content
            start = end


def tree_differences(a: Side, b: Side) -> tuple[list[Difference], int]:
    """What a container sees otherwise, and how many files are the same."""
    ours, theirs = _Tree.read(a), _Tree.read(b)
    pairs = ((path, item, theirs.files[path]) for path, item in ours.files.items() if path in theirs.files)
    found, changes, same = member_differences(pairs, semantic=True)
    found = join(found, explain(changes, ours.members, theirs.members))
    gone, new = (
        [
            (path, record)
            for path, (_, record) in one.files.items()
            if path not in other.files and not implied(path, record, paths)
        ]
        for one, other, paths in ((ours, theirs, sorted(theirs.files)), (theirs, ours, sorted(ours.files)))
    )
    return [*found, *alone(gone, new, ours.files, theirs.files)], same
