"""Labels: what an image says about itself, and where each value came from. The keys are those of CloudNativePG's images."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ocibuild.errors import UsageError
from ocibuild.oci.annotations import BASE_NAME, DESCRIPTION, SHORT, TITLE, VERSION, full_key

from .control import Control
from .keys import OPERAND_NAME, OPERAND_OS, PG_MAJOR, SQL_VERSION
from .policies import load_policy
from .project import Project
from .sources import Source
from .sources.base import main_control

__all__ = ["Label", "check_text", "labels"]

_OPERAND = "ghcr.io/cloudnative-pg/postgresql"
_LENGTH_LIMIT = 256  # of GHCR


class Label(msgspec.Struct, frozen=True, kw_only=True):
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
    distro: str | None = None,
    recipe_origin: str = "recipe",
    name_origin: str = "given",
    distro_origin: str = "given",
) -> dict[str, Label]:
    """The labels of an extension's image by key: those given, else the recipe's, the crate's or package's, the control file's.

    Args:
        sources: The extension.
        given: Keys may be short: `licenses` for `org.opencontainers.image.licenses`.
        recipe: The same, from a recipe.
        project: The crate, from `find_project`.
        name: The image's name, where it is not the extension's.
        distro: The Debian release of the operand image it is for, such as `trixie`.
        recipe_origin: What to call the recipe.
        name_origin: Where the name was said.
        distro_origin: Where the distro was said.

    Raises:
        UsageError: A key or value that is no text, or is longer than registries take.

    Example:
        >>> from ocibuild.postgres import open_source
        >>> found = labels([open_source("fixtures/packages/amd64/pgrx_hello-pg18")], given={"licenses": "Apache-2.0"})
        >>> found["org.opencontainers.image.version"].origin
        'pgrx_hello.control'
    """
    found: dict[str, Label] = {}
    said = [*((full_key(key), value, "given") for key, value in (given or {}).items())]
    said += [(full_key(key), value, recipe_origin) for key, value in (recipe or {}).items()]
    for key, value, origin in said:
        check_text(key, value)
        found.setdefault(key, Label(key=key, value=value, origin=origin))
    for key, text, origin in _known(sources, project, name, distro, name_origin, distro_origin):
        if text and key not in found:
            short = text if len(text) <= _LENGTH_LIMIT else text[: _LENGTH_LIMIT - 1] + "…"
            check_text(key, short)
            found[key] = Label(key=key, value=short, origin=origin)
    return dict(sorted((key, label) for key, label in found.items() if label.value))


def _known(
    sources: Sequence[Source],
    project: Project | None,
    name: str | None,
    distro: str | None,
    name_origin: str,
    distro_origin: str,
) -> Iterator[tuple[str, str | None, str]]:
    """What can be read, the better before the worse, and where."""
    for source in sources:
        if source.kind == "image":
            for key, value in source.package.labels.items():
                yield key, value, source.package.origin
    yield TITLE, name, name_origin
    for field, value in project.labels.items() if project else ():
        yield full_key(field), value, "Cargo.toml"
    owner, control = _main(sources)
    origin = f"{control.name}.control" if control else ""
    if control is not None:
        yield SQL_VERSION, control.default_version, origin
        yield TITLE, control.name, origin
        yield DESCRIPTION, control.comment, origin
    yield from _packaged([owner] if owner else sources)
    if control is not None:
        yield VERSION, control.default_version, origin
    elif len(names := {source.name for source in sources if source.name}) == 1:
        yield TITLE, names.pop(), "the package"
    major = next((source.major for source in sources if source.major), None)
    is_built = any(library.magic for source in sources for library in source.libraries)
    yield PG_MAJOR, str(major or ""), "the modules" if is_built else "the package"
    yield OPERAND_OS, distro, distro_origin
    if distro and major and load_policy(distro, "amd64").operand:
        yield OPERAND_NAME, f"{_OPERAND}:{major}-minimal-{distro}", distro_origin
    yield BASE_NAME, "scratch", "always"


def _packaged(sources: Sequence[Source]) -> Iterator[tuple[str, str, str]]:
    """What packages say, as far as they all say the same: of two unrelated ones, neither speaks for the image."""
    said: dict[str, list[tuple[str, str]]] = {}
    for source in sources:
        version = {VERSION: source.package.version} if source.package.version else {}
        for key, value in {**version, **source.package.labels}.items():
            said.setdefault(key, []).append((value, source.package.origin))
    for key, values in said.items():
        if len({value for value, _ in values}) == 1 and (len(sources) == 1 or len(values) > 1):
            yield key, values[0][0], values[0][1]


def _main(sources: Sequence[Source]) -> tuple[Source | None, Control | None]:
    """The control file that stands for all, and its source."""
    controls = {control.name: (source, control) for source in sources for control in source.controls}
    names = [source.package.name for source in sources if source.package.name]
    control = main_control([control for _, control in controls.values()], names)
    return controls[control.name] if control else (None, None)


def check_text(key: str, value: str) -> None:
    """Refuse a label or annotation that is not plain text, or longer than registries take.

    Raises:
        UsageError: No key, a control character, text that is not UTF-8, or a value of more than 256 characters.
    """
    where = f"{key[:80]!r} = {value[:80]!r}"
    if "." not in key and key not in SHORT:
        import difflib

        if near := difflib.get_close_matches(key.lower(), SHORT, n=1, cutoff=0.8):
            raise UsageError(
                f"the label {where}", wanted="a short name or a full one", hint=f"Did you mean {near[0]!r}?"
            )
    if not key.strip() or any(unicodedata.category(character) == "Cc" for character in key + value):
        raise UsageError(f"the label {where}", wanted="text without control characters")
    if len(value) > _LENGTH_LIMIT:
        raise UsageError(
            f"{len(value)} characters in the label {where}",
            wanted=f"at most {_LENGTH_LIMIT}, as GHCR takes",
            hint="Shorten it.",
        )
    try:
        (key + value).encode()
    except UnicodeEncodeError:
        raise UsageError(f"the label {where}", wanted="UTF-8 text") from None
