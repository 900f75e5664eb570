"""Checks on loading: whether the dynamic loader of a Debian release's operand image can load what the image holds.

What is asked of libraries (`DT_NEEDED`, symbol versions, undefined symbols) is compared with what the server's image and
this one give.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

import msgspec

from ocibuild.errors import UsageError
from ocibuild.postgres.mount import library_folders, loadable, run_folders
from ocibuild.postgres.policies import DISTROS, Policy, Server, load_policy, load_server
from ocibuild.postgres.root import ImageRoot
from ocibuild.postgres.sources import Library

from .finding import FIRST_MAJOR, Finding, Verdict, listed

__all__ = ["check_loading"]

_NO_EXECUTABLE_STACK = (2, 41)
"""The first glibc that refuses to load a library with an executable stack into a running process."""


def check_loading(roots: Sequence[ImageRoot], distro: str | None) -> tuple[tuple[Verdict, ...], list[Finding]]:
    """A verdict for each Debian release, and what it comes to: all that hinders the one named, or the newest if all fail."""
    if distro:
        load_policy(distro, "amd64")
    distros = [distro] if distro else [name for name in DISTROS if load_policy(name, "amd64").operand]
    findings = [*_unknown(roots), *(finding for root in roots for finding in _library_path(root))]
    known = [root for root in roots if _policy(root, distros[0]) is not None]
    if not any(root.libraries for root in known) or any((root.major or FIRST_MAJOR) < FIRST_MAJOR for root in known):
        return (), findings
    verdicts = tuple(
        Verdict(distro=name, findings=tuple(finding for root in known for finding in _hindrances(root, name)))
        for name in distros
    )
    if distro or not any(verdicts):
        findings.extend(verdicts[-1].findings)
    else:
        # What is only a warning where it loads is said once; what hinders a release is its verdict.
        told = {
            (item.id, item.where): item for verdict in verdicts for item in verdict.findings if item.severity != "error"
        }
        findings.extend(told.values())
    return verdicts, findings


def _library_path(root: ImageRoot) -> Iterator[Finding]:
    for folder in library_folders(root):
        yield Finding(
            id="library-path",
            severity="info",
            message=f"libraries in {folder or 'the root'} are found only if CloudNativePG is told "
            f"ld_library_path: [{folder or '.'}]",
            where=f"{root.platform}",
            hint="build prints what it must be told.",
        )


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


class _Scope(msgspec.Struct, frozen=True):
    """What a library of a root can bind to on one release."""

    root: ImageRoot
    policy: Policy
    server: Server | None
    own: dict[str, tuple[str, Library]]
    folders: tuple[str, ...]

    def find(self, name: str, asking: Library) -> Library | None:
        """The image's library of a name, if the loader would look where it is. The server's own comes before it."""
        if name in self.policy.libraries or name not in self.own:
            return None
        folder, found = self.own[name]
        return found if folder in (*self.folders, *run_folders(asking.path, asking.facts)) else None

    def is_missing(self, name: str, asking: Library) -> bool:
        """Whether neither the server's image nor this one gives a library."""
        return name not in self.policy.libraries and self.find(name, asking) is None


def _hindrances(root: ImageRoot, distro: str) -> Iterator[Finding]:
    policy = load_policy(distro, root.platform.architecture)
    own = loadable(root)
    server = load_server(root.major or FIRST_MAJOR, root.platform.architecture)
    scope = _Scope(root, policy, server, own, tuple(library_folders(root, own)))
    yield from _shadowing(scope)
    for library in root.libraries:
        if not library.platform.matches(root.platform):
            continue
        musl = next((name for name in library.facts.needed if name.startswith("libc.musl") or name == "libc.so"), None)
        if musl is not None:
            yield Finding(
                id="musl",
                severity="error",
                message=f"built against musl ({musl}): the server runs on glibc",
                where=root.where(library.path),
                hint="Build it on Debian, not on Alpine.",
            )
            continue
        found = [
            *_needed(library, scope),
            *_symbols(library, scope),
            *_versions(library, scope),
            *_stack(library, scope),
        ]
        for finding in found:
            yield msgspec.structs.replace(finding, where=root.where(library.path), distro=distro)


def _shadowing(scope: _Scope) -> Iterator[Finding]:
    """Libraries that the server's image has too: on `LD_LIBRARY_PATH` they take the place of its own."""
    for name, (folder, library) in scope.own.items():
        if name in scope.policy.libraries:
            on_path = folder in scope.folders or folder.rpartition("/")[2] == "system"
            yield Finding(
                id="server-library",
                severity="error" if on_path else "warning",
                message=f"{name}, which the server's image has: "
                + (
                    "on ld_library_path it takes the place of the server's own"
                    if on_path
                    else "the server's own is used"
                ),
                where=scope.root.where(library.path),
                hint="Leave it out.",
                distro=scope.policy.distro,
            )


def _needed(library: Library, scope: _Scope) -> Iterator[Finding]:
    missing = [name for name in library.facts.needed if scope.is_missing(name, library)]
    if missing:
        yield Finding(
            id="needed-library",
            severity="error",
            message=f"it needs {listed(missing)}, neither in the image nor in {scope.policy.distro}'s",
            where="",
            hint=f"Give packages for {scope.root.platform.architecture} that have them with --system.",
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
    owner = scope.root.owners.get(library.path)
    is_system = owner is not None and owner.kind == "system"
    for name, versions in missing.items():
        distro = scope.policy.distro
        theirs_text = (
            f"{distro} has glibc {scope.policy.glibc}" if name.startswith("libc.so") else f"{distro}'s is older"
        )
        yield Finding(
            id="symbol-version",
            severity="error",
            message=f"it needs {listed(versions)} of {name}; {theirs_text}",
            where="",
            hint=f"Take the package from {distro}." if is_system else f"Build it on {distro}, or on an older release.",
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
    reached = _reached(library, scope)
    if reached is None:
        return  # what is missing may be what has the symbols
    open_names = {item.name for item in library.facts.imports if item.version is None and not item.weak}
    # One after the other: a union of what a server exports would be made for a few names.
    open_names = open_names.difference(library.facts.exports) - scope.server.exports - scope.server.base
    patterns = list(scope.server.patterns)
    for name, theirs in reached.items():
        if not open_names:
            return
        if theirs is not None:
            open_names -= theirs.facts.exports
        else:
            open_names -= scope.policy.libraries[name].exports
            patterns.extend(scope.policy.libraries[name].patterns)
    missing = sorted(name for name in open_names if not any(fnmatchcase(name, item) for item in patterns))
    others = [item for item in scope.root.libraries if item is not library]
    elsewhere = {name: item.path for name in missing for item in others if name in item.facts.exports}
    if absent := [name for name in missing if name not in elsewhere]:
        yield Finding(
            id="undefined-symbol",
            severity="error",
            message=f"{listed(absent)}: neither the server nor a library that it needs has "
            + ("this symbol" if len(absent) == 1 else "these symbols"),
            where="",
            hint="Link the library that has them, or leave the code out that calls them.",
        )
    if elsewhere:
        paths = list(dict.fromkeys(elsewhere.values()))
        yield Finding(
            id="load-order",
            severity="warning",
            message=f"it uses symbols of {listed(paths)}, which must have been loaded before ({listed(sorted(elsewhere))})",
            where="",
            hint="Link it, or preload it before this one.",
        )


def _reached(library: Library, scope: _Scope) -> dict[str, Library | None] | None:
    """The libraries in the scope of a module, those of the image with what they are; None when one of them is missing."""
    found: dict[str, Library | None] = {}
    todo = [(name, library) for name in library.facts.needed]
    while todo:
        name, asking = todo.pop()
        if name in found:
            continue
        theirs = scope.find(name, asking)
        if theirs is not None:
            todo.extend((item, theirs) for item in theirs.facts.needed)
        elif name not in scope.policy.libraries:
            return None
        found[name] = theirs
    server = scope.server.needed if scope.server else ()
    return found | {name: None for name in server if name in scope.policy.libraries and name not in found}
