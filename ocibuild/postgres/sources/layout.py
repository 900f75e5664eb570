"""What `cargo pgrx package` writes: files below the prefix that `pg_config` has, whatever it is.

The control file lies in `<sharedir>/extension`, the library in `<pkglibdir>`. In the image they are `share/extension`
and `lib`.
"""

from __future__ import annotations

from pathlib import Path

from ocibuild.errors import SourceError
from ocibuild.layer.entry import Directory, Entry, File, Symlink
from ocibuild.layer.plan import check_targets, plan

__all__ = ["map_pgrx_tree"]


def map_pgrx_tree(entries: list[Entry], *, where: Path) -> tuple[tuple[Entry, ...], tuple[str, ...]] | None:
    """The entries of a pgrx tree at the paths they have in the image, and what is left out; None for another tree.

    Raises:
        SourceError: Several folders with control files or libraries, or one without the other.
    """
    controls = {_parent(item.path) for item in entries if item.path.endswith(".control") and _in_extension(item.path)}
    libraries = {_parent(item.path) for item in entries if _is_module(item)}
    if not (controls or libraries):
        return None
    if len(controls) > 1:
        raise SourceError(f"control files in several folders: {', '.join(sorted(controls))}", wanted="one", where=where)
    if not controls:
        raise SourceError(
            f"a library in {next(iter(sorted(libraries)))}, and no control file under a folder named extension",
            wanted="what cargo pgrx package writes",
            where=where,
            hint=f"A plain tree is given with its platform: linux/amd64={where}",
        )
    sharedir = _parent(next(iter(controls)))
    pkglibdir = _common(libraries, sharedir, where)
    mapped: list[Entry] = []
    left_out: list[str] = []
    for entry in entries:
        path = _shared(entry.path, sharedir) or (pkglibdir and _moved(entry.path, pkglibdir, "lib"))
        if isinstance(entry, Directory):
            continue
        if path:
            mapped.append(_at(entry, path))
        else:
            left_out.append(entry.path)
    check_targets(plan(mapped))
    return tuple(mapped), tuple(left_out)


def _at(entry: File | Symlink, path: str) -> Entry:
    if isinstance(entry, Symlink):
        return Symlink(path=path, target=entry.target)
    # An artifact store drops executable bits, so those of the input are not trusted.
    mode = 0o755 if "bin" in path.split("/")[:-1] else 0o644
    return File(path=path, content=entry.content, size=entry.size, mode=mode)


def _common(libraries: set[str], sharedir: str, where: Path) -> str:
    """The folder of the modules: the one that all others are below."""
    outside = sorted(folder for folder in libraries if not _shared(folder + "/x", sharedir))
    tops = [folder for folder in outside if not any(_moved(folder, other, "lib") for other in outside)]
    if len(tops) > 1:
        raise SourceError(f"libraries in several folders: {', '.join(tops)}", wanted="one", where=where)
    return tops[0] if tops else ""


def _shared(path: str, sharedir: str) -> str:
    """A path below the sharedir as it is in the image; of a tree that is itself the sharedir, its extension folder."""
    return _moved(path, sharedir, "share") if sharedir else _moved(path, "extension", "share/extension")


def _moved(path: str, folder: str, to: str) -> str:
    """A path below one folder as it is below another; empty when it is not below it."""
    return f"{to}{path[len(folder) :]}" if path.startswith(folder + "/") else ""


def _is_module(entry: Entry) -> bool:
    return not isinstance(entry, Directory) and entry.path.endswith((".so", ".dylib", ".dll"))


def _in_extension(path: str) -> bool:
    return _parent(path).rpartition("/")[2] == "extension"


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
