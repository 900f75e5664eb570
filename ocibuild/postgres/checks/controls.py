"""Checks on control files."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ocibuild.errors import ControlError
from ocibuild.layer.entry import File
from ocibuild.postgres.control import KEYS, SIZE_LIMIT, Control, parse_control
from ocibuild.postgres.policies import DISTROS, load_policy
from ocibuild.postgres.root import ImageRoot
from ocibuild.postgres.sources.content import read_content

from .finding import Finding
from .scripts import TOKEN

__all__ = ["check_controls"]

_LANGUAGES = re.compile(r"(?:.+_)?pl(?:perl|python|tcl)[0-9u]*")
_REQUIRED = re.compile(r'\s*(?:"[^"]+"|[^\x00-@\[-^`{-\x7f][^\x00-#%-/:-@\[-^`{-\x7f]*)\s*')
# pg_char_to_encoding, with case, - and _ of no account; those of the server.
_ENCODINGS = frozenset(
    [
        "sqlascii",
        "eucjp",
        "euccn",
        "euckr",
        "euctw",
        "eucjis2004",
        "utf8",
        "unicode",
        "mulecode",
        "latin1",
        "latin2",
        "latin3",
        "latin4",
        "latin5",
        "latin6",
        "latin7",
        "latin8",
        "latin9",
        "latin10",
        "iso88591",
        "iso88592",
        "iso88593",
        "iso88594",
        "iso88595",
        "iso88596",
        "iso88597",
        "iso88598",
        "iso88599",
        "iso885910",
        "iso885913",
        "iso885914",
        "iso885915",
        "iso885916",
        "win",
        "win1250",
        "win1251",
        "win1252",
        "win1253",
        "win1254",
        "win1255",
        "win1256",
        "win1257",
        "win1258",
        "win866",
        "win874",
        "koi8",
        "koi8r",
        "koi8u",
        "abc",
        "alt",
        "tcvn",
        "tcvn5712",
        "vscii",
        "windows1250",
        "windows1251",
        "windows1252",
        "windows1253",
        "windows1254",
        "windows1255",
        "windows1256",
        "windows1257",
        "windows1258",
        "windows866",
        "windows874",
    ]
)


def check_controls(root: ImageRoot, distro: str | None) -> Iterator[Finding]:
    """What PostgreSQL would not take of the control files of a root."""
    for control in root.controls:
        yield from _keys(root, control)
        yield from _values(root, control)
        yield from _directory(root, control)
        yield from _requires(root, control, distro)
        yield from _place(root, control.path)
    for path, entry in root.entries.items():
        if path.endswith(".control") and "--" in path.rpartition("/")[2] and isinstance(entry, File):
            yield from _secondary(root, path, entry)


def _keys(root: ImageRoot, control: Control) -> Iterator[Finding]:
    where = root.where(control.path)
    for key in control.unknown:
        yield Finding(
            id="unknown-key",
            severity="error",
            message=f"the key {key!r}, which PostgreSQL 18 does not know: pg_available_extensions fails for the whole server",
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
        if match := TOKEN.search(value):
            yield Finding(
                id="leftover-token",
                severity="error",
                message=f"{match[0]} was not replaced in {key}: PostgreSQL would take it as it is",
                where=where,
                hint="Build the tree with cargo pgrx package, which replaces it.",
            )


def _values(root: ImageRoot, control: Control) -> Iterator[Finding]:
    """Values that PostgreSQL refuses, most of them with the list of all extensions (`parse_extension_control_file`)."""
    values = control.values
    if "schema" in values and values.get("relocatable", "").lower() in ("true", "t", "on", "yes", "y", "1"):
        yield _refused(root, control, "schema in a relocatable extension", "Leave one of them out.")
    encoding = re.sub(r"[^a-z0-9]", "", values.get("encoding", "utf8").lower())
    if encoding not in _ENCODINGS:
        yield _refused(root, control, f"encoding = {values['encoding']!r}", "Name one of PostgreSQL's encodings.")
    for key in ("requires", "no_relocate"):
        text = values.get(key, "")
        if text.strip() and not all(_REQUIRED.fullmatch(item) for item in text.split(",")):
            yield _refused(root, control, f"{key} = {text!r}", "Write names with commas between them.")
    version = values.get("default_version")
    if version is not None and (not version or "--" in version or version.strip("-") != version or "/" in version):
        yield _refused(
            root, control, f"default_version = {version!r}", "A version has no --, no / and no - at its ends."
        )
    if control.name in control.requires:
        yield _refused(root, control, "it requires itself", "Leave it out of requires.")
    if control.name in load_policy(DISTROS[-1], "amd64").extensions:
        yield Finding(
            id="built-in-name",
            severity="warning",
            message=f"{control.name} comes with PostgreSQL, whose own is taken before this one",
            where=root.where(control.path),
            hint="Give it another name.",
        )


def _refused(root: ImageRoot, control: Control, what: str, hint: str) -> Finding:
    return Finding(
        id="bad-value",
        severity="error",
        message=f"{what}: PostgreSQL refuses it, mostly with the list of all extensions",
        where=root.where(control.path),
        hint=hint,
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
