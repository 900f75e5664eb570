"""Locations: the container world's notation for where an image is.

`oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:REF]` (export only), `docker://REF`; each takes
`@sha256:...` in place of the tag. Without a prefix, what exists or starts with `.` or `/` is local: a folder is a layout,
`.tar` an archive. Anything else must be a reference that names its registry.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .errors import NotFoundError, UsageError
from .oci import Digest, Reference
from .oci.reference import check_tag
from .store import ArchiveStore, Artifact, LayoutStore, LocalStore
from .store.docker import DockerArchiveWriter

__all__ = ["Location", "open_artifact", "open_store", "parse_location"]

_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place and perhaps an image in it.

    Attributes:
        transport: `oci`, `oci-archive`, `docker-archive` or `docker`.
        path: The folder or file; for `docker`, the reference.
        name: The tag or digest after it, if any; for `docker-archive`, the name to load it under.
    """

    transport: str
    path: str
    name: str | None = None

    def __str__(self) -> str:
        if self.transport == "docker":
            return f"docker://{self.path}"
        joint = "@" if self.name and ":" in self.name and self.transport != "docker-archive" else ":"
        return f"{self.transport}:{self.path}" + (f"{joint}{self.name}" if self.name else "")


def parse_location(text: str) -> Location:
    """A location from its notation.

    Raises:
        UsageError: It is none.

    Example:
        >>> parse_location("oci:dist/pg_trickle:0.2.0")
        Location(transport='oci', path='dist/pg_trickle', name='0.2.0')
        >>> parse_location("./out.tar").transport
        'oci-archive'
        >>> parse_location("dist/x")
        Traceback (most recent call last):
        ocibuild.errors.UsageError: 'dist/x' is no file or folder here, and no reference: 'dist/x' names no registry, wanted...
    """
    for transport in ("oci", "oci-archive", "docker-archive"):
        if text.startswith(transport + ":"):
            return _local(transport, text[len(transport) + 1 :])
    if text.startswith("docker://"):
        return Location(transport="docker", path=str(Reference.parse(text.removeprefix("docker://"))))
    path, _ = _split_name(text)
    if text.startswith((".", "/")) or _WINDOWS_DRIVE.match(text) or os.path.exists(path) or os.path.exists(text):
        is_archive = path.endswith(".tar") or os.path.isfile(path)
        return _local("oci-archive" if is_archive else "oci", text)
    try:
        return Location(transport="docker", path=str(Reference.parse(text)))
    except UsageError as error:
        found = f"{text!r} is no file or folder here, and no reference: {error.found}"
        raise UsageError(found, wanted=error.wanted, hint=error.hint) from None


def open_store(location: str | Location) -> LocalStore:
    """The store at a location; a layout or archive that is not there yet is made by the first write.

    Raises:
        UsageError: The location is none, or not a store.
        LayoutError: What is there is not a layout or archive.

    Example:
        >>> open_store("oci:dist/pg_trickle").path.as_posix()
        'dist/pg_trickle'
    """
    place = parse_location(location) if isinstance(location, str) else location
    if place.transport == "oci":
        return LayoutStore(place.path)
    if place.transport == "oci-archive":
        return ArchiveStore(place.path)
    if place.transport == "docker-archive":
        raise UsageError("a Docker archive", wanted="a store", where=place, hint="It can only be copied to.")
    raise UsageError("a registry", wanted="a local store", where=place, hint="Registries come in a later version.")


def open_artifact(location: str | Location) -> Artifact:
    """The image at a location. Without a tag or digest, the only one there.

    Raises:
        NotFoundError: There is no such store or image.
        UsageError: Several images and none named.
    """
    place = parse_location(location) if isinstance(location, str) else location
    store = open_store(place)
    if place.name:
        return Artifact(store.resolve(place.name), store)
    tags = store.tags()
    roots = {descriptor.digest: descriptor for descriptor in tags.values()}
    if not tags:
        raise NotFoundError("no tagged image", where=place, hint="Name one by its digest: @sha256:...")
    if len(roots) > 1:
        raise UsageError(
            f"{len(tags)} tags", wanted="one of them", where=place, hint=f"Add :TAG, one of {', '.join(tags)}"
        )
    return Artifact(next(iter(roots.values())), store)


def docker_archive(location: Location) -> DockerArchiveWriter:
    """The writer of a `docker-archive:` location."""
    return DockerArchiveWriter(Path(location.path), name=location.name)


def _local(transport: str, text: str) -> Location:
    if transport == "docker-archive":
        path, _, name = text.partition(":")
        if name and ":" not in name.rpartition("/")[2]:
            name += ":latest"
    else:
        path, name = _split_name(text)
        if name and ":" not in name:
            check_tag(name)
    if not path:
        raise UsageError(f"'{transport}:{text}' names no path")
    return Location(transport=transport, path=path, name=name or None)


def _split_name(text: str) -> tuple[str, str]:
    """A path and the tag or digest behind it. The last colon after the last slash begins a tag."""
    path, at, digest = text.rpartition("@")
    if at and ":" in digest:
        return path, Digest(digest)
    head = 2 if _WINDOWS_DRIVE.match(text) else 0
    start = max(text.rfind("/"), text.rfind("\\"), head - 1) + 1
    colon = text.find(":", start)
    return (text, "") if colon < 0 else (text[:colon], text[colon + 1 :])
