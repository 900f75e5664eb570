"""Reading a folder of files into entries."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from ocibuild.errors import EntryError, NotFoundError

from .entry import Directory, Entry, File, Symlink

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_tree"]

_KINDS = {
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}


def read_tree(folder: Path | str) -> list[Entry]:
    """The entries below a folder, sorted, modes as 0755 where the owner may execute and 0644 elsewhere.

    Symbolic links stay links when their target is inside the folder, absolute ones as relative ones. Files with several
    names become copies. Files are read later, when a layer is built.

    Raises:
        NotFoundError: There is no such folder.
        EntryError: A device, socket or pipe, a name that is not UTF-8, something that cannot be read, or a link that
            leaves the folder.
    """
    root = os.fsencode(folder)
    if not os.path.isdir(root):
        raise NotFoundError("no such folder", where=folder)
    real_root = os.path.realpath(root)
    entries: list[Entry] = []
    folders = [(root, "")]
    while folders:
        path, below = folders.pop()
        for item in _scan(path):
            entry = _entry(item, below, real_root)
            entries.append(entry)
            if isinstance(entry, Directory):
                folders.append((item.path, entry.path + "/"))
    return sorted(entries, key=lambda entry: entry.path.encode())


def _scan(folder: bytes) -> list[os.DirEntry[bytes]]:
    try:
        with os.scandir(folder) as scan:
            return list(scan)
    except OSError as error:
        raise EntryError(f"cannot be read: {error.strerror}", where=os.fsdecode(folder)) from error


def _entry(item: os.DirEntry[bytes], below: str, real_root: bytes) -> Entry:
    where = os.fsdecode(item.path)
    try:
        path = below + item.name.decode()
        # One look at each: what kind it is and how large.
        status = item.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
                raise EntryError("a set-id bit", where=where, hint="Clear it: chmod ug-s.")
            mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
            return File(path=path, content=where, size=status.st_size, mode=mode)
        if stat.S_ISDIR(status.st_mode):
            return Directory(path=path)
        if stat.S_ISLNK(status.st_mode):
            return Symlink(path=path, target=_target(item.path, real_root))
    except UnicodeDecodeError:
        raise EntryError(f"a name that is not UTF-8: {item.name!r}", where=where, hint="Rename the file.") from None
    except OSError as error:
        raise EntryError(f"cannot be read: {error.strerror}", where=where) from error
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "neither file, folder nor link")
    raise EntryError(kind, wanted="files, folders and symbolic links", where=where, hint="Remove it.")


def _target(link: bytes, real_root: bytes) -> str:
    where = os.fsdecode(link)
    raw = os.readlink(link)
    shown = os.fsdecode(raw)
    inside = os.path.join(real_root, raw.lstrip(b"/"))
    if os.path.isabs(raw):
        # As in a root folder that was installed into: below it, or nowhere.
        if not os.path.lexists(inside):
            raise EntryError(
                f"a symbolic link to the absolute path {shown}, which is outside the tree",
                where=where,
                hint="Make the link relative, or copy the file into the tree.",
            )
        raw = os.path.relpath(inside, os.path.realpath(os.path.dirname(link)))
    real = os.path.realpath(os.path.join(os.path.dirname(link), raw))
    if not (real == real_root or real.startswith(os.path.join(real_root, b""))):
        raise EntryError(
            f"a symbolic link to {shown}, which leads to {os.fsdecode(real)}, outside the tree",
            where=where,
            hint="Copy the file into the tree.",
        )
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise EntryError(f"a link target that is not UTF-8: {raw!r}", where=where) from None
