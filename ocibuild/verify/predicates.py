"""What attestations say, in short: of a provenance its sources and builder, of an SBOM what it lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ocibuild.intoto import CYCLONEDX, SLSA_PROVENANCE

__all__ = ["builder_of", "is_cyclonedx", "source_repositories", "split_repository", "summary"]

_SHORT = 200


def split_repository(uri: str) -> tuple[str, str]:
    """A repository in the form in which two are compared, and the revision behind it.

    `git+` in front and `.git` behind are two spellings of one repository; nothing else is.

    Example:
        >>> split_repository("git+https://github.com/o/r.git@refs/heads/main")
        ('https://github.com/o/r', 'refs/heads/main')
    """
    text = uri.removeprefix("git+")
    # Before the path an @ ends a user's name.
    path = text.find("/", text.find("://") + 3 if "://" in text else 0)
    at = text.find("@", path) if path >= 0 else -1
    name, revision = (text[:at], text[at + 1 :]) if at >= 0 else (text, "")
    return name.removesuffix("/").removesuffix(".git"), revision


def source_repositories(predicate: dict[str, Any]) -> set[str]:
    """The repositories that a SLSA v1 provenance says an image was built from.

    What the build was told (`externalParameters`) is its source; where it was told none, every git repository that it
    used is taken for one.
    """
    definition = _object(predicate.get("buildDefinition"))
    told = _object(definition.get("externalParameters"))
    given = (_object(told.get("workflow")).get("repository"), told.get("repository"), told.get("source"))
    if named := {_repository(item) for item in given if item is not None}:
        return named
    return {split_repository(uri)[0] for uri in _uris(definition) if uri.startswith("git+")}


def _repository(given: Any) -> str:
    """What a parameter names; one that is not understood is no repository, and not passed over."""
    text = given if isinstance(given, str) else _object(given).get("uri")
    return split_repository(text)[0] if isinstance(text, str) and text else "unclear"


def builder_of(predicate: dict[str, Any]) -> str | None:
    """Who ran the build, as a SLSA v1 provenance says."""
    found = _object(_object(predicate.get("runDetails")).get("builder")).get("id")
    return found if isinstance(found, str) else None


def is_cyclonedx(predicate: dict[str, Any]) -> bool:
    """Whether a predicate is a CycloneDX document."""
    return predicate.get("bomFormat") == "CycloneDX"


def summary(predicate_type: str, predicate: dict[str, Any]) -> dict[str, str]:
    """What an attestation says, in a few words each; empty for a kind that is not known."""
    said: dict[str, str] = {}
    if predicate_type == SLSA_PROVENANCE:
        said["source"] = ", ".join(sorted(source_repositories(predicate)))
        said["builder"] = builder_of(predicate) or ""
    elif predicate_type == CYCLONEDX:
        components = predicate.get("components")
        said["format"] = f"{predicate.get('bomFormat', '')} {predicate.get('specVersion', '')}".strip()
        said["components"] = str(len(components)) if isinstance(components, list) else "0"
    return {key: value[:_SHORT] for key, value in said.items() if value}


def _uris(definition: dict[str, Any]) -> Iterator[str]:
    used = definition.get("resolvedDependencies")
    for item in used if isinstance(used, list) else []:
        uri = _object(item).get("uri")
        if isinstance(uri, str):
            yield uri


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
