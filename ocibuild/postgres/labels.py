"""Labels: what an image says about itself, and where each value came from."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ocibuild.errors import UsageError
from ocibuild.oci.annotations import DESCRIPTION, SHORT, TITLE, VERSION, full_key

from .project import Project
from .sources import Source

__all__ = ["Label", "check_text", "labels"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label's value and where it came from, such as `Cargo.toml`."""

    key: str
    value: str
    origin: str


def labels(
    sources: Sequence[Source],
    *,
    given: Mapping[str, str] | None = None,
    recipe: Mapping[str, str] | None = None,
    project: Project | None = None,
    name: str | None = None,
    recipe_origin: str = "recipe",
) -> dict[str, Label]:
    """The labels of an extension's image by key: those given, else the recipe's, the crate's, the control file's.

    Args:
        sources: The extension.
        given: Keys may be short: `licenses` for `org.opencontainers.image.licenses`.
        recipe: The same, from a recipe.
        project: The crate, from `find_project`.
        name: The image's name, where it is not the extension's.
        recipe_origin: What to call the recipe.

    Raises:
        UsageError: A key or value that is no text.

    Example:
        >>> from ocibuild.postgres import open_source
        >>> found = labels([open_source("fixtures/packages/amd64/pgrx_hello-pg18")], given={"licenses": "Apache-2.0"})
        >>> found["org.opencontainers.image.version"].origin
        'pgrx_hello.control'
    """
    found: dict[str, Label] = {}

    def add(key: str, value: str | None, origin: str) -> None:
        key = full_key(key)
        if value:
            check_text(key, value)
            found.setdefault(key, Label(key=key, value=value, origin=origin))

    for key, value in (given or {}).items():
        add(key, value, "given")
    for key, value in (recipe or {}).items():
        add(key, value, recipe_origin)
    control = next((source.main_control for source in sources if source.main_control), None)
    add(TITLE, name, "given")
    if project is not None:
        for key, value in project.labels.items():
            add(key, value, "Cargo.toml")
    if control is not None:
        add(TITLE, control.name, f"{control.name}.control")
        add(DESCRIPTION, control.comment, f"{control.name}.control")
        add(VERSION, control.default_version, f"{control.name}.control")
    return dict(sorted(found.items()))


def check_text(key: str, value: str) -> None:
    """Refuse a label or annotation that is not plain text.

    Raises:
        UsageError: No key, a control character, or text that is not UTF-8.
    """
    where = f"{key[:80]!r} = {value[:80]!r}"
    if "." not in key and key not in SHORT and (near := difflib.get_close_matches(key.lower(), SHORT, n=1, cutoff=0.8)):
        raise UsageError(f"the label {where}", wanted="a short name or a full one", hint=f"Did you mean {near[0]!r}?")
    if not key.strip() or any(unicodedata.category(character) == "Cc" for character in key + value):
        raise UsageError(f"the label {where}", wanted="text without control characters")
    try:
        (key + value).encode()
    except UnicodeEncodeError:
        raise UsageError(f"the label {where}", wanted="UTF-8 text") from None
