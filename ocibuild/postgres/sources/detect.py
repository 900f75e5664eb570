"""Finding out what a source is, by what it holds and not by its name."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ocibuild.errors import NotFoundError, SourceError, UsageError
from ocibuild.layer.entry import Directory, Entry, Symlink
from ocibuild.layer.tree import read_tree
from ocibuild.locations import Location, open_artifact, parse_location
from ocibuild.oci import Platform
from ocibuild.oci.annotations import DESCRIPTION, URL

from .base import Package, Source, make_source
from .layout import Include, map_install_tree
from .names import debian_name, major_of_paths, named_package

if TYPE_CHECKING:
    from .scratch import Scratch

__all__ = ["open_source", "open_sources"]

_HEAD = 512
_TRANSPORTS = ("oci:", "oci-archive:")
_DEBIAN_PLATFORMS = {"amd64": "linux/amd64", "arm64": "linux/arm64", "armhf": "linux/arm/v7", "i386": "linux/386"}


def open_source(
    path: Path | str,
    *,
    platform: Platform | str | None = None,
    major: int | None = None,
    bitcode: bool = False,
    include: Iterable[str] = (),
) -> Source:
    """What an extension's build left at a path, for one platform.

    A folder or archive with a control file below a folder `extension`, or with a module, is an installation, whatever
    prefix `pg_config` gave it. With a platform, a folder is a plain tree, taken as it is. A `.deb` is a Debian package;
    an OCI layout or archive an image.

    Args:
        path: The folder, file, or location (`oci:DIR`) of an image.
        platform: What a plain tree is for, or which platform of an image is meant.
        major: The PostgreSQL major version, where nothing tells it.
        bitcode: Keep LLVM bitcode.
        include: Globs of paths to take although they are not an extension's by their place; `GLOB=FOLDER` says where to.

    Raises:
        NotFoundError: Nothing is there.
        SourceError: Nothing that can be packed is there, or several platforms are.

    Example:
        >>> source = open_source("fixtures/packages/arm64/pgrx_hello-pg18")
        >>> source.name, source.version, source.major, str(source.platform)
        ('pgrx_hello', '0.2.0', 18, 'linux/arm64')
    """
    found = open_sources(path, platform=platform, major=major, bitcode=bitcode, include=include)
    if len(found) != 1:
        listed = ", ".join(str(source.platform) for source in found) or "none"
        raise SourceError(f"images for {listed}", wanted="one platform", where=path, hint="Give a platform.")
    return found[0]


def open_sources(
    path: Path | str,
    *,
    platform: Platform | str | None = None,
    major: int | None = None,
    bitcode: bool = False,
    include: Iterable[str] = (),
    read: Callable[[Path], list[Entry]] = read_tree,
) -> list[Source]:
    """What is at a path, as `open_source`, but of an image every platform.

    Args:
        path: The folder, file, or location of an image.
        platform: What a plain tree is for, or which platform of an image is meant.
        major: The PostgreSQL major version, where nothing tells it.
        bitcode: Keep LLVM bitcode.
        include: Globs of paths to take although they are not an extension's by their place.
        read: Lists a folder, as `read_tree`.

    Raises:
        NotFoundError, SourceError: As `open_source`.

    Example:
        >>> [source.kind for source in open_sources("fixtures/packages/amd64/pgrx_hello-pg18")]
        ['pgrx']
    """
    given = Platform.parse(platform) if isinstance(platform, str) else platform
    if given is not None and given.os != "linux":
        raise UsageError(f"the platform {given}", wanted="linux, as PostgreSQL's images are", where=path)
    wanted = [_include(text) for text in include]
    place = _location(path)
    if place is not None:
        from .image import image_sources

        sources = image_sources(open_artifact(place), where=Path(place.path), platform=given)
    elif os.path.isdir(path):
        sources = [_open_folder(Path(path), _Wish(given, major, bitcode, wanted), read)]
    else:
        sources = [_open_file(Path(path), _Wish(given, major, bitcode, wanted))]
    if major is None:
        return sources
    return [
        msgspec.structs.replace(source, package=msgspec.structs.replace(source.package, major=major, is_given=True))
        for source in sources
    ]


def _location(path: Path | str) -> Location | None:
    """The location of an image, where the path is one."""
    text = str(path)
    if text.startswith(_TRANSPORTS):
        return parse_location(text)
    try:
        exists, is_file = os.path.lexists(text), os.path.isfile(text)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot be read: {error}", where=repr(text)) from error
    if not exists:
        folder = text.rpartition(":")[0]
        if folder and os.path.exists(folder):
            return parse_location(text if text.startswith((".", "/")) else f"./{text}")
        hint = "Run cargo pgrx package first?"
        if _is_reference(text):
            hint = f"An image in a registry is copied first: ocibuild copy {text} oci:DIR."
        raise NotFoundError("nothing is there", where=text, hint=hint)
    if os.path.isfile(os.path.join(text, "oci-layout")):
        return Location(transport="oci", path=text)
    if is_file:
        from .image import is_archive_of_images

        if is_archive_of_images(Path(text)):
            return Location(transport="oci-archive", path=text)
    return None


def _is_reference(text: str) -> bool:
    """Whether a text that is no path names an image in a registry."""
    try:
        return parse_location(text).transport == "docker"
    except (NotFoundError, UsageError):
        return False


class _Wish(msgspec.Struct, frozen=True):
    """What was said of a source."""

    platform: Platform | None
    major: int | None
    bitcode: bool
    include: list[Include]


def _open_folder(folder: Path, wish: _Wish, read: Callable[[Path], list[Entry]]) -> Source:
    entries = read(folder)
    if wish.platform is not None:
        return make_source(folder, "plain", entries, platform=wish.platform)
    package = named_package(folder.resolve().name, is_archive=False)
    # NAME-pgMAJOR is what cargo pgrx package calls its folder.
    return _installed(folder, entries, "install" if package.name is None else "pgrx", package, wish)


def _open_file(path: Path, wish: _Wish) -> Source:
    # Most builds have a folder, and need none of these.
    from . import archive, deb
    from .scratch import Scratch

    with archive.open_file(path) as stream:
        head = stream.read(_HEAD)
        scratch = Scratch(path, stream.seek(0, 2))
        stream.seek(0)
        codec = archive.codec_of(head)
        if head.startswith(deb.MAGIC):
            return _open_deb(path, wish)
        if head.startswith(b"PK\x03\x04"):
            entries = archive.read_zip(stream, scratch, where=path)
        elif codec != "none" or head[257:262] == b"ustar":
            entries = archive.read_tar(stream, codec, scratch, where=path)
        else:
            raise SourceError(
                "a file of no known kind",
                wanted="a folder, a tar archive (plain, gzip, zstd, xz), a zip archive, a Debian package, or an OCI layout or archive",
                where=path,
            )
    package = named_package(path.name, is_archive=True)
    if package.name is None:
        tops = {entry.path.partition("/")[0] for entry in entries}
        package = named_package(next(iter(tops)), is_archive=True) if len(tops) == 1 else package
    return _installed(path, entries, "archive", package, wish, scratch=scratch)


def _open_deb(path: Path, wish: _Wish) -> Source:
    from . import deb

    found = deb.read_deb(path)
    name, major = debian_name(found.name)
    labels = {URL: found.fields.get("homepage", ""), DESCRIPTION: found.fields.get("description", "")}
    package = Package(
        name=name,
        version=found.version,
        major=major,
        labels={key: value for key, value in labels.items() if value},
        origin=f"{found.name} {found.fields['version']}",
    )
    if wish.platform is None and found.architecture != "all":
        told = _DEBIAN_PLATFORMS.get(found.architecture, f"linux/{found.architecture}")
        wish = msgspec.structs.replace(wish, platform=Platform.parse(told))
    return _installed(path, found.entries, "deb", package, wish, scratch=found.scratch, owner=found.name)


def _installed(
    where: Path,
    entries: Sequence[Entry],
    kind: str,
    package: Package,
    wish: _Wish,
    *,
    scratch: Scratch | None = None,
    owner: str | None = None,
) -> Source:
    """A source whose files are where an installation put them."""
    inside = _inside(entries)
    mapped = map_install_tree(
        inside,
        where=where,
        package=owner or package.name,
        major=wish.major,
        bitcode=wish.bitcode,
        include=wish.include,
    )
    plain = f"A plain tree is given with its platform: linux/amd64={where}"
    if mapped is None:
        raise SourceError(
            "no control file under a folder named extension, and no library",
            wanted="what an extension's build installs or packages",
            where=where,
            hint=plain if os.path.isdir(where) else "",
        )
    if package.major is None:
        package = msgspec.structs.replace(package, major=major_of_paths(entry.path for entry in inside))
    source = make_source(
        where,
        kind,
        mapped.entries,
        platform=wish.platform,
        left_out=mapped.left_out,
        package=package,
        keeps=(scratch,),
    )
    is_module = any(library.magic for library in source.libraries)
    if source.libraries and not (is_module or any(item.path.startswith("share/") for item in source.entries)):
        raise SourceError(
            f"{source.libraries[0].path} is no PostgreSQL module, and there is no control file",
            wanted="an extension, or a module with a magic block",
            where=where,
            hint="Libraries that an extension needs are given with --system.",
        )
    return source


def _inside(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with links to absolute paths made relative, as the root they are in will be another's.

    A link through /etc/alternatives leads where the link there leads.
    """
    tree: dict[str, Entry] = {}
    for entry in entries:
        if isinstance(entry, Symlink) and entry.target.startswith("/"):
            folder = posixpath.dirname(entry.path)
            target = posixpath.relpath(entry.target[1:] or ".", folder or ".")
            tree[entry.path] = Symlink(path=entry.path, target=target)
        elif not isinstance(entry, Directory):
            tree[entry.path] = entry
    return list(tree.values())


def _include(text: str) -> Include:
    pattern, equals, folder = text.partition("=")
    if not pattern or (equals and (not folder.strip("/") or ".." in folder.split("/"))):
        raise UsageError(f"--include {text!r}", wanted="GLOB or GLOB=FOLDER")
    return Include(pattern, folder if equals else None)
