"""The Cargo project an extension comes from: description, licence, repository."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["Project", "above", "find_crates", "find_project"]

SIZE_LIMIT = 1024 * 1024
_FIELDS = {
    "authors": "authors",
    "description": "description",
    "documentation": "documentation",
    "homepage": "url",
    "license": "licenses",
    "repository": "source",
    "version": "version",
}


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A crate's metadata under the names that labels have.

    Attributes:
        path: Its `Cargo.toml`.
        labels: `description`, `licenses`, `source`, `url`, `documentation`, `authors`, `version`, as far as it says.
    """

    path: Path
    labels: dict[str, str]


def find_project(folder: Path, extension: str) -> Project | None:
    """The crate of an extension: the nearest `Cargo.toml` in a folder or above it that has the control file beside it.

    A workspace's members are looked through, and `field.workspace = true` is taken from the workspace. A file that
    cannot be read is passed over: it only holds defaults. The search ends at the repository's root.
    """
    for parent in above(folder):
        manifest = _read(parent / "Cargo.toml")
        if manifest is None:
            continue
        for crate in (parent, *_members(parent, manifest)):
            found = _read(crate / "Cargo.toml")
            if found is not None and (crate / f"{extension}.control").is_file():
                return _project(
                    crate / "Cargo.toml", found, manifest if crate != parent else _workspace_above(parent, found)
                )
    return None


def find_crates(folder: Path) -> list[tuple[Path, str]]:
    """The crates with a control file, and its name, that a folder belongs to: one, or all of a workspace."""
    for parent in above(folder):
        manifest = _read(parent / "Cargo.toml")
        if manifest is None:
            continue
        crates = {crate: sorted(crate.glob("*.control")) for crate in (parent, *_members(parent, manifest))}
        found = [(crate, path.stem) for crate, paths in crates.items() for path in paths]
        if found:
            return found
    return []


def above(folder: Path) -> list[Path]:
    """A folder and those above it, as far as the root of its repository."""
    found = []
    for parent in (folder, *folder.parents):
        found.append(parent)
        if (parent / ".git").exists():
            break
    return found


def _project(path: Path, manifest: dict[str, Any], workspace: dict[str, Any]) -> Project:
    package = _table(manifest, "package")
    inherited = _table(_table(workspace, "workspace"), "package")
    found: dict[str, str] = {}
    for field, key in _FIELDS.items():
        value = package.get(field)
        if isinstance(value, dict) and value.get("workspace") is True:
            value = inherited.get(field)
        if isinstance(value, list):
            value = ", ".join(item for item in value if isinstance(item, str))
        if isinstance(value, str) and value.strip():
            found[key] = value.strip()
    return Project(path=path, labels=found)


def _workspace_above(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    if "workspace" in manifest:
        return manifest
    for parent in folder.parents:
        found = _read(parent / "Cargo.toml")
        if found is not None and "workspace" in found:
            return found
    return {}


def _members(folder: Path, manifest: dict[str, Any]) -> list[Path]:
    patterns = _table(manifest, "workspace").get("members", [])
    if not isinstance(patterns, list):
        return []
    found: set[Path] = set()
    for pattern in patterns:
        if isinstance(pattern, str) and pattern and not Path(pattern).is_absolute() and ".." not in Path(pattern).parts:
            with contextlib.suppress(ValueError, IndexError, NotImplementedError, OSError):
                found.update(path for path in folder.glob(pattern) if path.is_dir())
    return sorted(found)


def _table(manifest: dict[str, Any], key: str) -> dict[str, Any]:
    value = manifest.get(key)
    return value if isinstance(value, dict) else {}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        raw = path.read_bytes() if path.is_file() and path.stat().st_size <= SIZE_LIMIT else b""
        if not raw:
            return None
        import tomllib

        return tomllib.loads(raw.decode())
    except (OSError, ValueError, RecursionError):
        return None
