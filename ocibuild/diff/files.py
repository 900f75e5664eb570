"""Looking into the files whose content differs: both sides are brought to disk, never whole into memory."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ocibuild.errors import ContentError, StoreError
from ocibuild.layer.read import Member

from .content import content_difference
from .difference import Difference
from .spans import Bytes

__all__ = ["Change", "explain"]

_LOOKED_INTO = 20
_NAMED = 200
_BYTES_LIMIT = 1024**3
"""What is brought to disk at most: the files beyond are told by their sizes alone."""

Members = Callable[[Collection[int]], Iterator[tuple[int, Member, BinaryIO]]]
"""The members of one side that have the given numbers, and a reader of each."""


@dataclass(frozen=True, slots=True)
class Change:
    """A file whose content is not the same, to be looked into.

    Attributes:
        path: Where it is in the image.
        a: The number of the member with its content on the first side.
        b: The same on the second.
        sizes: The sizes on both.
    """

    path: str
    a: int
    b: int
    sizes: tuple[int, int]


def explain(changes: Sequence[Change], a: Members, b: Members) -> dict[str, Difference]:
    """How each file's content differs, by path: the first are looked into, more are named, all are counted.

    Args:
        changes: What differs.
        a: The first side.
        b: The second.

    Raises:
        StoreError: There is no room for temporary files.
        ContentError: A member is another than it was before.
    """
    found = {}
    for change in changes[:_NAMED]:
        one, other = (f"{size:,} bytes" for size in change.sizes)
        found[change.path] = Difference(kind="file", where=change.path, a=one, b=other, note="the content differs")
    # Several names may share a content on one side, and not on the other.
    paths: dict[tuple[int, int], list[str]] = {}
    left = _BYTES_LIMIT
    for change in changes[:_LOOKED_INTO]:
        left -= sum(change.sizes)
        if left >= 0:
            paths.setdefault((change.a, change.b), []).append(change.path)
    if paths:
        for pair, item in _look(paths, a, b):
            first, *others = paths[pair]
            found[first] = item
            found |= {path: replace(item, where=path, note=f"as {first}", lines=(), below=()) for path in others}
    if len(changes) > _NAMED:
        # No path has a NUL.
        found["\0"] = Difference(kind="files", note=f"and {len(changes) - _NAMED:,} more whose content differs")
    return found


def _look(
    paths: dict[tuple[int, int], list[str]], a: Members, b: Members
) -> Iterator[tuple[tuple[int, int], Difference]]:
    with _temporary() as folder:
        for number, member, content in a({one for one, _ in paths}):
            _write(content, folder / f"a{number}", member)
        for number, member, content in b({other for _, other in paths}):
            _write(content, folder / "b", member)
            for pair in [pair for pair in paths if pair[1] == number]:
                with _mapped(folder / f"a{pair[0]}") as left, _mapped(folder / "b") as right:
                    yield pair, content_difference(paths[pair][0], left, right)


@contextmanager
def _temporary() -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="ocibuild-diff-")
    except OSError as error:
        hint = "Set TMPDIR to a folder that can be written to."
        raise StoreError(f"no folder for temporary files: {error.strerror}", hint=hint) from error
    with folder as name:
        yield Path(name)


def _write(content: BinaryIO, path: Path, member: Member) -> None:
    try:
        with open(path, "wb") as out:
            shutil.copyfileobj(content, out, 1024 * 1024)
            size = out.tell()
    except OSError as error:
        raise StoreError(f"cannot be written: {error.strerror}", where=path.parent, hint="Is the disk full?") from error
    if size != member.size:
        raise ContentError(f"{size} bytes", wanted=f"the {member.size} that were there before", where=member.path)


@contextmanager
def _mapped(path: Path) -> Iterator[Bytes]:
    if not os.path.getsize(path):
        yield b""
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data
