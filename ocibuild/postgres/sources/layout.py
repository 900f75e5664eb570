"""Where an installed extension's files go in the image, whatever prefix `pg_config` had.

The control file lies in `<sharedir>/extension`, modules in `<pkglibdir>`, programs in a folder `bin`. In the image they are
`share/extension`, `lib` and `bin`; licences are in `licenses/<package>`. What is for building and reading is left out.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from ocibuild.errors import SourceError
from ocibuild.layer.entry import Directory, Entry, File, Symlink
from ocibuild.layer.plan import resolve

__all__ = ["Include", "Mapped", "development_kind", "is_development", "map_install_tree"]

_LICENCE = re.compile(r"(?:LICEN[CS]E|COPYING|COPYRIGHT|NOTICE)(?:[._-][\w.-]*)?", re.IGNORECASE)
_RUBBISH = re.compile(r"(?:^|/)(?:\.DS_Store|Thumbs\.db|\._[^/]*|[^/]*(?:~|\.swp|\.orig|\.rej))$")
_DEVELOPMENT = re.compile(
    r"(?:^|/)(?:bitcode|include|pgxs|pkgconfig|doc|docs|man|lintian)/|\.(?:h|a|la|pc|md|asciidoc|adoc|rst)(?:\.gz)?$"
    r"|(?:^|/)(?:README|INSTALL|CHANGES|CHANGELOG|NEWS|SHA256SUMS)[^/]*$",
    re.IGNORECASE,
)
_READING = frozenset({"doc", "docs", "info", "lintian", "man"})
_ASIDE = re.compile(r"(?:^|/)(?:doc|docs|debug)/")
_LIBRARY = (".so", ".dylib", ".dll")
_SERVER = re.compile(r"(?:^|[/.])(?:postgresql|pgsql|pgrx)")
_MAJOR = re.compile(r"(?:postgresql[/@-]|pgsql-|\.pgrx/)([0-9]{1,2})(?:[./]|$)")


class Include(msgspec.Struct, frozen=True):
    """Left-out files to take all the same: a glob on paths of the source, and the folder of the image they go to."""

    pattern: str
    folder: str | None = None

    def place(self, path: str) -> str | None:
        """Where a path goes; None when the pattern does not match."""
        if not fnmatchcase(path, self.pattern):
            return None
        if self.folder is None:
            parts = path.split("/")
            at = next((number for number, part in enumerate(parts[:-1]) if part in ("share", "lib", "bin")), 0)
            return "/".join(parts[at:])
        fixed = re.split(r"[*?\[]", self.pattern)[0].rpartition("/")[0]
        return f"{self.folder.strip('/')}/{path[len(fixed) :].lstrip('/')}".lstrip("/")


class Mapped(msgspec.Struct, frozen=True):
    """The entries at the paths they have in the image, and the paths that were left out."""

    entries: list[Entry]
    left_out: tuple[str, ...]


def is_development(path: str) -> bool:
    """Whether a file is one that a server has no use for: headers, bitcode, documentation, what editors left."""
    return _DEVELOPMENT.search(path) is not None or _RUBBISH.search(path) is not None


def development_kind(path: str) -> str:
    """What sort of such a file it is, for a person: the name of its folder, or documentation.

    Example:
        >>> development_kind("usr/lib/postgresql/18/lib/bitcode/x/x.bc"), development_kind("README.md")
        ('bitcode', 'documentation')
    """
    if _RUBBISH.search(path):
        return "what editors left"
    match = _DEVELOPMENT.search(path)
    folder = match[0].strip("/").lower() if match and match[0].endswith("/") else ""
    if folder in ("bitcode", "include", "pgxs", "lintian"):
        return folder
    return "libraries to link with" if path.endswith((".a", ".la", ".pc", ".h")) else "documentation"


def map_install_tree(
    entries: Sequence[Entry],
    *,
    where: Path,
    package: str | None,
    major: int | None = None,
    bitcode: bool = False,
    include: Iterable[Include] = (),
) -> Mapped | None:
    """What an installation left, at the paths it has in the image; None where nothing of an extension or wanted is there.

    Args:
        entries: The tree.
        where: What to name in an error.
        package: Whose licences those at the top of the tree are; else the extension's.
        major: Which prefix is meant, where a tree has those of several PostgreSQL majors.
        bitcode: Keep the LLVM bitcode of the functions.
        include: What to take although it is not the extension's by its place.

    Raises:
        SourceError: Several folders with control files or modules, and no telling which is meant.
    """
    files = [entry for entry in entries if not isinstance(entry, Directory)]
    installed = [item.path for item in files if not _ASIDE.search(item.path)]
    scripts = _of_major({_parent(path) for path in installed if _is_script(path)} or _flat(installed), major)
    libraries = _of_major({_parent(path) for path in installed if path.endswith(_LIBRARY)}, major)
    wanted = tuple(include)
    if not (scripts or libraries or any(item.place(entry.path) for item in wanted for entry in files)):
        return None
    if len(scripts) > 1:
        raise SourceError(
            f"control files in several folders: {', '.join(sorted(scripts))}",
            wanted="one",
            where=where,
            hint="Give each as a source of its own, or say which PostgreSQL major with --pg.",
        )
    extension = next(iter(scripts), None)
    controls = sorted(path for path in installed if path.endswith(".control") and _parent(path) == extension)
    owner = package or (controls[0].rpartition("/")[2].removesuffix(".control") if controls else None)
    prefix = _Prefix(extension, _pkglibdir(libraries, extension, where), owner, bitcode)

    def place(path: str) -> str | None:
        taken = (item.place(path) for item in wanted)
        return next((found for found in taken if found), None) or prefix.place(path)

    return _mapped(files, {entry.path: entry for entry in entries}, place)


def _mapped(files: list[File | Symlink], tree: dict[str, Entry], place: Callable[[str], str | None]) -> Mapped:
    mapped: list[Entry] = []
    left_out: list[str] = []
    for entry in files:
        path = place(entry.path)
        if path is None:
            left_out.append(entry.path)
        elif isinstance(entry, File):
            mapped.append(File(path=path, content=entry.content, size=entry.size, mode=_mode(path)))
        else:
            mapped.append(_link(entry, path, tree, place))
    return Mapped(mapped, tuple(left_out))


def _mode(path: str) -> int:
    # An artifact store drops executable bits, so those of the input are not trusted.
    return 0o755 if "bin" in path.split("/")[:-1] else 0o644


def _link(link: Symlink, path: str, tree: dict[str, Entry], place: Callable[[str], str | None]) -> Entry:
    """A link to where its target goes in the image, or a copy of a target that does not go there by itself."""
    found = resolve(link.path, tree)
    target = tree.get(found) if found else None
    if isinstance(target, File):
        goal = place(target.path)
        if goal is None:
            return File(path=path, content=target.content, size=target.size, mode=_mode(path))
        return Symlink(path=path, target=posixpath.relpath(goal, posixpath.dirname(path) or "."))
    return Symlink(path=path, target=link.target)


class _Prefix(msgspec.Struct, frozen=True):
    """Where an installation has what."""

    extension: str | None
    pkglibdir: str | None
    package: str | None
    bitcode: bool

    def place(self, path: str) -> str | None:
        """Where a path goes; None for what is no part of the image."""
        if _RUBBISH.search(path):
            return None
        if (module := self._module(path)) is not None:
            is_kept = not is_development(module) or (self.bitcode and module.startswith("bitcode/"))
            return f"lib/{module}" if is_kept else None
        if (found := self._script(path) or self._shared(path)) is not None:
            return found
        if _LICENCE.fullmatch(path.rpartition("/")[2]):
            return self._licence(path)
        inside = None if is_development(path) else re.search(r"(?:^|/)bin/(.+)$", path)
        return f"bin/{inside[1]}" if inside else None

    def _module(self, path: str) -> str | None:
        """A path below the folder of the modules. At the top of a tree, and beside scripts, only libraries are."""
        if self.pkglibdir is None:
            return None
        is_shared = self.pkglibdir in ("", self.extension)
        if is_shared and (_parent(path) != self.pkglibdir or not path.endswith(_LIBRARY)):
            return None
        return _below(path, self.pkglibdir)

    def _script(self, path: str) -> str | None:
        """A path below the folder of the scripts. Of one that has another name, only scripts and control files are."""
        if self.extension is None or (below := _below(path, self.extension)) is None:
            return None
        is_named = self.extension.rpartition("/")[2] == "extension"
        if is_named or (_parent(path) == self.extension and path.endswith((".sql", ".control"))):
            return f"share/extension/{below}"
        return None

    def _shared(self, path: str) -> str | None:
        """Of a flat tree, where lib and extension are neighbours, the folder above them is not the extension's alone."""
        sharedir = _parent(self.extension or "")
        is_flat = self.pkglibdir is not None and _below(self.pkglibdir, sharedir) is not None
        if sharedir == "" or is_flat or not (self.extension or "").endswith("/extension"):
            return None
        below = _below(path, sharedir)
        return None if below is None or below.partition("/")[0] in _READING else f"share/{below}"

    def _licence(self, path: str) -> str | None:
        documented = re.search(r"(?:^|/)(?:doc|licenses)/([^/]+)/(.+)$", path)
        if documented is not None:
            return f"licenses/{documented[1]}/{documented[2]}"
        # That of vendored code keeps its folders: there may be several of one name.
        below = _below(path, _parent(self.extension or self.pkglibdir or "")) or path
        return f"licenses/{self.package}/{below}" if self.package else None


def _of_major(folders: set[str], major: int | None) -> set[str]:
    """The folders below a prefix of one PostgreSQL major, where there are such; else all."""
    found = {folder for folder in folders if (match := _MAJOR.search(f"{folder}/")) and int(match[1]) == major}
    return found or folders


def _flat(paths: Sequence[str]) -> set[str]:
    """The folders of control files that have a script beside them, in a tree that has no folder `extension`."""
    controls = {path.removesuffix(".control") for path in paths if path.endswith(".control") and "--" not in path}
    scripts = {path.partition("--")[0] for path in paths if path.endswith(".sql")}
    return {_parent(path) for path in controls & scripts}


def _pkglibdir(folders: set[str], extension: str | None, where: Path) -> str | None:
    """The folder of the modules: of several, the one below which all others are, or the only one that is a server's."""
    outside = sorted(folder for folder in folders if folder == extension or not _is_below(folder, extension))
    tops = [folder for folder in outside if not any(_below(folder, other) for other in outside if other != folder)]
    servers = [folder for folder in tops if _SERVER.search(folder)]
    chosen = servers if len(tops) > 1 else tops
    if len(chosen) > 1 or (tops and not chosen):
        raise SourceError(f"libraries in several folders: {', '.join(tops)}", wanted="one", where=where)
    return chosen[0] if chosen else None


def _is_below(folder: str, other: str | None) -> bool:
    return other is not None and other.endswith("extension") and _below(f"{folder}/x", other) is not None


def _below(path: str, folder: str) -> str | None:
    """A path relative to a folder; None when it is not below it."""
    if folder == "":
        return path
    return path[len(folder) + 1 :] if path.startswith(f"{folder}/") else None


def _is_script(path: str) -> bool:
    return _parent(path).rpartition("/")[2] == "extension" and path.endswith((".control", ".sql"))


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
