"""Platforms: operating system, architecture, variant (image-spec, image-index.md)."""

from __future__ import annotations

import re

import msgspec

from ocibuild.errors import UsageError

__all__ = ["Platform"]

_PART = re.compile(r"[a-z0-9][a-z0-9._-]*", re.IGNORECASE)
_SAME = {("amd64", "v1"), ("arm64", "v8")}
_ALIASES = {"x86_64": "amd64", "aarch64": "arm64"}


class Platform(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, order=True):
    """What an image runs on, such as `linux/arm64`.

    Example:
        >>> str(Platform.parse("linux/arm64/v8"))
        'linux/arm64'
        >>> Platform.parse("x86_64")
        Platform(os='linux', architecture='amd64', variant=None, os_version=None, os_features=None)
    """

    os: str
    architecture: str
    variant: str | None = None
    os_version: str | None = msgspec.field(default=None, name="os.version")
    os_features: tuple[str, ...] | None = msgspec.field(default=None, name="os.features")

    @classmethod
    def parse(cls, text: str) -> Platform:
        """A platform from `os/architecture[/variant]`, or from an architecture alone (Linux).

        `v8` of arm64 and `v1` of amd64 are the default variants and left out.

        Raises:
            UsageError: The text is no platform.
        """
        parts = text.split("/")
        if len(parts) == 1:
            parts = ["linux", *parts]
        if len(parts) not in (2, 3) or not all(_PART.fullmatch(part) for part in parts):
            raise UsageError(f"platform {text!r}", wanted="os/architecture[/variant], such as linux/arm64")
        architecture = _ALIASES.get(parts[1], parts[1])
        return cls(os=parts[0], architecture=architecture, variant=parts[2] if len(parts) > 2 else None).normalized()  # noqa: PLR2004

    def normalized(self) -> Platform:
        """The same platform without a variant that says nothing."""
        if self.variant == "" or (self.architecture, self.variant) in _SAME:
            return msgspec.structs.replace(self, variant=None)
        return self

    def matches(self, other: Platform) -> bool:
        """Whether two platforms are the same once default variants are left out."""
        mine, theirs = self.normalized(), other.normalized()
        return (mine.os, mine.architecture, mine.variant) == (theirs.os, theirs.architecture, theirs.variant)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
