"""Checks on loading: whether the dynamic loader of a Debian release's operand image can load what the image holds.

What is asked of libraries (`DT_NEEDED`, symbol versions, undefined symbols) is compared with what the server's image and
this one give.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from ocibuild.errors import UsageError
from ocibuild.postgres.configuration import library_folders, run_folders
from ocibuild.postgres.policies import DISTROS, Policy, Server, load_policy, load_server
from ocibuild.postgres.root import ImageRoot
from ocibuild.postgres.sources import Library

from .finding import Finding, Verdict

__all__ = ["check_loading"]

_LISTED = 5
_NO_EXECUTABLE_STACK = (2, 41)
"""The first glibc that refuses to load a library with an executable stack into a running process."""

SERVER_MAJOR = 18


def check_loading(roots: Sequence[ImageRoot], distro: str | None) -> tuple[tuple[Verdict, ...], list[Finding]]:
    """A verdict for each Debian release, and what it comes to: all that hinders the one named, or the newest if all fail."""
    distros = [distro] if distro else [name for name in DISTROS if load_policy(name, "amd64").operand]
    findings = list(_unknown(roots))
    known = [root for root in roots if _policy(root, distros[0]) is not None]
    if distro:
        load_policy(distro, "amd64")
    if not any(root.libraries for root in known):
        return (), findings
    verdicts = tuple(
        Verdict(distro=name, findings=tuple(finding for root in known for finding in _hindrances(root, name)))
        for name in distros
    )
    if distro or not any(verdicts):
        findings.extend(verdicts[-1].findings)
    return verdicts, findings


def _unknown(roots: Sequence[ImageRoot]) -> Iterator[Finding]:
    for root in roots:
        if root.libraries and _policy(root, DISTROS[0]) is None:
            yield Finding(
                id="unknown-platform",
                severity="info",
                message=f"nothing is known of servers for {root.platform}: what its libraries need was not checked",
                where=str(root.sources[0].where),
            )


def _policy(root: ImageRoot, distro: str) -> Policy | None:
    try:
        return load_policy(distro, root.platform.architecture)
    except UsageError:
        return None


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a library of a root can bind to on one release."""

    root: ImageRoot
    policy: Policy
    server: Server | None
    own: dict[str, Library]
    folders: tuple[str, ...]

    def find(self, name: str, asking: Library) -> Library | None:
        """The image's library of a name, if the loader would look where it is."""
        found = self.own.get(name)
        if found is None:
            return None
        folder = found.path.rpartition("/")[0]
        return found if folder in (*self.folders, *run_folders(asking.path, asking.facts)) else None


def _hindrances(root: ImageRoot, distro: str) -> Iterator[Finding]:
    policy = load_policy(distro, root.platform.architecture)
    own = {library.path.rpartition("/")[2]: library for library in root.libraries}
    own |= {library.facts.soname: library for library in root.libraries if library.facts.soname}
    server = load_server(root.major or SERVER_MAJOR, root.platform.architecture)
    scope = _Scope(root, policy, server, own, tuple(library_folders(root)))
    for library in root.libraries:
        if not library.platform.matches(root.platform):
            continue
        where = root.where(library.path)
        if musl := next(
            (name for name in library.facts.needed if name.startswith("libc.musl") or name == "libc.so"), None
        ):
            yield Finding(
                id="musl",
                severity="error",
                message=f"built against musl ({musl}): the server runs on glibc",
                where=where,
                hint="Build it on Debian, not on Alpine.",
            )
            continue
        found = list(_needed(library, scope))
        if not found:  # what is missing may be what has the symbols
            found.extend(_symbols(library, scope))
        found += [*_versions(library, scope), *_stack(library, scope)]
        for finding in found:
            yield replace(finding, where=where, distro=distro)


def _needed(library: Library, scope: _Scope) -> Iterator[Finding]:
    missing = [
        name
        for name in library.facts.needed
        if name not in scope.policy.libraries and scope.find(name, library) is None
    ]
    if missing:
        yield Finding(
            id="needed-library",
            severity="error",
            message=f"it needs {_listed(missing)}, neither in the image nor in the server's image on {scope.policy.distro}",
            where="",
            hint="Give the packages or the folder that have them with --system.",
        )


def _versions(library: Library, scope: _Scope) -> Iterator[Finding]:
    symbols: dict[tuple[str | None, str | None], str] = {}
    for item in library.facts.imports:
        symbols.setdefault((item.library, item.version), item.name)
    missing: dict[str, list[str]] = {}
    for need in library.facts.versions:
        if need.weak:
            continue
        theirs = scope.find(need.library, library)
        if theirs is not None:
            defined: Iterable[str] = theirs.facts.defines
        elif need.library in scope.policy.libraries:
            defined = scope.policy.libraries[need.library].versions
        else:
            continue
        if need.version not in defined:
            symbol = symbols.get((need.library, need.version))
            missing.setdefault(need.library, []).append(f"{need.version} ({symbol})" if symbol else need.version)
    for name, versions in missing.items():
        glibc = name.startswith("libc.so")
        yield Finding(
            id="symbol-version",
            severity="error",
            message=f"it needs {_listed(versions)} of {name}; "
            + (
                f"{scope.policy.distro} has glibc {scope.policy.glibc}"
                if glibc
                else f"that of {scope.policy.distro} is older"
            ),
            where="",
            hint=f"Build it on {scope.policy.distro}, or on an older release.",
        )


def _stack(library: Library, scope: _Scope) -> Iterator[Finding]:
    if library.facts.executable_stack:
        refused = tuple(int(part) for part in scope.policy.glibc.split(".")) >= _NO_EXECUTABLE_STACK
        yield Finding(
            id="executable-stack",
            severity="error" if refused else "warning",
            message="it wants an executable stack"
            + (f", and glibc {scope.policy.glibc} refuses to load such a library" if refused else ""),
            where="",
            hint="Mark assembler files with .section .note.GNU-stack, or link with -z noexecstack.",
        )


def _symbols(library: Library, scope: _Scope) -> Iterator[Finding]:
    """The symbols that nothing in reach gives. Those with a version are settled by it."""
    if library.magic is None or scope.server is None:
        return
    open_names = {item.name for item in library.facts.imports if item.version is None and not item.weak}
    open_names -= scope.server.exports | library.facts.exports | scope.server.base
    patterns = list(scope.server.patterns)
    for name in open_names and _reached(library, scope):
        theirs = scope.own.get(name)
        if theirs is not None:
            open_names -= theirs.facts.exports
        else:
            open_names -= scope.policy.libraries[name].exports
            patterns.extend(scope.policy.libraries[name].patterns)
    missing = sorted(name for name in open_names if not any(fnmatchcase(name, item) for item in patterns))
    if missing:
        yield Finding(
            id="undefined-symbol",
            severity="error",
            message=f"{_listed(missing)}: neither the server nor a library that it needs has "
            + ("this symbol" if len(missing) == 1 else "these symbols"),
            where="",
            hint="Link the library that has them, or leave the code out that calls them.",
        )


def _reached(library: Library, scope: _Scope) -> list[str]:
    """The libraries in the scope of a module: what the server and it need, and what those of the image need in turn."""
    found: dict[str, None] = {}
    todo = [*library.facts.needed, *(scope.server.needed if scope.server else ())]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        theirs = scope.own.get(name)
        if theirs is not None:
            todo.extend(theirs.facts.needed)
        elif name not in scope.policy.libraries:
            continue
        found[name] = None
    return list(found)


def _listed(items: Sequence[str]) -> str:
    more = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {more} more" if more > 0 else "")
