"""An extension's scripts, and the path of upgrades that installs a version (`extension.c`)."""

from __future__ import annotations

import posixpath
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from .control import Control

__all__ = ["Script", "find_scripts", "install_path", "leading_to", "script_folder"]


class Script(msgspec.Struct, frozen=True):
    """A script of an extension and the versions in its name; `start` is None for one that installs."""

    path: str
    start: str | None
    end: str


def find_scripts(control: Control, paths: Iterable[str]) -> Iterator[Script]:
    """An extension's scripts among paths, where PostgreSQL looks for them (`get_ext_ver_list`).

    Example:
        >>> control = Control(name="x", path="share/extension/x.control")
        >>> [script.end for script in find_scripts(control, ["share/extension/x--1.0.sql", "share/x--2.0.sql"])]
        ['1.0']
    """
    beginning = f"{script_folder(control)}/{control.name}--".lstrip("/")
    for path in paths:
        if path.startswith(beginning) and "/" not in path[len(beginning) :] and path.endswith(".sql"):
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
    """The scripts that install a version: its own, else another's and the fewest upgrades; None when nothing does.

    Example:
        >>> [item.path for item in install_path([Script("a", None, "1"), Script("b", "1", "2")], "2")]
        ['a', 'b']
    """
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


def leading_to(scripts: Sequence[Script], version: str) -> set[str]:
    """The versions from which upgrades lead to a version, that one included."""
    before: dict[str, list[str]] = {}
    for script in scripts:
        if script.start is not None:
            before.setdefault(script.end, []).append(script.start)
    found, todo = {version}, [version]
    while todo:
        for start in before.get(todo.pop(), ()):
            if start not in found:
                found.add(start)
                todo.append(start)
    return found
