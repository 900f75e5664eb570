"""Checks on control files."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ocibuild.errors import ControlError
from ocibuild.layer.entry import File
from ocibuild.postgres.control import KEYS, SIZE_LIMIT, Control, parse_control
from ocibuild.postgres.policies import DISTROS, load_policy
from ocibuild.postgres.root import ImageRoot
from ocibuild.postgres.sources.base import read_content

from .finding import Finding

__all__ = ["check_controls"]

_LANGUAGES = re.compile(r"(?:.+_)?pl(?:perl|python|tcl)[0-9u]*")
_TOKEN = re.compile(r"@(?:CARGO_VERSION|GIT_HASH)@")


def check_controls(root: ImageRoot, distro: str | None) -> Iterator[Finding]:
    """What PostgreSQL would not take of the control files of a root."""
    for control in root.controls:
        yield from _keys(root, control)
        yield from _directory(root, control)
        yield from _requires(root, control, distro)
        yield from _place(root, control.path)
    for path, entry in root.entries.items():
        name = path.rpartition("/")[2]
        if name.endswith(".control") and "--" in name and isinstance(entry, File):
            yield from _secondary(root, path, entry)


def _keys(root: ImageRoot, control: Control) -> Iterator[Finding]:
    where = root.where(control.path)
    for key in control.unknown:
        yield Finding(
            id="unknown-key",
            severity="error",
            message=f"the key {key!r}, which PostgreSQL 18 does not know: it refuses the whole file",
            where=where,
            hint=f"It knows: {', '.join(sorted(KEYS))}.",
        )
    for key in control.not_boolean:
        yield Finding(
            id="not-boolean",
            severity="error",
            message=f"{key} = {control.values[key]!r}: PostgreSQL wants true or false",
            where=where,
            hint="Write true or false.",
        )
    if control.default_version is None:
        yield Finding(
            id="no-default-version",
            severity="error",
            message="no default_version: CREATE EXTENSION without a version would fail",
            where=where,
            hint="Add default_version = '...'.",
        )
    for key, value in control.values.items():
        if match := _TOKEN.search(value):
            yield Finding(
                id="leftover-token",
                severity="error",
                message=f"{match[0]} was not replaced in {key}: PostgreSQL would take it as it is",
                where=where,
                hint="Build the tree with cargo pgrx package, which replaces it.",
            )


def _directory(root: ImageRoot, control: Control) -> Iterator[Finding]:
    directory = control.values.get("directory", "")
    if directory.startswith("/"):
        yield Finding(
            id="absolute-path",
            severity="error",
            message=f"directory = {directory!r}: an absolute path, which does not lead into the mounted image",
            where=root.where(control.path),
            hint="Write it relative to the folder above extension.",
        )


def _requires(root: ImageRoot, control: Control, distro: str | None) -> Iterator[Finding]:
    # What comes with PostgreSQL is the same on every architecture.
    known = {item.name for item in root.controls} | load_policy(distro or DISTROS[-1], "amd64").extensions
    for name in control.requires:
        if name in known:
            continue
        is_language = _LANGUAGES.fullmatch(name) is not None
        yield Finding(
            id="required-extension",
            severity="warning" if is_language else "info",
            message=f"it requires {name}, which is "
            + ("not in CloudNativePG's minimal images" if is_language else "neither in this image nor in the server's"),
            where=root.where(control.path),
            hint="Use the standard or system flavour of the server's image."
            if is_language
            else f"Mount an image with {name} beside this one.",
        )


def _place(root: ImageRoot, path: str) -> Iterator[Finding]:
    folder = path.rpartition("/")[0]
    if folder.rpartition("/")[2] != "extension":
        yield Finding(
            id="control-location",
            severity="error",
            message=f"a control file in {folder or 'the root'}: PostgreSQL looks in folders named extension only",
            where=root.where(path),
            hint=f"Move it to {folder or 'share'}/extension.",
        )


def _secondary(root: ImageRoot, path: str, file: File) -> Iterator[Finding]:
    """What a control file of one version may not say (`parse_extension_control_file`)."""
    name = path.rpartition("/")[2].partition("--")[0]
    try:
        control = parse_control(read_content(file, SIZE_LIMIT + 1), name=name, path=path, where=root.where(path))
    except ControlError as error:
        yield Finding(
            id="unreadable-control",
            severity="error",
            message=f"PostgreSQL cannot read it: {error.found}",
            where=root.where(path),
            hint="Mend the line.",
        )
        return
    for key in sorted({*control.unknown, *({"default_version", "directory"} & control.values.keys())}):
        yield Finding(
            id="unknown-key",
            severity="error",
            message=f"the key {key!r}, which the control file of one version cannot have",
            where=root.where(path),
            hint="Move it to the main control file.",
        )
