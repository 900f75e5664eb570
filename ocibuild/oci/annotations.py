"""Annotation and label keys (image-spec, annotations.md)."""

from __future__ import annotations

from typing import Final

_PREFIX: Final = "org.opencontainers.image."

CREATED: Final = _PREFIX + "created"
TITLE: Final = _PREFIX + "title"
DESCRIPTION: Final = _PREFIX + "description"
VERSION: Final = _PREFIX + "version"
LICENSES: Final = _PREFIX + "licenses"
SOURCE: Final = _PREFIX + "source"
URL: Final = _PREFIX + "url"
DOCUMENTATION: Final = _PREFIX + "documentation"
AUTHORS: Final = _PREFIX + "authors"
REVISION: Final = _PREFIX + "revision"
VENDOR: Final = _PREFIX + "vendor"
BASE_NAME: Final = _PREFIX + "base.name"
REF_NAME: Final = _PREFIX + "ref.name"
"""The tag of a descriptor in a layout's `index.json`."""

CONTAINERD_NAME: Final = "io.containerd.image.name"
"""The full reference under which containerd imports a descriptor of an archive."""


SHORT: Final = (
    "title", "description", "version", "licenses", "source", "url", "documentation", "authors", "revision", "vendor",
)  # fmt: skip
"""Names that stand for `org.opencontainers.image.<name>`."""


def full_key(key: str) -> str:
    """The annotation key that a short name stands for; any other key is itself.

    Example:
        >>> full_key("licenses")
        'org.opencontainers.image.licenses'
    """
    return _PREFIX + key if key in SHORT else key
