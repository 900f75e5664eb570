"""How CloudNativePG is told to mount an extension image: `.spec.postgresql.extensions[]` of a Cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ocibuild.elf import SharedObject
from ocibuild.layer.entry import Symlink
from ocibuild.layer.plan import resolve

from .root import ImageRoot
from .sources import Library

__all__ = ["MOUNT_NAME", "ExtensionConfiguration", "configuration", "mount_name"]

MOUNT_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9_]{0,57}[a-z0-9])?")
"""What CloudNativePG takes as the name of an extension's mount."""

_DEFAULTS = {"extension_control_path": ("share",), "dynamic_library_path": ("lib",)}
SYSTEM = "system"


class ExtensionConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """The paths and variables that CloudNativePG needs for an image.

    Attributes:
        name: The mount's name; the image is mounted at `/extensions/<name>`.
        extension_control_path: Folders that have a folder `extension` with control files.
        dynamic_library_path: Folders with modules.
        ld_library_path: Folders with libraries that modules need.
        bin_path: Folders with programs.
        env: Variables; `${image_root}` stands for the mount.
    """

    name: str
    extension_control_path: tuple[str, ...] = ()
    dynamic_library_path: tuple[str, ...] = ()
    ld_library_path: tuple[str, ...] = ()
    bin_path: tuple[str, ...] = ()
    env: Mapping[str, str] = msgspec.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The stanza's fields as CloudNativePG names them, those left out that have their default or nothing."""
        fields: dict[str, Any] = {"name": self.name}
        for key in ("extension_control_path", "dynamic_library_path", "ld_library_path", "bin_path"):
            value = getattr(self, key)
            if value and value != _DEFAULTS.get(key):
                fields[key] = list(value)
        if self.env:
            fields["env"] = [{"name": key, "value": value} for key, value in sorted(self.env.items())]
        return fields


def configuration(
    name: str, roots: Sequence[ImageRoot], *, env: Mapping[str, str] | None = None
) -> ExtensionConfiguration:
    """What CloudNativePG must be told of an image with these roots.

    Example:
        >>> from ocibuild.postgres import image_roots, open_source
        >>> roots = image_roots([open_source("fixtures/packages/amd64/pgrx_hello-pg18")])
        >>> configuration("pgrx_hello", roots).to_dict()
        {'name': 'pgrx-hello'}
    """
    controls = {_parent(_parent(control.path)) for root in roots for control in root.controls}
    modules = {_parent(library.path) for root in roots for library in root.libraries if library.magic}
    needed = {folder for root in roots for folder in library_folders(root)}
    folders = {_parent(path) for root in roots for path in root.entries}
    programs = {folder for folder in folders if folder.rpartition("/")[2] == "bin"}
    return ExtensionConfiguration(
        name=mount_name(name),
        extension_control_path=_paths(controls),
        dynamic_library_path=_paths(modules),
        ld_library_path=_paths(needed),
        bin_path=_paths(programs),
        env=dict(env or {}),
    )


def loadable(root: ImageRoot) -> dict[str, tuple[str, Library]]:
    """The libraries of a root by the names under which the loader would open them, links included, and their folders."""
    by_path = {library.path: library for library in root.libraries}
    if not by_path:
        return {}
    found: dict[str, tuple[str, Library]] = {}
    for path, entry in root.entries.items():
        target = resolve(path, root.entries) if isinstance(entry, Symlink) else path
        if target in by_path:
            found.setdefault(path.rpartition("/")[2], (_parent(path), by_path[target]))
    return found


def library_folders(root: ImageRoot, names: Mapping[str, tuple[str, Library]] | None = None) -> list[str]:
    """The folders of libraries that others of the root need and would not find by their own run path."""
    known = loadable(root) if names is None else names
    folders = (
        known[name][0]
        for library in root.libraries
        for name in library.facts.needed
        if name in known and known[name][0] not in run_folders(library.path, library.facts)
    )
    return list(dict.fromkeys(folders))


def run_folders(path: str, facts: SharedObject) -> list[str]:
    """The folders of the image in which the loader looks for what a library needs, by its run path."""
    folders = []
    for item in facts.runpath:
        for origin in ("$ORIGIN", "${ORIGIN}"):
            if item.startswith(origin):
                parts = [*_parent(path).split("/"), *item[len(origin) :].strip("/").split("/")]
                folders.append("/".join(_normal(parts)))
    return folders


def mount_name(name: str) -> str:
    """The mount's name for an image or extension: in lower case, `_` and what else the first operators refused as `-`.

    Example:
        >>> mount_name("pg_trickle")
        'pg-trickle'
    """
    return re.sub(r"[^a-z0-9-]+", "-", name.rpartition("/")[2].lower()).strip("-")


def _paths(folders: set[str]) -> tuple[str, ...]:
    # CloudNativePG takes no empty path; the root itself is a dot.
    return tuple(sorted(folder or "." for folder in folders))


def _normal(parts: Sequence[str]) -> list[str]:
    done: list[str] = []
    for part in parts:
        if part == "..":
            del done[-1:]
        elif part not in ("", "."):
            done.append(part)
    return done


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
