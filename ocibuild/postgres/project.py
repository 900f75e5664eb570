"""The Cargo project an extension comes from: description, licence, repository."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Project", "find_project"]

_FIELDS = {"description": "description", "license": "licenses", "repository": "source"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A crate's metadata under the names that labels have.

    Attributes:
        path: Its `Cargo.toml`.
        labels: `description`, `licenses`, `source`, as far as it says.
    """

    path: Path
    labels: dict[str, str]


def find_project(folder: Path, extension: str) -> Project | None:
    """The crate of an extension: the nearest `Cargo.toml` in a folder or above it that has the control file beside it.

    A workspace's members are looked through, and `field.workspace = true` is taken from the workspace. A file that
    cannot be read is passed over: it only holds defaults.
    """
    for parent in (folder, *folder.parents):
        manifest = _read(parent / "Cargo.toml")
        if manifest is None:
            continue
        if (parent / f"{extension}.control").is_file():
            return _project(parent / "Cargo.toml", manifest, _workspace_above(parent, manifest))
        for member in _members(parent, manifest):
            found = _read(member / "Cargo.toml")
            if found is not None and (member / f"{extension}.control").is_file():
                return _project(member / "Cargo.toml", found, manifest)
    return None


def _project(path: Path, manifest: dict[str, Any], workspace: dict[str, Any]) -> Project:
    package = _table(manifest, "package")
    inherited = _table(_table(workspace, "workspace"), "package")
    found: dict[str, str] = {}
    for field, key in _FIELDS.items():
        value = package.get(field)
        if isinstance(value, dict) and value.get("workspace") is True:
            value = inherited.get(field)
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
    safe = [item for item in patterns if isinstance(item, str) and item and not Path(item).is_absolute()]
    return sorted(path for item in safe if ".." not in Path(item).parts for path in folder.glob(item) if path.is_dir())


def _table(manifest: dict[str, Any], key: str) -> dict[str, Any]:
    value = manifest.get(key)
    return value if isinstance(value, dict) else {}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
