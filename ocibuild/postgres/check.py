"""Checks: what would go wrong with an extension once it is mounted, all of it at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .control import KEYS, Control
from .sources import Source
from .sources.base import content_digest, read_content

__all__ = ["Finding", "Report", "check"]

FIRST_MAJOR = 18
"""The first PostgreSQL that loads extensions from a mounted image (`extension_control_path`)."""

_TOKEN = re.compile(r"@(?:CARGO_VERSION|GIT_HASH)@")
_SCRIPT = re.compile(r"(?P<name>.+?)--(?P<first>.+?)(?:--(?P<second>.+))?\.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing a check found.

    Attributes:
        id: The check's identifier, such as `stale-script`.
        severity: `error` (the extension would not work), `warning` or `info`.
        message: What was found.
        where: The file it is about.
        hint: What to do.
    """

    id: str
    severity: str
    message: str
    where: str
    hint: str = ""

    def to_dict(self) -> dict[str, str]:
        """The finding as `--json` prints it."""
        return {
            "id": self.id,
            "severity": self.severity,
            "message": self.message,
            "where": self.where,
            "hint": self.hint,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All findings. True when none is an error."""

    findings: tuple[Finding, ...]

    def __bool__(self) -> bool:
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that forbid publishing."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


def check(sources: Iterable[Source]) -> Report:
    """Every finding on an extension's sources.

    Args:
        sources: One or several a platform, from `open_source`.

    Returns:
        A report, true when no finding is an error.

    Example:
        >>> from ocibuild.postgres import open_source
        >>> bool(check([open_source("fixtures/packages/amd64/pgrx_hello-pg18")]))
        True
    """
    found = list(sources)
    findings = [finding for source in found for finding in _each(source)]
    findings.extend(_libraries(found))
    findings.extend(_platforms(found))
    order = {"error": 0, "warning": 1, "info": 2}
    return Report(tuple(sorted(findings, key=lambda item: (order[item.severity], item.where, item.id, item.message))))


def _each(source: Source) -> Iterator[Finding]:
    yield from _tokens(source)
    yield from _major(source)
    for control in source.controls:
        yield from _control(source, control)
        if control.default_version and not _TOKEN.search(control.default_version):
            yield from _stale_files(source, control.name, control.default_version)
            yield from _reachable(source, control.name, control.default_version)
    for path in source.left_out:
        yield Finding(
            id="left-out",
            severity="warning",
            message="a file outside the extension's folders; it is not in the image",
            where=f"{source.where}/{path}",
            hint="Move it below the share or lib folder if the extension needs it.",
        )


def _major(source: Source) -> Iterator[Finding]:
    named = re.search(r"-pg(\d+)$", source.where.name)
    if source.major and named and int(named[1]) != source.major:
        yield Finding(
            id="major-differs",
            severity="warning",
            message=f"modules for PostgreSQL {source.major} in a folder named for {named[1]}",
            where=str(source.where),
            hint="Package again if the folder's name is right.",
        )
    if source.major and source.major < FIRST_MAJOR:
        yield Finding(
            id="major-too-old",
            severity="warning",
            message=f"PostgreSQL {source.major} cannot load an extension from a mounted image: no extension_control_path",
            where=str(source.where),
            hint=f"Image volumes need PostgreSQL {FIRST_MAJOR} or later.",
        )


def _control(source: Source, control: Control) -> Iterator[Finding]:
    where = _where(source, f"share/extension/{control.name}.control")
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


def _tokens(source: Source) -> Iterator[Finding]:
    for path, file in source.scripts.items():
        match = _TOKEN.search(path) or _TOKEN.search(read_content(file).decode(errors="replace"))
        if match is None:
            continue
        is_control = path.endswith(".control")
        yield Finding(
            id="leftover-token",
            severity="error" if is_control or _TOKEN.search(path) else "warning",
            message=f"{match[0]} was not replaced" + (": PostgreSQL would take it for a version" if is_control else ""),
            where=_where(source, path),
            hint="Build the tree with cargo pgrx package, which replaces it.",
        )


def _stale_files(source: Source, name: str, version: str) -> Iterator[Finding]:
    for path, match in _named(source, name):
        if match["second"] is None and match["first"] != version:
            yield _stale(source, path, f"the install script of version {match['first']}", version)
    for library in source.libraries:
        stem = library.path.rpartition("/")[2].removesuffix(".so")
        if stem.startswith(f"{name}-") and stem != f"{name}-{version}":
            yield _stale(source, library.path, f"the library of version {stem.removeprefix(f'{name}-')}", version)


def _reachable(source: Source, name: str, version: str) -> Iterator[Finding]:
    """PostgreSQL installs a version by its install script, or another's and a path of upgrades (`find_install_path`)."""
    scripts = [match for _, match in _named(source, name)]
    reached = {match["first"] for match in scripts if match["second"] is None}
    todo = list(reached)
    while todo:
        start = todo.pop()
        ends = {match["second"] for match in scripts if match["second"] and match["first"] == start} - reached
        reached |= ends
        todo.extend(ends)
    if version not in reached:
        yield Finding(
            id="missing-script",
            severity="error",
            message=f"no script installs {name} {version}, and no upgrades lead to it: CREATE EXTENSION would fail",
            where=_where(source, f"share/extension/{name}--{version}.sql"),
            hint="Package the tree again.",
        )


def _named(source: Source, name: str) -> Iterator[tuple[str, re.Match[str]]]:
    """An extension's scripts where PostgreSQL looks for them, and the versions in their names."""
    folders = [path.rpartition("/")[0] for path in source.scripts if path.endswith(f"/{name}.control")]
    directory = next((control.values.get("directory") for control in source.controls if control.name == name), None)
    if directory and folders:
        # Relative to the folder above `extension` (get_extension_script_directory).
        folders = [f"{folders[0].rpartition('/')[0]}/{directory}".lstrip("/")]
    for path in source.scripts:
        folder, _, file = path.rpartition("/")
        match = _SCRIPT.fullmatch(file)
        if match is not None and match["name"] == name and folder in folders:
            yield path, match


def _libraries(sources: Sequence[Source]) -> Iterator[Finding]:
    """The library that `module_pathname` names must be on each platform."""
    for platform in sorted({str(source.platform) for source in sources}):
        group = [source for source in sources if str(source.platform) == platform]
        present = {entry.path.rpartition("/")[2] for source in group for entry in source.entries}
        for source in group:
            for control in source.controls:
                module = control.values.get("module_pathname", "").removeprefix("$libdir/").removesuffix(".so")
                if module and "/" not in module and f"{module}.so" not in present:
                    yield Finding(
                        id="missing-library",
                        severity="error",
                        message=f"module_pathname names {module}, and there is no {module}.so for {platform}",
                        where=_where(source, f"share/extension/{control.name}.control"),
                        hint="Package the tree again.",
                    )


def _stale(source: Source, path: str, what: str, version: str) -> Finding:
    return Finding(
        id="stale-file",
        severity="warning",
        message=f"{what}, while default_version is {version}",
        where=_where(source, path),
        hint="cargo pgrx package never empties its folder: delete the folder and package again, unless you mean to ship it.",
    )


def _platforms(sources: Sequence[Source]) -> Iterator[Finding]:
    by_platform: dict[str, dict[str, tuple[Source, str]]] = {}
    for source in sources:
        files = by_platform.setdefault(str(source.platform), {})
        files.update((path, (source, content_digest(file))) for path, file in source.scripts.items())
    if not by_platform:
        return
    first, *others = sorted(by_platform)
    for other in others:
        ours, theirs = by_platform[first], by_platform[other]
        for path in sorted(ours.keys() | theirs.keys()):
            if path in ours and path in theirs:
                if ours[path][1] == theirs[path][1]:
                    continue
                message = f"differs between {first} and {other}"
            else:
                message = f"only in {first if path in ours else other}, not in {other if path in ours else first}"
            trees = " and ".join(str(files[path][0].where) for files in (ours, theirs) if path in files)
            yield Finding(
                id="platforms-differ",
                severity="error",
                message=message,
                where=f"{trees}: {path}",
                hint="One of the trees is stale: delete both and package again from one commit.",
            )


def _where(source: Source, path: str) -> str:
    return f"{source.where}: {path}"
