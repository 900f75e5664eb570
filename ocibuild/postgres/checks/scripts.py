"""Checks on scripts: whether they lead to the default version, and what in them would fail."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ocibuild.layer.entry import File
from ocibuild.layer.plan import resolve
from ocibuild.postgres.control import Control
from ocibuild.postgres.root import ImageRoot
from ocibuild.postgres.upgrades import Script, find_scripts, install_path, leading_to, script_folder

from .finding import Finding, listed
from .functions import Seen, check_functions, check_preload, read_script
from .sql import Statement, statements

__all__ = ["TOKEN", "check_scripts"]

Named = dict[str, dict[str, list[str]]]
"""Scripts by the extension that their names begin with, and by folder."""

TOKEN = re.compile(r"@(?:CARGO_VERSION|GIT_HASH)@")
"""What `cargo pgrx package` replaces in control files and scripts."""

_PATH = re.compile(r"/(?:usr|opt|etc|var|home|tmp|root|srv)/[^'\n]{1,200}")
_COPY = re.compile(r"\bcopy\b[^;']{0,1000}?\bfrom\s+'(/[^'\n]{1,200})'", re.IGNORECASE)
_COPY_TOP = re.compile(r"\s*copy\b[^']{0,1000}?\bfrom\s+'(\d+)'", re.IGNORECASE)
_LOAD = re.compile(r"\s*load\s+'(\d+)'\s*", re.IGNORECASE)
_LOAD_INSIDE = re.compile(r"\bload\s+''?(\$libdir/[^'\n]{1,200})'", re.IGNORECASE)
_TEXT_LIMIT = 200_000_000
_FOLDERS = 10
_SHORT = 64 * 1024
_TESTS = re.compile(r"create\s+schema\s+(?:if\s+not\s+exists\s+)?\"?tests\"?", re.IGNORECASE)
_TRANSACTION = re.compile(
    r"\s*(?:begin|commit|rollback|start\s+transaction|end)(?:\s+(?:work|transaction))?\s*", re.IGNORECASE
)
_CALL = re.compile(r"(?<![\w$])([\w$]{1,63})\s*\(")
_PSQL = re.compile(r"^\\(?!echo)[a-z!?]\S{0,30}", re.MULTILINE)


def check_scripts(root: ImageRoot, preload: Sequence[str]) -> Iterator[Finding]:
    """What would go wrong when PostgreSQL runs the scripts of a root."""
    yield from check_preload(root, preload)
    run: set[str] = set()
    named: Named = {}
    for path in root.entries:
        if path.endswith(".sql"):
            folder, _, name = path.rpartition("/")
            named.setdefault(name.partition("--")[0], {}).setdefault(folder, []).append(path)
    own: set[str] = set()
    seen = Seen()
    for control in root.controls:
        own |= {script.path for script in _scripts(control, named)}
        run |= {script.path for script in _installed(control, named) or ()}
        yield from _control_scripts(root, control, named, seen)
    yield from _without_control(root, named)
    left = _TEXT_LIMIT
    read: set[object] = set()
    for path in root.entries:
        entry = root.entries.get(resolve(path, root.entries) or "") if path.endswith(".sql") else None
        # A script of several names is read once for those that are run, and once for the others.
        if not isinstance(entry, File) or (entry.content, path in run) in read:
            continue
        left -= entry.size
        if left < 0:
            yield _unread(root, path)
            return
        read.add((entry.content, path in run))
        yield from _token(root, path)
        if path in own:
            yield from _text(root, path, path in run)


def _unread(root: ImageRoot, path: str) -> Finding:
    return Finding(
        id="unread-scripts",
        severity="warning",
        message=f"more than {_TEXT_LIMIT // 1_000_000} MB of scripts: this one and those after it were not read",
        where=root.where(path),
    )


def _scripts(control: Control, named: Named) -> list[Script]:
    return list(find_scripts(control, named.get(control.name, {}).get(script_folder(control), ())))


def _installed(control: Control, named: Named) -> list[Script] | None:
    version = control.default_version
    return install_path(_scripts(control, named), version) if version else None


def _control_scripts(root: ImageRoot, control: Control, named: Named, seen: Seen) -> Iterator[Finding]:
    if control.values.get("directory", "").startswith("/") or not control.path.rpartition("/")[0].endswith("extension"):
        return  # that is told already, and no path here is the one PostgreSQL takes
    scripts = _scripts(control, named)
    yield from _misplaced(root, control, named.get(control.name, {}))
    version = control.default_version
    if version is None or TOKEN.search(version):
        return
    steps = install_path(scripts, version)
    if steps is None:
        yield Finding(
            id="missing-script",
            severity="error",
            message=f"no script installs {control.name} {version}, and no upgrades lead to it: CREATE EXTENSION would fail",
            where=root.where(control.path),
            hint="Package the tree again; the version and the scripts' names must agree.",
        )
    yield from _unreached(root, control, scripts, named, version)
    yield from _stale(root, control, scripts, version)
    yield from check_functions(root, control, steps or (), seen)


def _without_control(root: ImageRoot, named: Named) -> Iterator[Finding]:
    names = {path.rpartition("/")[2].removesuffix(".control") for path in root.entries if path.endswith(".control")}
    for name, folders in named.items():
        paths = [path for group in folders.values() for path in group]
        install = [path for path in paths if "--" in path and path.rpartition("/")[0].rpartition("/")[2] == "extension"]
        if install and name not in names:
            yield Finding(
                id="missing-control",
                severity="warning" if root.controls else "error",
                message=f"scripts of {name}, and no {name}.control: PostgreSQL does not know the extension",
                where=root.where(install[0]),
                hint="Add the control file.",
            )


def _misplaced(root: ImageRoot, control: Control, folders: Mapping[str, list[str]]) -> Iterator[Finding]:
    folder = script_folder(control)
    if folder in folders and len(folders) > _FOLDERS:
        return  # each folder has a control file of its own
    elsewhere = [
        path for other, paths in folders.items() if other != folder for path in paths if "--" in path.rpartition("/")[2]
    ]
    if elsewhere:
        yield Finding(
            id="misplaced-script",
            severity="warning",
            message=f"{_names(elsewhere)} of {control.name}: PostgreSQL reads its scripts in {folder} only",
            where=root.where(elsewhere[0]),
            hint=f"Move {'it' if len(elsewhere) == 1 else 'them'} there, or set directory in the control file.",
        )


def _unreached(
    root: ImageRoot, control: Control, scripts: Sequence[Script], named: Named, version: str
) -> Iterator[Finding]:
    leads = leading_to(scripts, version)
    useful = {script.path for script in scripts if script.end in leads}
    folder = script_folder(control)
    names = (control.name, f"uninstall_{control.name}.sql", f"{control.name}.sql")
    idle = [path for name in names for path in named.get(name, {}).get(folder, ()) if path not in useful]
    if idle:
        yield Finding(
            id="unreached-script",
            severity="info",
            message=f"{_names(idle)}: no path leads from there to {control.name} {version}",
            where=root.where(idle[0]),
            hint="It does no harm.",
        )


def _stale(root: ImageRoot, control: Control, scripts: Sequence[Script], version: str) -> Iterator[Finding]:
    """What an earlier `cargo pgrx package` left: it never empties its folder."""
    found = [(item.path, "install script", item.end) for item in scripts if item.start is None]
    for library in root.libraries:
        stem = library.path.rpartition("/")[2].removesuffix(".so")
        if stem.startswith(f"{control.name}-"):
            found.append((library.path, "library", stem.removeprefix(f"{control.name}-")))
    for path, what, other in found:
        if other != version and root.owners[path].kind == "pgrx":
            yield Finding(
                id="stale-file",
                severity="warning",
                message=f"the {what} of version {other}, while default_version is {version}",
                where=root.where(path),
                hint="cargo pgrx package never empties its folder: "
                "delete the folder and package again, unless you mean to ship it.",
            )


def _token(root: ImageRoot, path: str) -> Iterator[Finding]:
    text = read_script(root, path)
    if match := TOKEN.search(path) or TOKEN.search(text):
        yield Finding(
            id="leftover-token",
            severity="error" if TOKEN.search(path) else "warning",
            message=f"{match[0]} was not replaced",
            where=root.where(path),
            hint="Build the tree with cargo pgrx package, which replaces it.",
        )


def _text(root: ImageRoot, path: str, is_run: bool) -> Iterator[Finding]:
    """What is wrong with a script that PostgreSQL may run: an error where CREATE EXTENSION runs it."""
    text = read_script(root, path)
    found = _short_script(text, is_run) if len(text) <= _SHORT else tuple(_script(text, is_run))
    for finding in found:
        yield msgspec.structs.replace(finding, where=root.where(path))


@functools.lru_cache(maxsize=256)
def _short_script(text: str, is_run: bool) -> tuple[Finding, ...]:
    """The findings of a script; most are the same on every platform."""
    return tuple(_script(text, is_run))


def _script(text: str, is_run: bool) -> Iterator[Finding]:
    severity = "error" if is_run else "warning"
    psql = _PSQL.search(text)
    if text.startswith("\ufeff"):
        yield _command(severity, "a byte-order mark")
    elif psql is not None:
        yield _command(severity, f"the psql command {psql[0]}")
    found = list(statements(text))
    if any(_TRANSACTION.fullmatch(item.code) for item in found):
        yield _command(severity, "a transaction command")
    yield from _loads(found, severity)
    yield from _absolute(found, is_run)
    if is_run and any(_TESTS.fullmatch(item.code.strip()) for item in found):
        yield Finding(
            id="test-schema",
            severity="warning",
            message="it makes the schema tests: built with pgrx's pg_test feature",
            hint="Package without --features pg_test.",
        )


def _command(severity: str, what: str) -> Finding:
    return Finding(
        id="script-command",
        severity=severity,
        message=f"{what}, which PostgreSQL does not take in an extension's script",
        hint="Leave it out.",
    )


def _loads(found: Sequence[Statement], severity: str) -> Iterator[Finding]:
    tops = [item.strings[int(match[1])] for item in found if (match := _LOAD.fullmatch(item.code))]
    inside = [match[1] for item in found for text in item.strings if (match := _LOAD_INSIDE.search(text))]
    for library in dict.fromkeys([*(top for top in tops if top.startswith("$libdir/")), *inside]):
        yield Finding(
            id="libdir-path",
            severity=severity,
            message=f"LOAD '{library}': the server would look in its own folder only",
            hint="Write the name alone, or build with --strip-libdir.",
        )


def _absolute(found: Sequence[Statement], is_run: bool) -> Iterator[Finding]:
    """Files that a script, or a function that it makes, reads from the server by an absolute path."""
    copied, others = "", ""
    called = {name for item in found if item.function is None for name in _CALL.findall(item.code.lower())}
    for item in found:
        match = _COPY_TOP.match(item.code)
        inside = next((one for text in item.strings if (one := _COPY.search(text))), None)
        if match and item.strings[int(match[1])].startswith("/"):
            copied = copied or item.strings[int(match[1])]
        elif inside is not None:
            # The body of a function fails when it is called.
            is_called = item.function is None or item.function in called
            copied, others = (copied or inside[1], others) if is_called else (copied, others or inside[1])
        elif item.language != "c":
            others = others or next((text for text in item.strings if _PATH.fullmatch(text)), "")
    is_fatal = bool(copied) and is_run
    if copied or others:
        yield Finding(
            id="absolute-path",
            severity="error" if is_fatal else "warning",
            message=f"it reads the file {copied or others!r} of the server"
            + (": CREATE EXTENSION would fail" if is_fatal else ""),
            hint="The image is mounted at /extensions/NAME: keep the data in the script.",
        )


def _names(paths: Sequence[str]) -> str:
    return listed([path.rpartition("/")[2] for path in paths])
