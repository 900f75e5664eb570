"""The plan of a layer: its entries checked, completed with parent folders, and in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ocibuild.errors import EntryError

from .entry import Directory, Entry, File, Symlink

__all__ = ["check_path", "plan", "resolve"]

PATH_LIMIT = 4096
NAME_LIMIT = 255
_LINK_LIMIT = 40


def plan(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries of a layer, sorted by the bytes of their paths, with every parent folder present.

    Raises:
        EntryError: A path, mode or link that has no place in a layer, or two entries at one path.

    Example:
        >>> [entry.path for entry in plan([File(path="share/extension/x.sql", content=b"")])]
        ['share', 'share/extension', 'share/extension/x.sql']
    """
    tree: dict[str, Entry] = {}
    for entry in entries:
        check_path(entry.path)
        if entry.path in tree:
            raise EntryError("two entries at one path", where=entry.path, hint="Give each path once.")
        if not isinstance(entry, Symlink) and entry.mode & ~0o777:
            raise EntryError(
                f"mode {entry.mode:#o}", wanted="no set-id and no sticky bit", where=entry.path, hint="chmod it."
            )
        tree[entry.path] = entry
    for path in list(tree):
        _add_parents(path, tree)
    for entry in tree.values():
        if isinstance(entry, Symlink):
            _check_link(entry, tree)
    return tuple(sorted(tree.values(), key=lambda entry: entry.path.encode()))


def check_path(path: str) -> None:
    """Refuse a path that is not a plain relative one.

    Raises:
        EntryError: It is absolute, has an empty, `.` or `..` part, a whiteout name, a NUL, is not UTF-8 or too long.
    """
    parts = path.split("/")
    if path.startswith("/"):
        raise EntryError("an absolute path", wanted="a path relative to the image's root", where=path)
    if "" in parts or "." in parts or ".." in parts:
        raise EntryError("a path with an empty, '.' or '..' part", where=path or "(empty path)")
    if "\0" in path:
        raise EntryError("a NUL in a path", where=repr(path))
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise EntryError("a name that is not UTF-8", where=repr(path), hint="Rename the file.") from None
    if size > PATH_LIMIT or (size > NAME_LIMIT and any(len(part.encode()) > NAME_LIMIT for part in parts)):
        raise EntryError("a path too long", wanted=f"{NAME_LIMIT} bytes a name, {PATH_LIMIT} a path", where=path[:80])
    if ".wh." in path and any(part.startswith(".wh.") for part in parts):
        raise EntryError("a name that starts with .wh.", where=path, hint="Runtimes read it as the removal of a file.")


def resolve(path: str, tree: Mapping[str, Entry]) -> str | None:
    """Where a path leads when every symbolic link of the tree is followed; None when it leaves the root or never ends.

    The last part need not exist. The root itself is `""`.
    """
    done: list[str] = []
    todo = path.split("/")[::-1]
    links = 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not done:
                return None
            done.pop()
            continue
        done.append(part)
        entry = tree.get("/".join(done))
        if isinstance(entry, Symlink):
            links += 1
            if links > _LINK_LIMIT or entry.target.startswith("/"):
                return None
            done.pop()
            todo.extend(entry.target.split("/")[::-1])
    return "/".join(done)


def _add_parents(path: str, tree: dict[str, Entry]) -> None:
    while (slash := path.rfind("/")) > 0:
        path = path[:slash]
        parent = tree.get(path)
        if parent is None:
            tree[path] = Directory(path=path)
        elif isinstance(parent, Directory):
            return
        else:
            raise EntryError(
                f"a {type(parent).__name__.lower()} that has entries below it", wanted="a folder", where=path
            )


def _check_link(link: Symlink, tree: Mapping[str, Entry]) -> None:
    hint = "Give the file itself, or a relative link inside the tree."
    if not link.target or "\0" in link.target or len(link.target.encode(errors="surrogateescape")) > PATH_LIMIT:
        raise EntryError(f"a symbolic link to {link.target[:80]!r}", where=link.path, hint=hint)
    try:
        link.target.encode()
    except UnicodeEncodeError:
        raise EntryError(f"a link target that is not UTF-8: {link.target!r}", where=link.path, hint=hint) from None
    if link.target.startswith("/"):
        raise EntryError(f"a symbolic link to the absolute path {link.target}", where=link.path, hint=hint)
    if resolve(link.path, tree) is None:
        raise EntryError(
            f"a symbolic link to {link.target}, which leaves the root or never ends", where=link.path, hint=hint
        )


def check_targets(entries: Iterable[Entry]) -> None:
    """Refuse symbolic links to nothing, among planned entries that stand alone (a scratch image).

    Raises:
        EntryError: A link's target is not among the entries.
    """
    tree = {entry.path: entry for entry in entries}
    for entry in tree.values():
        if isinstance(entry, Symlink) and (found := resolve(entry.path, tree)) not in tree and found != "":
            raise EntryError(
                f"a symbolic link to {entry.target}, which is not in the image",
                where=entry.path,
                hint="One dangling link in share/extension breaks pg_available_extensions for the whole server.",
            )


def total_size(entries: Iterable[Entry]) -> int:
    """The bytes of all files, for a progress bar."""
    return sum(entry.size for entry in entries if isinstance(entry, File))
