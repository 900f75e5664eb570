"""Two contents of one file: a unified diff of text, the keys of control files, sections and symbols of ELF files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import unified_diff

from ocibuild.errors import OcibuildError
from ocibuild.postgres.control import SIZE_LIMIT as CONTROL_LIMIT
from ocibuild.postgres.control import parse_control

from .difference import Difference
from .elf import elf_differences
from .spans import Bytes, compare_spans, describe_count

__all__ = ["content_difference"]

_TEXT_LIMIT = 4 * 1024 * 1024
_LINES_LIMIT = 2_000
_LINE_LIMIT = 400
_SHOWN_LIMIT = 200
_CONTEXT = 2


def content_difference(path: str, a: Bytes, b: Bytes) -> Difference:
    """How the content of a file differs.

    Args:
        path: Where it is in the image; the name says what a control file is.
        a: The first side's content, or a map of it.
        b: The second's.
    """
    size_a, size_b = f"{len(a):,} bytes", f"{len(b):,} bytes"
    below: tuple[Difference, ...] = ()
    lines: tuple[str, ...] = ()
    note = ""
    if a[:4] == b[:4] == b"\x7fELF":
        below, note = elf_differences(a, b, where=path)
    elif path.endswith(".control") and len(a) <= CONTROL_LIMIT and len(b) <= CONTROL_LIMIT:
        below = tuple(_keys(path, bytes(a[:]), bytes(b[:])))
    if not below:
        ours, theirs = _text(a), _text(b)
        if ours is not None and theirs is not None:
            lines, note = _unified(ours, theirs)
        else:
            note = _bytes(a, b)
    return Difference(kind="file", where=path, a=size_a, b=size_b, note=note, lines=lines, below=below)


def _keys(path: str, a: bytes, b: bytes) -> Iterator[Difference]:
    name = path.rpartition("/")[2].removesuffix(".control")
    try:
        ours, theirs = (parse_control(raw, name=name, where=path).values for raw in (a, b))
    except OcibuildError:
        return
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            yield Difference(kind="control key", where=key, a=ours.get(key), b=theirs.get(key))


def _text(data: Bytes) -> list[str] | None:
    if len(data) > _TEXT_LIMIT:
        return None
    raw = bytes(data[:])
    if b"\0" in raw:
        return None
    try:
        # Not splitlines: a line ends where editors and PostgreSQL end it, and a carriage return is a difference.
        *lines, last = raw.decode().split("\n")
        return [f"{line}\n" for line in lines] + ([last] if last else [])
    except UnicodeDecodeError:
        return None


def _unified(a: list[str], b: list[str]) -> tuple[tuple[str, ...], str]:
    """A unified diff and a note. What both begin and end with is set aside first: difflib is slow on long texts."""
    start = _common(a, b)
    end = _common(a[start:][::-1], b[start:][::-1])
    ours, theirs = a[start : len(a) - end], b[start : len(b) - end]
    note = f"the first at line {start + 1}"
    if len(ours) > _LINES_LIMIT or len(theirs) > _LINES_LIMIT:
        return (), f"{len(ours):,} lines became {len(theirs):,}, {note}"
    lead = max(0, start - _CONTEXT)
    shown = unified_diff(
        a[lead : len(a) - end + _CONTEXT if end > _CONTEXT else len(a)],
        b[lead : len(b) - end + _CONTEXT if end > _CONTEXT else len(b)],
        n=_CONTEXT,
    )
    lines = [part for line in list(shown)[2:] for part in _shown_lines(line, lead)]
    if len(lines) > _SHOWN_LIMIT:
        lines = [*lines[:_SHOWN_LIMIT], f"… {len(lines) - _SHOWN_LIMIT} lines more"]
    return tuple(lines), ""


def _shown_lines(line: str, lead: int) -> Iterator[str]:
    """A line of a diff without its end; one that has none is marked as diff(1) does."""
    yield _cut(_numbered(line.removesuffix("\n"), lead) if line.startswith("@@") else line.removesuffix("\n"))
    if not line.endswith("\n"):
        yield "\\ No newline at end of file"


def _cut(line: str) -> str:
    return line if len(line) <= _LINE_LIMIT else f"{line[:_LINE_LIMIT]}… ({len(line):,} characters)"


def _numbered(line: str, lead: int) -> str:
    """A hunk's header with the line numbers of the whole text."""
    _, left, right, _ = line.split(" ", 3)
    return f"@@ {_moved(left, lead)} {_moved(right, lead)} @@"


def _moved(span: str, lead: int) -> str:
    start, comma, count = span[1:].partition(",")
    return f"{span[0]}{int(start) + lead}{comma}{count}"


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    return next((at for at, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), min(len(a), len(b)))


def _bytes(a: Bytes, b: Bytes) -> str:
    """Where two contents that are no text differ, and in how many bytes."""
    size = min(len(a), len(b))
    change = compare_spans(a, 0, b, 0, size)
    if change is None:
        return "one is the beginning of the other"
    values = f"the first at {change.first:#x} ({change.values[0]:02x} → {change.values[1]:02x})"
    return f"{describe_count(change, size)}, {values}"
