"""References: `registry/repository[:tag][@digest]` (distribution-spec, "Pulling manifests")."""

from __future__ import annotations

import re

import msgspec

from ocibuild.errors import DocumentError, UsageError

from .digest import Digest

__all__ = ["Reference", "check_tag"]

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_REPOSITORY_LIMIT = 255


def check_tag(tag: str) -> str:
    """The tag itself, once it is known to be legal.

    Raises:
        UsageError: It is not.

    Example:
        >>> check_tag("0.2.0-18-trixie")
        '0.2.0-18-trixie'
    """
    if not _TAG.fullmatch(tag):
        raise UsageError(f"tag {tag!r}", wanted="letters, digits, '_', '.', '-', at most 128, not starting with . or -")
    return tag


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """A name in a registry. The registry is always written: there is no default one.

    Example:
        >>> str(Reference.parse("ghcr.io/grove/pg_trickle-ext:0.2.0"))
        'ghcr.io/grove/pg_trickle-ext:0.2.0'
        >>> Reference.parse("grove/pg_trickle-ext").registry
        Traceback (most recent call last):
        ocibuild.errors.UsageError: 'grove/pg_trickle-ext' names no registry, wanted a host with a dot or port, or localhost...
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """A reference from its text.

        Raises:
            UsageError: The text is none, or names no registry host.
        """
        rest, at, digest_text = text.partition("@")
        host, slash, rest = rest.partition("/")
        if not slash or not _HOST.fullmatch(host) or not ("." in host or ":" in host or host == "localhost"):
            raise UsageError(
                f"{text!r} names no registry",
                wanted="a host with a dot or port, or localhost, before the first slash",
                hint="For example ghcr.io/owner/name:tag; a local path starts with ./ or oci:",
            )
        repository, colon, tag = rest.partition(":")
        if not _REPOSITORY.fullmatch(repository) or len(repository) > _REPOSITORY_LIMIT:
            raise UsageError(f"repository {repository!r} in {text!r}", wanted="lower-case path components")
        try:
            digest = Digest(digest_text) if at else None
        except DocumentError as error:
            raise UsageError(error.found, wanted=error.wanted, where=text) from None
        return cls(registry=host, repository=repository, tag=check_tag(tag) if colon else None, digest=digest)

    def __str__(self) -> str:
        text = f"{self.registry}/{self.repository}"
        text += f":{self.tag}" if self.tag else ""
        return text + (f"@{self.digest}" if self.digest else "")
