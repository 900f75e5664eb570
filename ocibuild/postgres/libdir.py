"""Taking `$libdir/` out of scripts, as CloudNativePG's own builds do."""

from __future__ import annotations

import io

import msgspec

from ocibuild.layer.entry import Entry, File

from .sources import Source
from .sources.content import read_content
from .sources.scratch import Scratch

__all__ = ["strip_libdir"]

SCRIPT_LIMIT = 64 * 1024 * 1024


def strip_libdir(source: Source) -> Source:
    """A source whose SQL scripts name libraries without `$libdir/`.

    PostgreSQL 18 strips it from plain names by itself; scripts of images that older upgrade scripts refer to may need it.

    Example:
        >>> from pathlib import Path
        >>> script = File(path="share/extension/x--1.sql", content=b"... AS '$libdir/x';")
        >>> strip_libdir(Source(where=Path("x"), kind="plain", platform=None, entries=(script,))).entries[0].content
        b"... AS 'x';"
    """
    scratch = Scratch(source.where, sum(entry.size for entry in source.entries if isinstance(entry, File)))
    entries = tuple(_stripped(entry, scratch) for entry in source.entries)
    return msgspec.structs.replace(source, entries=entries, keeps=(*source.keeps, scratch))


def _stripped(entry: Entry, scratch: Scratch) -> Entry:
    if not isinstance(entry, File) or not entry.path.endswith(".sql") or entry.size > SCRIPT_LIMIT:
        return entry
    content = read_content(entry)
    stripped = content.replace(b"'$libdir/", b"'")
    return entry if stripped == content else scratch.keep(entry.path, io.BytesIO(stripped), mode=entry.mode)
