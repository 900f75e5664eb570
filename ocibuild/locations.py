"""Locations: the container world's notation for where an image is.

`oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:REF]` (export only), `docker://REF`; each takes
`@sha256:...` in place of the tag. Without a prefix, what exists or starts with `.` or `/` is local: a folder is a layout,
`.tar` an archive. Anything else must be a reference that names its registry.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .errors import DigestMismatchError, NotFoundError, UsageError
from .oci import Digest, Reference
from .oci.digest import ALGORITHMS
from .oci.reference import check_tag
from .store import Artifact, LocalStore
from .store.attached import is_attached_tag
from .store.entries import entry_name

if TYPE_CHECKING:
    from .registry import Credential, RegistryClient, RegistryStore
    from .store import DockerArchiveWriter

__all__ = [
    "Location",
    "RegistryOptions",
    "open_artifact",
    "open_client",
    "open_registry",
    "open_store",
    "parse_location",
]

_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class Location(msgspec.Struct, frozen=True, kw_only=True):
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
        joint = "@" if self.name and Digest.is_valid(self.name) else ":"
        return f"{self.transport}:{self.path}" + (f"{joint}{self.name}" if self.name else "")


def parse_location(text: str, *, to_write: bool = False) -> Location:
    """A location from its notation.

    Args:
        text: The notation.
        to_write: It names something local to be made: what is no reference need not be there.

    Raises:
        UsageError: It is none.
        NotFoundError: It has no prefix, is no reference, and nothing is there.

    Example:
        >>> parse_location("oci:dist/pg_trickle:0.2.0")
        Location(transport='oci', path='dist/pg_trickle', name='0.2.0')
        >>> parse_location("./out.tar").transport
        'oci-archive'
        >>> parse_location("dist/x")
        Traceback (most recent call last):
        ocibuild.errors.NotFoundError: 'dist/x' is not there, wanted a layout, an archive, or a reference...
    """
    for transport in ("oci", "oci-archive", "docker-archive"):
        if text.startswith(transport + ":"):
            return _local(transport, text[len(transport) + 1 :])
    if text.startswith("docker://"):
        return Location(transport="docker", path=str(Reference.parse(text.removeprefix("docker://"))))
    path, _ = _split_name(text)
    if text.startswith((".", "/")) or _WINDOWS_DRIVE.match(text) or _is_there(path) or _is_there(text):
        is_archive = path.endswith(".tar") or os.path.isfile(path)
        return _local("oci-archive" if is_archive else "oci", text)
    try:
        return Location(transport="docker", path=str(Reference.parse(text)))
    except UsageError:
        if to_write and text:
            return _local("oci-archive" if path.endswith(".tar") else "oci", text)
        raise NotFoundError(
            f"{text!r} is not there",
            wanted="a layout, an archive, or a reference that starts with its registry's host",
            hint="A place that is to be made is written oci:FOLDER or oci-archive:FILE.",
        ) from None


class RegistryOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a registry is reached.

    Attributes:
        username: In place of what the container tools have stored, with `password`.
        password: Never shown.
        plain_http: Without TLS; by default on loopback only.
        ca_file: The certificates to trust, in place of the system's.
        client_certificate: A certificate and its key, as files.
        mount_from: Repositories of the registry that may have the blobs already.
        is_anonymous: Show no credential, whatever is stored.
    """

    username: str | None = None
    password: str = ""
    plain_http: bool | None = None
    ca_file: str | None = None
    client_certificate: tuple[str, str] | None = None
    mount_from: tuple[str, ...] = ()
    is_anonymous: bool = False

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name != "password"]

    def __repr__(self) -> str:
        return f"RegistryOptions({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


def open_store(location: str | Location, *, registry: RegistryOptions | None = None) -> LocalStore:
    """The store at a location; a layout or archive that is not there yet is made by the first write.

    Args:
        location: The notation, or a location.
        registry: How a registry is reached; by default with what the container tools have stored for it.

    Raises:
        UsageError: The location is none, or not a store.
        LayoutError: What is there is not a layout or archive.
        AuthError: Stored credentials that cannot be read.

    Example:
        >>> open_store("oci:dist/pg_trickle").path.as_posix()
        'dist/pg_trickle'
    """
    place = parse_location(location) if isinstance(location, str) else location
    # Imported where they are used: a command needs one or two of them.
    if place.transport == "oci":
        from .store import LayoutStore

        return LayoutStore(place.path)
    if place.transport == "oci-archive":
        from .store import ArchiveStore

        return ArchiveStore(place.path)
    if place.transport == "docker-archive":
        raise UsageError("a Docker archive", wanted="a store", where=place, hint="It can only be copied to.")
    return open_registry(Reference.parse(place.path), registry)


def open_registry(reference: Reference, options: RegistryOptions | None = None) -> RegistryStore:
    """The repository of a registry that a reference names.

    Args:
        reference: The reference; its tag or digest is passed over.
        options: How the registry is reached; by default with what the container tools have stored for it.

    Raises:
        AuthError: Stored credentials that cannot be read.
    """
    options = options or RegistryOptions()
    # Imported here: what reaches no registry does not pay for it.
    from .registry import Credential, RegistryStore, find_credential

    credential: Credential | None = None
    if options.is_anonymous:
        pass
    elif options.username is not None:
        credential = Credential(username=options.username, password=options.password)
    else:
        credential = find_credential(reference.registry, reference.repository)
    client = open_client(reference.registry, options, credential)
    return RegistryStore(reference, client=client, mount_from=options.mount_from)


def open_client(registry: str, options: RegistryOptions, credential: Credential | None) -> RegistryClient:
    """A client of a registry, with a credential that need not be the stored one."""
    from .registry import RegistryClient

    return RegistryClient(
        registry,
        credential=credential,
        plain_http=options.plain_http,
        ca_file=options.ca_file,
        client_certificate=options.client_certificate,
    )


def open_artifact(location: str | Location, *, registry: RegistryOptions | None = None) -> Artifact:
    """The image at a location. Without a tag or digest, the only one there; in a registry, `latest`.

    Raises:
        NotFoundError: There is no such store or image.
        UsageError: Several images and none named.
    """
    place = parse_location(location) if isinstance(location, str) else location
    store = open_store(place, registry=registry)
    if place.transport == "docker":
        reference = Reference.parse(place.path)
        return _named(store, str(reference.digest or reference.tag or "latest"), place)
    if place.name:
        return _named(store, place.name, place)
    # Signatures and what else is attached by a tag are no images of their own.
    tags = {name: descriptor for name, descriptor in store.tags().items() if not is_attached_tag(name)}
    roots = list({descriptor.digest: descriptor for descriptor in tags.values()}.values())
    if not roots and hasattr(store, "index"):
        # What other tools leave without a tag; a referrer is no image of its own.
        untagged = [item for item in store.index().manifests if not is_attached_tag(entry_name(item))]
        roots = [item.bare for item in untagged if item.artifact_type is None]
    if len(roots) == 1:
        return Artifact(roots[0], store)
    if not roots:
        raise NotFoundError("no image", where=place)
    names = ", ".join(tags) or ", ".join(f"@{item.digest}" for item in roots)
    hint = f"Add :TAG, one of {names}" if tags else f"Name one: {names}"
    raise UsageError(f"{len(roots)} images", wanted="one of them", where=place, hint=hint)


def _named(store: LocalStore, name: str, place: Location) -> Artifact:
    root = store.resolve(name)
    # Whatever the store says, a digest names one image.
    if Digest.is_valid(name) and root.digest != name:
        raise DigestMismatchError(f"an image with digest {root.digest}", wanted=name, where=place)
    return Artifact(root, store)


def docker_archive(location: Location) -> DockerArchiveWriter:
    """The writer of a `docker-archive:` location."""
    from .store import DockerArchiveWriter

    return DockerArchiveWriter(Path(location.path), name=location.name)


def _is_there(path: str) -> bool:
    return "\0" not in path and os.path.exists(path)


def _local(transport: str, text: str) -> Location:
    if "\0" in text:
        raise UsageError("a NUL in a location", where=repr(text))
    if transport == "docker-archive":
        path, _, name = text.partition(":")
        name = _loadable(name) if name else ""
    else:
        path, name = _split_name(text)
        if name and ":" not in name:
            check_tag(name)
    if not path:
        raise UsageError(f"'{transport}:{text}' names no path")
    return Location(transport=transport, path=path, name=name or None)


def _loadable(name: str) -> str:
    """The name under which Docker loads an image: a repository, perhaps with its registry, and a tag."""
    repository, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "latest")
    try:
        Reference.parse(repository)
    except UsageError:
        Reference.parse(f"docker.io/{repository}")
    return f"{repository}:{check_tag(tag)}"


def _split_name(text: str) -> tuple[str, str]:
    """A path and the tag or digest behind it. The last colon after the last slash begins a tag."""
    path, at, digest = text.rpartition("@")
    if at and digest.startswith(tuple(f"{name}:" for name in ALGORITHMS)):
        if not Digest.is_valid(digest):
            raise UsageError(f"digest {digest!r}", wanted="sha256:<64 hex> or sha512:<128 hex>", where=text)
        return path, digest
    head = 2 if _WINDOWS_DRIVE.match(text) else 0
    start = max(text.rfind("/"), text.rfind("\\"), head - 1) + 1
    colon = text.find(":", start)
    return (text, "") if colon < 0 else (text[:colon], text[colon + 1 :])
