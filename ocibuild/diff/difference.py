"""Differences: a tree from the index down, each one saying what is compared, where, and how the two sides differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Difference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not the same on both sides; what is below it says it more closely.

    Attributes:
        kind: What is compared: `index`, `image`, `annotation`, `label`, `config`, `layer`, `codec`, `order`, `header`, `pax`,
            `file`, `folder`, `link`, `text`, `section`, `symbol`, `control key` and so on.
        where: Its name: a platform, a path in the image, a field, a section.
        a: The value on the first side; None where it is not there.
        b: The value on the second side.
        note: What a person should know about it, in a few words.
        lines: A unified diff or the like, ready to be shown.
        below: The differences it is made of.
    """

    kind: str
    where: str = ""
    a: str | None = None
    b: str | None = None
    note: str = ""
    lines: tuple[str, ...] = ()
    below: tuple[Difference, ...] = ()

    def walk(self) -> Iterator[Difference]:
        """This difference and all below it, each before its own."""
        todo = [self]
        while todo:
            item = todo.pop()
            yield item
            todo.extend(reversed(item.below))

    def to_dict(self) -> dict[str, Any]:
        """The difference as `--json` prints it."""
        fields: dict[str, Any] = {"kind": self.kind, "where": self.where, "a": self.a, "b": self.b}
        if self.note:
            fields["note"] = self.note
        if self.lines:
            fields["lines"] = list(self.lines)
        if self.below:
            fields["below"] = [item.to_dict() for item in self.below]
        return fields
