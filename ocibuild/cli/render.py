"""What people see: trees and tables that line up, and colour on a terminal.

Text that comes from an image is never printed before its control characters are gone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

import msgspec

__all__ = ["Node", "Style", "human_size", "message", "print_json", "printable", "short_digest", "show_tree", "table"]

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Node(msgspec.Struct):
    """A line of a tree, the lines that belong to it, and those below it."""

    text: str
    children: list[Node] = msgspec.field(default_factory=list)
    lines: list[str] = msgspec.field(default_factory=list)

    def add(self, text: str) -> Node:
        """A new line below this one."""
        child = Node(text)
        self.children.append(child)
        return child


class Style:
    """Colours for a stream; none where it is no terminal, or when they are not wanted."""

    def __init__(self, *, no_color: bool, stream: TextIO | None = None) -> None:
        out = stream or sys.stdout
        self._on = out is not None and out.isatty() and not no_color and not os.environ.get("NO_COLOR")

    def __call__(self, text: str, *names: str) -> str:
        """The text in the named colours."""
        if not self._on:
            return text
        return f"\x1b[{';'.join(_CODES[name] for name in names)}m{text}\x1b[0m"


def show_tree(node: Node, lead: str = "") -> Iterator[str]:
    """A tree's lines."""
    yield node.text
    for line in node.lines:
        yield f"{lead}{'│  ' if node.children else '   '}{line}"
    for child in node.children:
        last = child is node.children[-1]
        below = show_tree(child)
        yield f"{lead}{'└─ ' if last else '├─ '}{next(below)}"
        for line in below:
            yield f"{lead}{'   ' if last else '│  '}{line}"


def table(rows: Sequence[Sequence[str]], *, indent: str = "") -> Iterator[str]:
    """Rows with their columns lined up; the last column is as long as it is."""
    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        yield (indent + "  ".join([*cells, row[-1]])).rstrip()


def printable(text: str) -> str:
    r"""The text on one line, with every character that could steer a terminal written out.

    Example:
        >>> printable("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    return "".join(
        item if item.isprintable() else item.encode("unicode_escape", "surrogatepass").decode() for item in text
    )


def human_size(size: float) -> str:
    """Bytes for people, in powers of ten as container tools print them.

    Example:
        >>> human_size(328328)
        '328.3 kB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":  # noqa: PLR2004
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def short_digest(digest: str) -> str:
    """The beginning of a digest, enough to tell it from others on one screen.

    Example:
        >>> short_digest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        'sha256:e3b0c44298fc'
    """
    return digest[: len("sha256:") + 12]


def message(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr)


def print_json(value: Mapping[str, object]) -> None:
    """One JSON object on standard output, in ASCII: no character of it can steer a terminal."""
    import json

    print(json.dumps(value, indent=2))
