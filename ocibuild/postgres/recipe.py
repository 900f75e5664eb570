"""The recipe, `ocibuild.toml` or `[package.metadata.ocibuild]` of a `Cargo.toml`: what cannot be read from the input."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from ocibuild.errors import UsageError

from .project import SIZE_LIMIT, above

__all__ = ["RECIPE_NAME", "Recipe", "find_recipe", "read_recipe"]

RECIPE_NAME = "ocibuild.toml"
_CARGO_TABLE = re.compile(r"^\s*\[package\.metadata\.ocibuild[\].]", re.MULTILINE)


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recipe's fields; labels and annotations may use short names such as `licenses`.

    Attributes:
        name: The image's name.
        version: The software's version, where it is not the control file's.
        distro: The Debian release of the server's image.
        labels: Labels, which become annotations of the manifests and the index too.
        annotations: Annotations alone.
        license_files: Licence and NOTICE files, relative to the recipe.
        include: Globs of files to take that are not the extension's by their place, as `--include`.
        preload: What `shared_preload_libraries` must hold.
        parameters: Parameters of the server that the extension needs.
        env: Variables of the server; `${image_root}` stands for the mounted image.
    """

    name: str | None = None
    version: str | None = None
    distro: str | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    license_files: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    parameters: dict[str, str] = msgspec.field(default_factory=dict)
    env: dict[str, str] = msgspec.field(default_factory=dict)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file: the whole of it, or the table of a `Cargo.toml`.

    Raises:
        UsageError: It cannot be read, or has a key that recipes do not have.
    """
    fields = _load(path)
    if path.name == "Cargo.toml":
        for key in ("package", "metadata", "ocibuild"):
            fields = fields.get(key, {})
    for key in sorted(fields.keys() - set(Recipe.__struct_fields__)):
        import difflib

        near = difflib.get_close_matches(key, Recipe.__struct_fields__, n=1)
        raise UsageError(
            f"the unknown key {key!r}",
            wanted=f"one of: {', '.join(Recipe.__struct_fields__)}",
            where=path,
            hint=f"Did you mean {near[0]!r}?" if near else "",
        )
    try:
        return msgspec.convert(fields, Recipe)
    except msgspec.ValidationError as error:
        raise UsageError(str(error), where=path) from None


def find_recipe(folder: Path) -> Path | None:
    """The nearest `ocibuild.toml`, or `Cargo.toml` with a recipe, in a folder or above it, as far as its repository goes."""
    for parent in above(folder):
        if (parent / RECIPE_NAME).is_file():
            return parent / RECIPE_NAME
        if _has_table(parent / "Cargo.toml"):
            return parent / "Cargo.toml"
    return None


def _has_table(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size <= SIZE_LIMIT and bool(_CARGO_TABLE.search(path.read_text()))
    except (OSError, UnicodeDecodeError):
        return False


def _load(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise UsageError(f"{path.stat().st_size} bytes", wanted=f"at most {SIZE_LIMIT}", where=path)
        return tomllib.loads(path.read_bytes().decode())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        found = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot be read: {found}", wanted="a TOML file", where=path) from error
