"""Looking into the files whose content differs: both sides are brought to disk, never whole into memory."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from ocibuild.errors import ContentError, StoreError
from ocibuild.layer.read import Member

from .content import Bytes, content_difference
from .difference import Difference

__all__ = ["explain"]

FILES_LIMIT = 1_000
BYTES_LIMIT = 4 * 1024**3
"""What is brought to disk at most: the files beyond are told by their sizes alone."""

Members = Callable[[], Iterator[tuple[int, Member, BinaryIO]]]
"""The members of one side, numbered, and a reader of each: read once a call."""


def explain(changes: Mapping[str, tuple[int, int]], a: Members, b: Members) -> dict[str, Difference]:
    """How each file's content differs, by path.

    Args:
        changes: The numbers of a path's member on both sides.
        a: The first side.
        b: The second.

    Raises:
        StoreError: The disk is full.
        ContentError: A member is another than it was before.
    """
    wanted = dict(list(changes.items())[:FILES_LIMIT])
    found: dict[str, Difference] = {}
    if not wanted:
        return found
    with tempfile.TemporaryDirectory(prefix="ocibuild-diff-") as folder:
        kept, size = _keep({one: path for path, (one, _) in wanted.items()}, a, Path(folder))
        by_number = {other: path for path, (_, other) in wanted.items() if path in kept}
        todo = len(by_number)
        spare = Path(folder, "b")
        for number, member, content in b():
            if not todo:
                break
            if number not in by_number:
                continue
            todo -= 1
            path = by_number[number]
            if size + member.size > BYTES_LIMIT:
                continue
            _write(content, spare, member)
            with _mapped(kept[path]) as left, _mapped(spare) as right:
                found[path] = content_difference(path, left, right)
            size -= os.path.getsize(kept[path])
            os.unlink(kept[path])
    return found


def _keep(numbers: Mapping[int, str], side: Members, folder: Path) -> tuple[dict[str, Path], int]:
    """The contents of the first side, on disk."""
    kept: dict[str, Path] = {}
    size, todo = 0, len(numbers)
    for number, member, content in side():
        if not todo:
            break
        if number not in numbers:
            continue
        todo -= 1
        if size + member.size > BYTES_LIMIT // 2:
            continue
        size += member.size
        kept[numbers[number]] = folder / f"a{number}"
        _write(content, kept[numbers[number]], member)
    return kept, size


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
    with ExitStack() as stack:
        file = stack.enter_context(open(path, "rb"))
        if not os.path.getsize(path):
            yield b""
            return
        yield stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
