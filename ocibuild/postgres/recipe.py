"""The recipe, `ocibuild.toml`: what cannot be read from the input."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path

import msgspec

from ocibuild.errors import UsageError

from .project import SIZE_LIMIT, above

__all__ = ["RECIPE_NAME", "Recipe", "find_recipe", "read_recipe"]

RECIPE_NAME = "ocibuild.toml"


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recipe's fields; labels and annotations may use short names such as `licenses`.

    Attributes:
        name: The image's name.
        labels: Labels, which become annotations of the manifests and the index too.
        annotations: Annotations alone.
    """

    name: str | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file.

    Raises:
        UsageError: It cannot be read, or has a key that recipes do not have.
    """
    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise UsageError(f"{path.stat().st_size} bytes", wanted=f"at most {SIZE_LIMIT}", where=path)
        fields = tomllib.loads(path.read_bytes().decode())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        found = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot be read: {found}", wanted="a TOML file", where=path) from error
    for key in sorted(fields.keys() - set(Recipe.__struct_fields__)):
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
    """The nearest `ocibuild.toml` in a folder or above it, as far as the root of its repository."""
    for parent in above(folder):
        if (parent / RECIPE_NAME).is_file():
            return parent / RECIPE_NAME
    return None
