"""The files of an image when its layers are applied in order (image-spec, layer.md): whiteouts, links, who comes last.

The members are hostile: names and the work of following links are bounded for the image as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from .errors import LayerError
from .layer.entry import Directory, Entry, File, Symlink
from .layer.plan import resolve
from .layer.read import Member

__all__ = ["AppliedTree", "Placed"]

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_NAMES_LIMIT = 128 * 1024 * 1024
_NAME_COST = 64
_RESOLVED_LIMIT = 10_000
_WORK_LIMIT = 128 * 1024 * 1024


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """A file of an image: its headers, the layer that put it there, and where its content is.

    Attributes:
        member: The headers as a runtime applies them. A hard link has the kind, size and link of what it names.
        layer: The layer that put it at its path.
        content: The layer and the number in it of the member that has the content; hard links share it.
        headers: The layer and the number in it of the member whose mode and owner count.
    """

    member: Member
    layer: int
    content: tuple[int, int]
    headers: tuple[int, int]


class AppliedTree:
    """The files so far. Folders that no member names are known by their children."""

    def __init__(self, *, strict: bool = False) -> None:
        self.placed: dict[str, Placed] = {}
        self.root: Placed | None = None
        self._strict = strict
        self._entries: dict[str, Entry] = {}
        self._counted = _Counted(self._entries)
        self._children: dict[str, set[str]] = {}
        self._oldest: dict[str, int] = {}
        """For each folder, a layer that nothing below it is older than."""
        self._resolved: dict[str, str] = {}
        self._linked: dict[tuple[int, int], Placed] = {}
        """The last hard link to each content."""
        self._names = 0

    def apply(self, new: Placed) -> None:
        """Place one member, or remove what a whiteout hides. Layers come in order."""
        path = self._inside(new.member.path)
        folder, _, name = path.rpartition("/")
        if name == _OPAQUE:
            self._remove_below(folder, new.layer)
        elif name.startswith(_WHITEOUT):
            self._remove(f"{folder}/{name.removeprefix(_WHITEOUT)}".lstrip("/"), new.layer)
        elif path:
            self._count(path, new.member.link, "" if path == new.member.path else new.member.path)
            self._place(path, self._target(path, new))
        elif new.member.kind == "directory":
            self.root = new

    def seen(self, placed: Placed) -> Placed:
        """A file as it is in the end: what was said of the last hard link to it holds for all names of it.

        Runtimes make a hard link and then set its owner and mode, which are those of the file that it names
        (containerd's and Docker's `createTarFile`). That an overlay may part names of several layers is left aside.
        """
        last = self._linked.get(placed.content)
        if last is None:
            return placed
        owner = {name: getattr(last.member, name) for name in ("mode", "uid", "gid", "uname", "gname", "mtime")}
        return msgspec.structs.replace(
            placed, member=msgspec.structs.replace(placed.member, **owner), headers=last.headers
        )

    def _place(self, path: str, new: Placed) -> None:
        kind = new.member.kind
        if self._strict and kind in ("char", "block", "fifo"):
            raise LayerError(f"a {kind} device or pipe", wanted="files, folders and links", where=path)
        folder = path.rpartition("/")[0]
        while folder and not self._children.get(folder) and not isinstance(self._entries.get(folder), Directory):
            if folder in self._entries:
                raise LayerError("a member below a file or link", where=path)
            folder = folder.rpartition("/")[0]
        if kind != "directory" and path in self._children:
            self._remove_below(path, new.layer + 1)
        if kind == "symlink" or isinstance(self._entries.get(path), Symlink):
            self._resolved.clear()
        self.placed[path] = new
        self._entries[path] = _entry(path, new.member)
        while path:
            folder = path.rpartition("/")[0]
            known = self._children.setdefault(folder, set())
            self._oldest.setdefault(folder, new.layer)
            if path in known:
                break
            if path not in self.placed:
                self._count(path)
            known.add(path)
            path = folder

    def _count(self, *names: str) -> None:
        """Count the memory that names take: a few bytes of an archive may stand for thousands of folders."""
        self._names += _NAME_COST + sum(len(name) * (1 if name.isascii() else 4) for name in names)
        if self._names > _NAMES_LIMIT:
            raise LayerError(f"more than {_NAMES_LIMIT} bytes of paths", hint="The image is made to fill memory.")

    def _target(self, path: str, new: Placed) -> Placed:
        """A hard link is the file it names, which must have come before, under headers of its own."""
        if new.member.kind != "hardlink":
            return new
        target = self.placed.get(self._inside(new.member.link))
        if target is None or target.member.kind == "directory" or (self._strict and target.member.kind != "file"):
            raise LayerError(f"a hard link to {new.member.link!r}, which is no file before it", where=path)
        what = {name: getattr(target.member, name) for name in ("kind", "size", "link", "device")}
        linked = msgspec.structs.replace(
            new, member=msgspec.structs.replace(new.member, **what), content=target.content
        )
        self._linked[target.content] = linked
        return linked

    def _inside(self, path: str) -> str:
        """Where a member's path leads, its own last part not followed; empty for the root."""
        folder, _, name = path.strip("/").rpartition("/")
        parent = self._follow(folder, path)
        if name == "..":
            raise LayerError(f"the path {path!r}", wanted="paths inside the image")
        return f"{parent}/{name}".lstrip("/") if name not in ("", ".") else parent

    def _follow(self, folder: str, path: str) -> str:
        if folder.startswith(("./", "/")) or "/./" in folder or "//" in folder:
            folder = "/".join(part for part in folder.split("/") if part not in ("", "."))
        # What has something below it is a folder, and no part of its path a link.
        if not folder or self._children.get(folder) or isinstance(self._entries.get(folder), Directory):
            return folder
        if folder not in self._resolved:
            found = resolve(folder, self._counted)
            if found is None:
                raise LayerError(f"the path {path!r}, which leaves the root", wanted="paths inside the image")
            if len(self._resolved) > _RESOLVED_LIMIT:
                self._resolved.clear()
            self._resolved[folder] = found
        return self._resolved[folder]

    def _remove(self, path: str, layer: int) -> None:
        """Hide a file or folder of the layers below the given one."""
        self._remove_below(path, layer)
        placed = self.placed.get(path)
        if placed is not None and placed.layer < layer:
            self._delete(path)
        self._forget(path)

    def _remove_below(self, path: str, layer: int) -> None:
        todo, folders = [path], []
        while todo:
            folder = todo.pop()
            # Looked through once a layer, however many marks it has.
            if self._oldest.get(folder, layer) >= layer:
                continue
            self._oldest[folder] = layer
            folders.append(folder)
            for below in self._children.get(folder, ()):
                placed = self.placed.get(below)
                if placed is not None and placed.layer < layer:
                    self._delete(below)
                if below in self._children:
                    todo.append(below)
        for folder in reversed(folders):
            kept = {item for item in self._children.get(folder, ()) if item in self.placed or self._children.get(item)}
            if kept:
                self._children[folder] = kept
            else:
                self._children.pop(folder, None)
                self._oldest.pop(folder, None)
        self._forget(path)

    def _delete(self, path: str) -> None:
        if isinstance(self._entries[path], Symlink):
            self._resolved.clear()
        del self.placed[path]
        del self._entries[path]

    def _forget(self, path: str) -> None:
        """Drop a path, and the folders above it, that are no longer there."""
        while path and path not in self.placed and not self._children.get(path):
            self._children.pop(path, None)
            self._oldest.pop(path, None)
            folder = path.rpartition("/")[0]
            if path not in self._children.get(folder, ()):
                break
            self._children[folder].discard(path)
            path = folder


class _Counted(Mapping[str, Entry]):
    """A tree that counts the work of following links in it: each path may lead through forty long ones."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        self._entries, self._work = entries, 0

    def __getitem__(self, path: str) -> Entry:
        entry = self._entries.get(path)
        self._work += _NAME_COST + len(path) + (len(entry.target) if isinstance(entry, Symlink) else 0)
        if self._work > _WORK_LIMIT:
            raise LayerError("paths too deep, or through too many symbolic links", where=path[:80])
        if entry is None:
            raise KeyError
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _entry(path: str, member: Member) -> Entry:
    if member.kind == "directory":
        return Directory(path=path)
    if member.kind == "symlink":
        return Symlink(path=path, target=member.link)
    return File(path=path, content=b"")
