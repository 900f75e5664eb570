"""Taking `$libdir/` out of scripts, as CloudNativePG's own builds do."""

from __future__ import annotations

from dataclasses import replace

from ocibuild.layer.entry import Entry, File

from .sources import Source
from .sources.content import read_content

__all__ = ["strip_libdir"]


def strip_libdir(source: Source) -> Source:
    """A source whose SQL scripts name libraries without `$libdir/`.

    PostgreSQL 18 strips it from plain names by itself; scripts of images that older upgrade scripts refer to may need it.

    Example:
        >>> from pathlib import Path
        >>> script = File(path="share/extension/x--1.sql", content=b"... AS '$libdir/x';")
        >>> strip_libdir(Source(where=Path("x"), kind="plain", platform=None, entries=(script,))).entries[0].content
        b"... AS 'x';"
    """
    return replace(source, entries=tuple(_stripped(entry) for entry in source.entries))


def _stripped(entry: Entry) -> Entry:
    if not isinstance(entry, File) or not entry.path.endswith(".sql"):
        return entry
    content = read_content(entry)
    stripped = content.replace(b"'$libdir/", b"'")
    return entry if stripped == content else File(path=entry.path, content=stripped, mode=entry.mode)
