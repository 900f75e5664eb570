"""Checks on C functions: the libraries and symbols that installing an extension asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from ocibuild.errors import ControlError
from ocibuild.layer.entry import File
from ocibuild.layer.plan import resolve
from ocibuild.postgres.control import SIZE_LIMIT, Control, parse_control
from ocibuild.postgres.mount import loadable
from ocibuild.postgres.policies import DISTROS, load_policy
from ocibuild.postgres.root import ImageRoot
from ocibuild.postgres.sources import Library
from ocibuild.postgres.sources.content import read_content
from ocibuild.postgres.upgrades import Script, script_folder

from .finding import Finding, listed
from .sql import CFunction, c_functions

__all__ = ["SCRIPT_LIMIT", "Seen", "check_functions", "check_preload", "read_script", "server_modules"]

SCRIPT_LIMIT = 64 * 1024 * 1024

_PAIRS_LIMIT = 500_000


class Seen(msgspec.Struct):
    """What scripts that were read make, by their content, and how many functions may still be looked at."""

    functions: dict[bytes | Path | str, tuple[CFunction, ...]] = msgspec.field(default_factory=dict)
    left: int = _PAIRS_LIMIT


_TOKEN = "MODULE_PATHNAME"  # noqa: S105 - what PostgreSQL replaces in scripts


def check_functions(root: ImageRoot, control: Control, path: Sequence[Script], seen: Seen) -> Iterator[Finding]:
    """What PostgreSQL would not find of the C functions in the scripts that install an extension.

    Args:
        root: What the image will hold.
        control: The extension.
        path: The scripts.
        seen: What scripts that were read already make, by their content.
    """
    modules = {library.path.rpartition("/")[2]: library for library in root.libraries}
    known = loadable(root)
    scopes: dict[str, frozenset[str]] = {}
    asked = list(_asked(root, control, path, seen))
    # Each name that cannot work once, at the first place that has it.
    misnamed = {
        name: place for name, _, place in reversed(asked) if _TOKEN in name or "/" in name.removeprefix("$libdir/")
    }
    for name, place in misnamed.items():
        yield _misnamed(root, control, name, place)
    missing: dict[str, str] = {}
    unknown: dict[str, list[str]] = {}
    for library, symbol, place in asked:
        name = library.removeprefix("$libdir/")
        module = modules.get(name) or modules.get(f"{name}.so")
        if library in misnamed:
            continue
        if module is None:
            missing.setdefault(name, place)
            continue
        if module.path not in scopes:
            scopes[module.path] = _scope(known, module)
        if not {symbol, f"pg_finfo_{symbol}"} <= scopes[module.path]:
            unknown.setdefault(module.path, []).append(symbol)
    for name, place in missing.items():
        if name not in server_modules():
            yield Finding(
                id="missing-library",
                severity="error",
                message=f"{control.name} names the library {name}, and there is no {name.removesuffix('.so')}.so "
                f"for {root.platform}",
                where=root.where(place),
                hint="Package the tree again.",
            )
    for module_path, symbols in unknown.items():
        yield Finding(
            id="missing-function",
            severity="error",
            message=f"{control.name} asks for {listed(list(dict.fromkeys(symbols)))}, which the library does not export",
            where=root.where(module_path),
            hint="The library and the scripts are of different builds: package both again.",
        )
    yield from _without_magic(root, control, [modules.get(name) or modules.get(f"{name}.so") for name in _plain(asked)])


def _plain(asked: Sequence[tuple[str, str, str]]) -> list[str]:
    return list(dict.fromkeys(name.removeprefix("$libdir/") for name, _, _ in asked))


def _without_magic(root: ImageRoot, control: Control, modules: Sequence[Library | None]) -> Iterator[Finding]:
    for module in modules:
        if module is not None and module.magic is None:
            yield Finding(
                id="missing-magic",
                severity="error",
                message=f"{control.name} loads a library without a magic block: PostgreSQL refuses it",
                where=root.where(module.path),
                hint="Write PG_MODULE_MAGIC; in one of its files, or name the module that needs it.",
            )


def check_preload(root: ImageRoot, preload: Sequence[str]) -> Iterator[Finding]:
    """Modules for `shared_preload_libraries` with which the server would not start."""
    modules = {library.path.rpartition("/")[2] for library in root.libraries if library.magic}
    for name in preload:
        if "/" in name:
            yield Finding(
                id="libdir-path",
                severity="error",
                message=f"shared_preload_libraries = {name!r}: the server would look elsewhere and not start",
                where="the recipe",
                hint=f"Write {name.rpartition('/')[2]!r}.",
            )
        elif not {name, f"{name}.so"} & modules and name not in server_modules():
            yield Finding(
                id="missing-library",
                severity="error",
                message=f"shared_preload_libraries names {name}, and there is no {name}.so for {root.platform}: "
                "the server would not start",
                where="the recipe",
                hint="Correct the name in the recipe.",
            )


def server_modules() -> frozenset[str]:
    """The modules that come with PostgreSQL, on every release and architecture."""
    return load_policy(DISTROS[-1], "amd64").modules


def _asked(root: ImageRoot, control: Control, path: Sequence[Script], seen: Seen) -> Iterator[tuple[str, str, str]]:
    """Each library and symbol that is asked for, and the file that asks."""
    for script in path:
        pathname, place = _pathname(root, control, script)
        entry = root.entries.get(resolve(script.path, root.entries) or "")
        if not isinstance(entry, File) or entry.size > SCRIPT_LIMIT:
            continue
        if entry.content not in seen.functions:
            found = c_functions(read_content(entry).decode(errors="replace"))
            seen.functions[entry.content] = tuple(dict.fromkeys(found))
        seen.left -= len(seen.functions[entry.content])
        if seen.left < 0:
            return
        for function in seen.functions[entry.content]:
            if _TOKEN in function.library and pathname is not None:
                yield function.library.replace(_TOKEN, pathname), function.symbol, place
            else:
                yield function.library, function.symbol, script.path


def _pathname(root: ImageRoot, control: Control, script: Script) -> tuple[str | None, str]:
    """`module_pathname` for a script, which the control file of its version may set anew, and the file that says it."""
    path = f"{script_folder(control)}/{control.name}--{script.end}.control"
    entry = root.entries.get(path)
    if isinstance(entry, File):
        try:
            own = parse_control(read_content(entry, SIZE_LIMIT + 1), name=control.name).values.get("module_pathname")
        except ControlError:
            own = None
        if own is not None:
            return own, path
    return control.values.get("module_pathname"), control.path


def _misnamed(root: ImageRoot, control: Control, library: str, place: str) -> Finding:
    """What is wrong with a library that is no plain name."""
    if _TOKEN in library:
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


def _scope(known: Mapping[str, tuple[str, Library]], library: Library) -> frozenset[str]:
    """The symbols that PostgreSQL finds in a module: its own, and those of what it needs (`dlsym`)."""
    found = set(library.facts.exports)
    seen: set[str] = set()
    todo = list(library.facts.needed)
    while todo:
        name = todo.pop()
        if name in known and name not in seen:
            seen.add(name)
            found |= known[name][1].facts.exports
            todo.extend(known[name][1].facts.needed)
    return frozenset(found)


def read_script(root: ImageRoot, path: str) -> str:
    """A script's text, links followed; empty when it leads nowhere."""
    entry = root.entries.get(resolve(path, root.entries) or "")
    return read_content(entry).decode(errors="replace") if isinstance(entry, File) else ""
