"""Cargo.lock: the crates that an extension written in Rust was built from (the Cargo book, "Cargo.lock")."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from ocibuild.errors import SourceError
from ocibuild.sbom import Component, Purl

from .project import Project, above

__all__ = ["Crates", "read_crates"]

_SIZE_LIMIT = 8 * 1024 * 1024
_COUNT_LIMIT = 10_000
_CRATES_IO = ("registry+https://github.com/rust-lang/crates.io-index", "sparse+https://index.crates.io/")
_SHA256_LENGTH = 64


class Crates(msgspec.Struct, frozen=True, kw_only=True):
    """The crates behind an extension's own, what that one asks for, and what they ask for."""

    found: tuple[Component, ...] = ()
    direct: tuple[str, ...] = ()
    depends: tuple[tuple[str, tuple[str, ...]], ...] = ()


class _Package(msgspec.Struct, frozen=True):
    name: str
    version: str
    source: str | None = None
    checksum: str | None = None
    dependencies: tuple[str, ...] = ()


def read_crates(project: Project) -> Crates:
    """What the lock file beside a crate, or above it, names and the crate reaches; nothing where there is no such file.

    A lock file does not tell what only tests and build scripts need: that is listed too.

    Raises:
        SourceError: It is no lock file.

    Example:
        >>> from ocibuild.postgres import find_project
        >>> crates = read_crates(find_project(Path("fixtures/pgrx_hello").resolve(), "pgrx_hello"))
        >>> [item.name for item in crates.found][:2]
        ['aho-corasick', 'anyhow']
    """
    folder = project.path.parent
    path = next((up / "Cargo.lock" for up in above(folder) if (up / "Cargo.lock").is_file()), None)
    if path is None:
        return Crates()
    packages = _read(path)
    name = _table(project.path).get("package", {}).get("name")
    own = [item for item in packages if item.name == name and item.source is None]
    if not own:
        raise SourceError(f"no crate {name!r}", wanted="the lock file of the extension's crate", where=path)
    named = _by_name(packages)
    needs = {id(item): [named[text] for text in item.dependencies if text in named] for item in packages}
    reached = {id(own[0]): own[0]}
    todo = [own[0]]
    while todo:
        for item in needs[id(todo.pop())]:
            if id(item) not in reached:
                reached[id(item)] = item
                todo.append(item)
    crates = {key: _component(item) for key, item in reached.items() if item is not own[0]}
    refs = {key: item.ref for key, item in crates.items()}
    depends = {
        ref: tuple(sorted(refs[id(other)] for other in needs[key] if id(other) in refs)) for key, ref in refs.items()
    }
    return Crates(
        found=tuple(sorted(crates.values(), key=lambda item: (item.name, item.version or "", item.ref))),
        direct=tuple(sorted(refs[id(item)] for item in needs[id(own[0])] if id(item) in refs)),
        depends=tuple(sorted(depends.items())),
    )


def _read(path: Path) -> list[_Package]:
    try:
        packages = msgspec.convert(_table(path).get("package", []), list[_Package])
    except msgspec.ValidationError as error:
        raise SourceError(f"a damaged lock file: {error}", where=path) from None
    if len(packages) > _COUNT_LIMIT:
        raise SourceError(f"{len(packages)} crates", wanted=f"at most {_COUNT_LIMIT}", where=path)
    return packages


def _table(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise SourceError("a file that is too large", wanted=f"at most {_SIZE_LIMIT} bytes", where=path)
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=path) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"no TOML: {error}", where=path) from None


def _by_name(packages: list[_Package]) -> Mapping[str, _Package]:
    """The packages by what a dependency may call them: as little as tells them apart."""
    found: dict[str, _Package] = {}
    for item in packages:
        for text in (item.name, f"{item.name} {item.version}", f"{item.name} {item.version} ({item.source})"):
            found[text] = item
    return found


def _component(item: _Package) -> Component:
    checksum = item.checksum or ""
    is_hash = len(checksum) == _SHA256_LENGTH and not checksum.strip("0123456789abcdef")
    return Component(
        type="library",
        name=item.name,
        version=item.version,
        purl=_purl(item),
        hashes=(("sha256", checksum),) if is_hash else (),
    )


def _purl(item: _Package) -> Purl:
    if item.source is None:
        # A crate of the same workspace; one of that name at crates.io is another.
        return Purl(type="generic", name=item.name, version=item.version)
    kind, _, url = item.source.partition("+")
    qualifiers: tuple[tuple[str, str], ...] = ()
    if kind == "git":
        qualifiers = (("vcs_url", f"git+{_public(url)}"),)
    elif item.source not in _CRATES_IO:
        qualifiers = (("repository_url", _public(url)),)
    return Purl(type="cargo", name=item.name, version=item.version, qualifiers=qualifiers)


def _public(url: str) -> str:
    """An address without the name and password that may stand in it; of a query, nothing. A commit stays."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    path = f"{parts.path}@{parts.fragment}" if parts.fragment else parts.path
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, "", ""))
