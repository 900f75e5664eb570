"""Checks on scripts: which PostgreSQL runs, whether they lead to the default version, and what they name."""

from __future__ import annotations

import posixpath
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ocibuild.layer.entry import File
from ocibuild.layer.plan import resolve
from ocibuild.postgres.control import Control
from ocibuild.postgres.policies import DISTROS, load_policy
from ocibuild.postgres.root import ImageRoot
from ocibuild.postgres.sources.base import Library, read_content

from .finding import Finding
from .sql import c_functions, statements

__all__ = ["check_scripts"]

_TOKEN = re.compile(r"@(?:CARGO_VERSION|GIT_HASH)@")
_ABSOLUTE = re.compile(r"'(/(?:usr|opt|etc|var|home|tmp|root|srv)/[^'\n]{1,200})'")
_COPY = re.compile(r"\bcopy\b[^;']{0,1000}?\bfrom\s+'(/[^'\n]{1,200})'", re.IGNORECASE)
_LOAD = re.compile(r"\bload\s+'(\$libdir/[^'\n]{1,200})'", re.IGNORECASE)
_TESTS = re.compile(r"create\s+schema\s+(?:if\s+not\s+exists\s+)?\"?tests\"?\s*(?:;|$)", re.IGNORECASE)
_LISTED = 5


@dataclass(frozen=True, slots=True)
class Script:
    """A script of an extension and the versions in its name; `start` is None for one that installs."""

    path: str
    start: str | None
    end: str


def check_scripts(root: ImageRoot, preload: Sequence[str]) -> Iterator[Finding]:
    """What would go wrong when PostgreSQL runs the scripts of a root."""
    for module in preload:
        if module.startswith("$libdir/"):
            yield Finding(
                id="libdir-path",
                severity="error",
                message=f"shared_preload_libraries = {module!r}: the server would look in its own folder and not start",
                where="the recipe",
                hint=f"Write {module.removeprefix('$libdir/')!r}.",
            )
    run: set[str] = set()
    named: dict[str, list[str]] = {}
    for path in root.entries:
        if path.endswith(".sql"):
            named.setdefault(path.rpartition("/")[2].partition("--")[0], []).append(path)
    for control in root.controls:
        scripts = list(find_scripts(control, named.get(control.name, ())))
        yield from _misplaced(root, control, named.get(control.name, ()))
        version = control.default_version
        if version is None or _TOKEN.search(version):
            continue
        steps = install_path(scripts, version)
        if steps is None:
            yield Finding(
                id="missing-script",
                severity="error",
                message=f"no script installs {control.name} {version}, and no upgrades lead to it: CREATE EXTENSION would fail",
                where=root.where(control.path),
                hint="Package the tree again; the version and the scripts' names must agree.",
            )
        run.update(script.path for script in steps or ())
        yield from _unreached(root, control, scripts, named, version)
        yield from _stale(root, control, scripts, version)
        yield from _functions(root, control, steps or ())
    yield from _texts(root, run)


def find_scripts(control: Control, paths: Iterable[str]) -> Iterator[Script]:
    """An extension's scripts among paths, where PostgreSQL looks for them (`get_ext_ver_list`)."""
    beginning = f"{script_folder(control)}/{control.name}--".lstrip("/")
    for path in paths:
        if path.startswith(beginning) and "/" not in path[len(beginning) :]:
            first, joint, second = path[len(beginning) : -len(".sql")].partition("--")
            if first and not joint:
                yield Script(path, None, first)
            elif first and second and "--" not in second:
                yield Script(path, first, second)


def script_folder(control: Control) -> str:
    """The folder of an extension's scripts: beside its control file, or `directory` below the folder above."""
    folder = control.path.rpartition("/")[0]
    directory = control.values.get("directory", "")
    return posixpath.normpath(f"{folder.rpartition('/')[0]}/{directory}").lstrip("/") if directory else folder


def install_path(scripts: Sequence[Script], version: str) -> list[Script] | None:
    """The scripts that install a version: its own, else another's and the fewest upgrades; None when nothing does."""
    reached = {script.end: script for script in scripts if script.start is None}
    upgrades: dict[str, list[Script]] = {}
    for script in scripts:
        if script.start is not None:
            upgrades.setdefault(script.start, []).append(script)
    todo = deque(reached)
    while todo and version not in reached:
        for script in upgrades.get(todo.popleft(), ()):
            if script.end not in reached:
                reached[script.end] = script
                todo.append(script.end)
    if version not in reached:
        return None
    path = [reached[version]]
    while path[-1].start is not None:
        path.append(reached[path[-1].start])
    return path[::-1]


def _misplaced(root: ImageRoot, control: Control, paths: Iterable[str]) -> Iterator[Finding]:
    folder = script_folder(control)
    elsewhere = [path for path in paths if "--" in path.rpartition("/")[2] and path.rpartition("/")[0] != folder]
    if elsewhere:
        yield Finding(
            id="misplaced-script",
            severity="warning",
            message=f"{_listed(elsewhere)} of {control.name}: PostgreSQL reads its scripts in {folder} only",
            where=root.where(elsewhere[0]),
            hint=f"Move {'it' if len(elsewhere) == 1 else 'them'} there, or set directory in the control file.",
        )


def _unreached(
    root: ImageRoot, control: Control, scripts: Sequence[Script], named: Mapping[str, list[str]], version: str
) -> Iterator[Finding]:
    before: dict[str, list[str]] = {}
    for script in scripts:
        if script.start is not None:
            before.setdefault(script.end, []).append(script.start)
    leads, todo = {version}, [version]
    while todo:
        for start in before.get(todo.pop(), ()):
            if start not in leads:
                leads.add(start)
                todo.append(start)
    useful = {script.path for script in scripts if script.end in leads}
    names = (control.name, f"uninstall_{control.name}.sql", f"{control.name}.sql")
    folder = script_folder(control)
    idle = [
        path
        for name in names
        for path in named.get(name, ())
        if path.rpartition("/")[0] == folder and path not in useful
    ]
    if idle:
        yield Finding(
            id="unreached-script",
            severity="info",
            message=f"{_listed(idle)}: no path leads from there to {control.name} {version}",
            where=root.where(idle[0]),
            hint="It does no harm.",
        )


def _stale(root: ImageRoot, control: Control, scripts: Sequence[Script], version: str) -> Iterator[Finding]:
    """What an earlier `cargo pgrx package` left: it never empties its folder."""
    found = [(script.path, f"the install script of version {script.end}") for script in scripts if script.start is None]
    found = [(path, what) for path, what in found if not what.endswith(f" {version}")]
    for library in root.libraries:
        stem = library.path.rpartition("/")[2].removesuffix(".so")
        if stem.startswith(f"{control.name}-") and stem != f"{control.name}-{version}":
            found.append((library.path, f"the library of version {stem.removeprefix(f'{control.name}-')}"))
    for path, what in found:
        if root.owners[path].kind == "pgrx":
            yield Finding(
                id="stale-file",
                severity="warning",
                message=f"{what}, while default_version is {version}",
                where=root.where(path),
                hint="cargo pgrx package never empties its folder: "
                "delete the folder and package again, unless you mean to ship it.",
            )


def _functions(root: ImageRoot, control: Control, path: Sequence[Script]) -> Iterator[Finding]:
    """The libraries and functions that installing an extension asks for."""
    modules = {library.path.rpartition("/")[2]: library for library in root.libraries}
    missing: dict[str, str] = {}
    unknown: dict[str, list[str]] = {}
    asked = list(_asked(root, control, path))
    # Each that cannot be found once, at the first place that names it.
    strange = {library: place for library, _, place in reversed(asked) if _is_strange(library)}
    for library, place in strange.items():
        yield _strange(root, control, library, place)
    for library, symbol, place in asked:
        name = library.removeprefix("$libdir/")
        module = modules.get(name) or modules.get(f"{name}.so")
        if library in strange:
            continue
        if module is None:
            missing.setdefault(name, place)
        elif symbol and not is_exported(module, symbol):
            unknown.setdefault(module.path, []).append(symbol)
    for name, place in missing.items():
        if not _is_servers(name):
            file = f"{name.removesuffix('.so')}.so"
            yield Finding(
                id="missing-library",
                severity="error",
                message=f"{control.name} names the library {name}, and there is no {file} for {root.platform}",
                where=root.where(place),
                hint="Package the tree again.",
            )
    for module_path, symbols in unknown.items():
        yield Finding(
            id="missing-function",
            severity="error",
            message=f"{control.name} asks for {_listed(list(dict.fromkeys(symbols)))}, "
            "which the library does not export",
            where=root.where(module_path),
            hint="The library and the scripts are of different builds: package both again.",
        )


def _is_strange(library: str) -> bool:
    return library == "MODULE_PATHNAME" or "/" in library.removeprefix("$libdir/")


def _strange(root: ImageRoot, control: Control, library: str, place: str) -> Finding:
    """What is wrong with a library that is no plain name."""
    if library == "MODULE_PATHNAME":
        return Finding(
            id="no-module-pathname",
            severity="error",
            message="MODULE_PATHNAME in a script, and no module_pathname in the control file",
            where=root.where(place),
            hint=f"Add module_pathname = '{control.name}' to {control.name}.control.",
        )
    return Finding(
        id="absolute-path" if library.startswith("/") else "libdir-path",
        severity="error",
        message=f"the library {library!r}: PostgreSQL 18 finds only plain names on dynamic_library_path",
        where=root.where(place),
        hint=f"Write {library.rpartition('/')[2]!r}.",
    )


def _asked(root: ImageRoot, control: Control, path: Sequence[Script]) -> Iterator[tuple[str, str, str]]:
    """Each library and symbol that is asked for, and the file that asks."""
    pathname = control.values.get("module_pathname")
    for script in path:
        for function in c_functions(read_script(root, script.path)):
            if function.library == "MODULE_PATHNAME" and pathname is not None:
                yield pathname, function.symbol, control.path
            else:
                yield function.library, function.symbol, script.path


def is_exported(library: Library, symbol: str) -> bool:
    """Whether PostgreSQL would find a C function (`load_external_function` and its information record)."""
    return symbol in library.facts.exports and f"pg_finfo_{symbol}" in library.facts.exports


def _is_servers(name: str) -> bool:
    return name in load_policy(DISTROS[-1], "amd64").modules


def _texts(root: ImageRoot, run: set[str]) -> Iterator[Finding]:
    for path, file in root.scripts.items():
        text = read_content(file).decode(errors="replace")
        if match := _TOKEN.search(path) or _TOKEN.search(text):
            yield Finding(
                id="leftover-token",
                severity="error" if _TOKEN.search(path) else "warning",
                message=f"{match[0]} was not replaced",
                where=root.where(path),
                hint="Build the tree with cargo pgrx package, which replaces it.",
            )
        if match := _LOAD.search(text):
            yield Finding(
                id="libdir-path",
                severity="error" if path in run else "warning",
                message=f"LOAD '{match[1]}': the server would look in its own folder only",
                where=root.where(path),
                hint="Write the name alone, or build with --strip-libdir.",
            )
        if "'/" in text:
            yield from _absolute(root, path, text, path in run)
        if path in run and "tests" in text and any(_TESTS.fullmatch(item.strip()) for item in statements(text)):
            yield Finding(
                id="test-schema",
                severity="warning",
                message="it makes the schema tests: built with pgrx's pg_test feature",
                where=root.where(path),
                hint="Package without --features pg_test.",
            )


def _absolute(root: ImageRoot, path: str, text: str, is_run: bool) -> Iterator[Finding]:
    """Files that a script, or a function that it makes, reads from the server by an absolute path."""
    code = ";".join(statements(text, bodies=True))
    copied = _COPY.search(code)
    named = copied or _ABSOLUTE.search(code)
    if named is not None:
        yield Finding(
            id="absolute-path",
            severity="error" if copied and is_run else "warning",
            message=f"it reads the file {named[1]!r} of the server"
            + (": what CREATE EXTENSION makes would fail" if copied and is_run else ""),
            where=root.where(path),
            hint="The image is mounted at /extensions/NAME: keep the data in the script.",
        )


def read_script(root: ImageRoot, path: str) -> str:
    """A script's text, links followed; empty when it leads nowhere."""
    entry = root.entries.get(resolve(path, root.entries) or "")
    return read_content(entry).decode(errors="replace") if isinstance(entry, File) else ""


def _listed(items: Sequence[str]) -> str:
    names = [item.rpartition("/")[2] for item in items]
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
