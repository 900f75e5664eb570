"""Roots: what each platform's image will hold, all of its sources joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ocibuild.errors import NotFoundError, SourceError, UsageError
from ocibuild.layer.entry import Directory, Entry, File
from ocibuild.oci import Platform

from .control import Control
from .sources import Library, Source
from .sources.content import content_digest
from .sources.library import ARCHITECTURES, common_major

__all__ = ["DEFAULT_PLATFORMS", "ImageRoot", "image_name", "image_roots", "in_folder"]

DEFAULT_PLATFORMS = (Platform.parse("linux/amd64"), Platform.parse("linux/arm64"))
"""What scripts without a library are built for; CloudNativePG's operand images have both."""


class ImageRoot(msgspec.Struct, frozen=True, kw_only=True):
    """The root of one platform's image.

    Attributes:
        platform: What it runs on.
        sources: What it is made of.
        entries: Its files, by path.
        owners: The source of each path.
    """

    platform: Platform
    sources: tuple[Source, ...]
    entries: Mapping[str, Entry]
    owners: Mapping[str, Source]

    @property
    def controls(self) -> tuple[Control, ...]:
        """Its control files."""
        return tuple(control for source in self.sources for control in source.controls)

    @property
    def libraries(self) -> tuple[Library, ...]:
        """Its shared objects and programs."""
        return tuple(library for source in self.sources for library in source.libraries)

    @property
    def scripts(self) -> dict[str, File]:
        """Its SQL scripts by path."""
        return {path: item for path, item in self.entries.items() if path.endswith(".sql") and isinstance(item, File)}

    @property
    def major(self) -> int | None:
        """The PostgreSQL major version of its modules, else the one its sources name."""
        return common_major(self.libraries) or next((source.major for source in self.sources if source.major), None)

    def where(self, path: str) -> str:
        """A path and the source it came from, for a person."""
        owner = self.owners.get(path)
        return f"{owner.where}: {path}" if owner else path


def image_roots(sources: Iterable[Source], *, platforms: Iterable[Platform | str] = ()) -> tuple[ImageRoot, ...]:
    """The root of each platform, platforms sorted. Scripts alone go with every platform.

    Args:
        sources: From `open_source`.
        platforms: The ones wanted; by default those of the sources, or `DEFAULT_PLATFORMS` where none has one.

    Raises:
        SourceError: No source, or two files at one path.
        NotFoundError: No source for a platform that is wanted.

    Example:
        >>> from ocibuild.postgres import open_source
        >>> [str(root.platform) for root in image_roots([open_source("fixtures/packages/amd64/pgrx_hello-pg18")])]
        ['linux/amd64']
    """
    given = list(sources)
    if not given:
        raise SourceError(
            "no source", wanted="what an extension's build left", hint="Name a folder, archive or package."
        )
    known = {source.platform for source in given if source.platform is not None}
    wanted = {Platform.parse(item) if isinstance(item, str) else item for item in platforms}
    for platform in sorted(wanted - known, key=str) if known else ():
        listed = ", ".join(sorted(str(item) for item in known))
        raise NotFoundError(f"no source for {platform}", wanted=f"one of: {listed}")
    for platform in wanted:
        if platform.os != "linux" or platform.architecture not in ARCHITECTURES:
            raise UsageError(f"the platform {platform}", wanted=f"linux/{', linux/'.join(sorted(ARCHITECTURES))}")
    chosen = wanted or known or set(DEFAULT_PLATFORMS)
    return tuple(
        _root(platform, [source for source in given if source.platform in (None, platform)])
        for platform in sorted(chosen, key=str)
    )


def _root(platform: Platform, sources: Sequence[Source]) -> ImageRoot:
    entries: dict[str, Entry] = {}
    owners: dict[str, Source] = {}
    for source in sources:
        new = {entry.path: entry for entry in source.entries}
        if len(new) == len(source.entries) and entries.keys().isdisjoint(new):
            entries |= new
            owners |= dict.fromkeys(new, source)
            continue
        for entry in source.entries:
            other = entries.setdefault(entry.path, entry)
            owner = owners.setdefault(entry.path, source)
            if other is not entry and not _equal(other, entry):
                raise SourceError(
                    f"two files at {entry.path} of {platform}",
                    wanted="one, or two with the same content",
                    where=f"{owner.where} and {source.where}",
                )
    return ImageRoot(platform=platform, sources=tuple(sources), entries=entries, owners=owners)


def in_folder(source: Source, folder: str) -> Source:
    """A source whose files lie in a folder of the image's root, so that several extensions keep apart.

    Example:
        >>> from ocibuild.postgres import open_source
        >>> source = in_folder(open_source("fixtures/packages/amd64/pgrx_hello-pg18"), "hello")
        >>> source.controls[0].path
        'hello/share/extension/pgrx_hello.control'
    """

    def moved(path: str) -> str:
        return path if path.startswith("licenses/") else f"{folder}/{path}"

    return msgspec.structs.replace(
        source,
        entries=tuple(entry._replace(path=moved(entry.path)) for entry in source.entries),
        controls=tuple(msgspec.structs.replace(control, path=moved(control.path)) for control in source.controls),
        libraries=tuple(msgspec.structs.replace(library, path=moved(library.path)) for library in source.libraries),
    )


def image_name(sources: Sequence[Source]) -> str | None:
    """The name of the image: what all packages or folders say, else the only extension that requires no other.

    Raises:
        UsageError: Several, and nothing to tell which.

    Example:
        >>> from ocibuild.postgres import open_source
        >>> image_name([open_source("fixtures/packages/amd64/pgrx_hello-pg18")])
        'pgrx_hello'
    """
    named = {source.name for source in sources if source.package.name and source.name}
    if len(named) == 1:
        return named.pop()
    controls = {control.name: control for source in sources for control in source.controls}
    mains = sorted(name for name, control in controls.items() if not controls.keys() & set(control.requires))
    if len(mains) == 1:
        return mains[0]
    names = sorted(named) or mains or sorted({source.name for source in sources if source.name})
    if len(names) > 1:
        raise UsageError(f"sources of {', '.join(names)}", wanted="a name for the image", hint="Add --name.")
    return names[0] if names else None


def _equal(one: Entry, other: Entry) -> bool:
    if isinstance(one, File) and isinstance(other, File):
        return one.size == other.size and one.mode == other.mode and content_digest(one) == content_digest(other)
    return one == other or (isinstance(one, Directory) and isinstance(other, Directory))
