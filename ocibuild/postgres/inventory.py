"""What an image of an extension is made of, as the values of an SBOM: from the image, and from its sources where they are given.

PostgreSQL is no component. The image does not hold it, and in CycloneDX 1.6 a component is part of what is described:
`excluded` means that it is never needed at run time, and `isExternal` comes with 1.7. Its major version is a property.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO

import msgspec

from ocibuild.contents import Placed, place_members, read_layers
from ocibuild.errors import ControlError, LayerError, SourceError, UsageError
from ocibuild.layer.entry import File
from ocibuild.layer.read import Member
from ocibuild.oci import Digest, Index, Manifest, Platform, Reference
from ocibuild.oci.annotations import DESCRIPTION, DOCUMENTATION, LICENSES, SOURCE, TITLE, URL, VERSION
from ocibuild.sbom import Component, Inventory, ListedFile, Purl
from ocibuild.store import Artifact
from ocibuild.store.graph import platform_images, read_config, read_document

from .control import SIZE_LIMIT, Control, parse_control
from .crates import Crates, read_crates
from .debian import RELEASES, packages_of
from .keys import OPERAND_OS, PG_MAJOR
from .project import Project
from .sources import Library, Source
from .sources.base import main_control
from .sources.content import content_digest
from .sources.library import common_major, is_library, read_library

__all__ = ["take_inventory"]

_PLATFORMS_LIMIT = 64
_FILES_LIMIT = 500_000
_READ_LIMIT = 500
_LIBRARY_LIMIT = 64 * 1024 * 1024
_LIBRARIES_LIMIT = 512 * 1024 * 1024
_SYMBOLS_LIMIT = 1_000_000
_CHUNK = 1024 * 1024
_GITHUB = re.compile(r"https://github\.com/([A-Za-z0-9-]+)/([A-Za-z0-9._-]+?)(?:\.git)?/?")
_ADDRESS = re.compile(r"https?://[!-~]{1,2000}")
_BUILT = ("pgrx", "install", "archive", "plain")
_REFERENCES = (("vcs", SOURCE), ("website", URL), ("documentation", DOCUMENTATION))


def take_inventory(
    image: Artifact,
    sources: Iterable[Source] = (),
    *,
    project: Project | None = None,
    repository: str | None = None,
    distro: str | None = None,
) -> Inventory:
    """What an image or an index holds, and where that came from.

    Args:
        image: Any image, or an index with all its platforms.
        sources: What it was built from; that is checked.
        project: The crate, for its lock file and what no label says.
        repository: Where the image is, or will be, such as `ghcr.io/grove/pg_trickle-ext`; for its package URL.
        distro: The Debian release it is for; by default the one its label names.

    Raises:
        UsageError: It is no image, or has more platforms than any has.
        SourceError: Nothing of a source is in the image, or a source cannot be read.
        ContentError: A layer that is damaged, or more files than any image has.

    Example:
        >>> from ocibuild import postgres
        >>> image = postgres.build_extension([postgres.open_source("fixtures/packages/amd64/pgrx_hello-pg18")])
        >>> [(item.type, item.name) for item in take_inventory(image).components]
        [('library', 'pgrx_hello'), ('container', 'pgrx_hello')]
    """
    given = tuple(sources)
    named = Reference.parse(repository) if repository is not None else None
    document = read_document(image.source, image.root)
    if not isinstance(document, Index | Manifest):
        raise UsageError(f"{image.root.media_type}", wanted="an image or an index", where=image.digest)
    images = {one.digest: (platform, one) for platform, one in platform_images(image)}
    if len(images) > _PLATFORMS_LIMIT:
        raise UsageError(
            f"{len(images)} platforms", wanted=f"at most {_PLATFORMS_LIMIT}", where=image.digest, hint="Add --platform."
        )
    contents = []
    left = _FILES_LIMIT
    for platform, one in images.values():
        contents.append(_read_image(one, platform, left))
        left -= len(contents[-1].files)
    used: set[int] = set()
    is_built = any(source.kind in _BUILT for source in given)
    crates = read_crates(project) if project is not None and is_built else Crates()
    parts = [
        _parts(item, [source for source in given if _is_for(source, item.platform)], project, named, distro, used)
        for item in contents
    ]
    _check_used(given, contents, used)
    created = {item.created for item in contents}
    components, depends = _joined(parts, crates)
    subject = parts[0].container if parts else None
    if isinstance(document, Index):
        subject = _container(image.digest, document.annotations or {}, named)
        components |= {part.container.ref: part.container for part in parts}
        depends[subject.ref] = {part.container.ref for part in parts}
    assert subject is not None
    return Inventory(
        subject=subject,
        components=tuple(sorted(components.values(), key=_order)),
        depends=tuple(sorted((ref, tuple(sorted(needed))) for ref, needed in depends.items())),
        created=created.pop() if len(created) == 1 else None,
    )


class _Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What one platform's image says and holds."""

    digest: Digest
    platform: Platform
    labels: Mapping[str, str]
    created: str | None
    files: Mapping[str, ListedFile]
    controls: tuple[Control, ...]
    libraries: tuple[Library, ...]


class _Parts(msgspec.Struct, frozen=True, kw_only=True):
    """One platform's part of the inventory."""

    container: Component
    extensions: tuple[Component, ...]
    packages: tuple[Component, ...]
    system: Component | None


def _read_image(image: Artifact, platform: Platform, limit: int) -> _Contents:
    manifest = read_document(image.source, image.root)
    if not isinstance(manifest, Manifest):
        raise UsageError(f"{image.root.media_type} in an index", wanted="image manifests", where=image.digest)
    config = read_config(image.source, manifest)
    seen = _Seen()
    placed = place_members(seen.members(image))
    files: dict[str, ListedFile] = {}
    for path, item in placed.items():
        if item.member.kind in ("file", "symlink"):
            files[path] = _listed(path, item, seen)
    if len(files) > limit:
        raise LayerError(f"more than {_FILES_LIMIT} files", where=image.digest, hint="Add --platform.")
    inside = {item.content for item in placed.values()}
    return _Contents(
        digest=image.digest,
        platform=platform,
        labels=config.labels,
        created=config.created,
        files=files,
        controls=tuple(_controls(placed, seen)),
        libraries=tuple(library for at, library in seen.libraries.items() if at in inside),
    )


class _Seen:
    """What is kept of the members while the layers are read, by where their content is."""

    def __init__(self) -> None:
        self.digests: dict[tuple[int, int], str] = {}
        self.controls: dict[tuple[int, int], bytes] = {}
        self.libraries: dict[tuple[int, int], Library] = {}
        self._bytes, self._symbols = _LIBRARIES_LIMIT, _SYMBOLS_LIMIT

    def members(self, image: Artifact) -> Iterator[tuple[int, int, Member]]:
        for layer, number, member, content in read_layers(image):
            if member.kind == "file":
                self._read((layer, number), member, content)
            yield layer, number, member

    def _read(self, at: tuple[int, int], member: Member, content: BinaryIO) -> None:
        kept = b""
        if member.path.endswith(".control"):
            if member.size <= SIZE_LIMIT and len(self.controls) < _READ_LIMIT:
                kept = self.controls[at] = content.read()
        elif self._is_wanted(member):
            kept = content.read()
            self._bytes -= len(kept)
            self._keep_library(at, member.path, kept)
        hasher = hashlib.sha256(kept)
        while data := content.read(_CHUNK):
            hasher.update(data)
        self.digests[at] = hasher.hexdigest()

    def _is_wanted(self, member: Member) -> bool:
        """Whether a library is read: of what an extension has all, of a whole system the first."""
        return (
            member.size <= min(_LIBRARY_LIMIT, self._bytes)
            and self._symbols > 0
            and len(self.libraries) < _READ_LIMIT
            and is_library(File(path=member.path, content=b""))
        )

    def _keep_library(self, at: tuple[int, int], path: str, data: bytes) -> None:
        try:
            library = read_library(File(path=path, content=data), path)
        except SourceError:
            return  # ocibuild check tells
        self._symbols -= len(library.facts.imports) + len(library.facts.exports)
        # Its symbols are not needed.
        facts = msgspec.structs.replace(library.facts, imports=(), exports=frozenset(), versioned_exports=frozenset())
        self.libraries[at] = msgspec.structs.replace(library, facts=facts)


def _listed(path: str, item: Placed, seen: _Seen) -> ListedFile:
    if item.member.kind == "symlink":
        return ListedFile(path, None, (("ocibuild:link", item.member.link),))
    library = seen.libraries.get(item.content)
    soname = library.facts.soname if library is not None else None
    return ListedFile(path, seen.digests[item.content], (("ocibuild:soname", soname),) if soname else ())


def _controls(placed: Mapping[str, Placed], seen: _Seen) -> Iterator[Control]:
    """The control files where PostgreSQL finds them. One that only lends its content to a link is not one itself.

    Damaged ones are left out. Links are those of Debian's alternatives: to a file beside them.
    """
    found: dict[str, bytes] = {}
    lent: set[str] = set()
    for path, item in placed.items():
        folder, _, name = path.rpartition("/")
        if folder.rpartition("/")[2] != "extension" or not name.endswith(".control") or "--" in name:
            continue
        target = f"{folder}/{item.member.link}" if item.member.kind == "symlink" else path
        if target in placed and (raw := seen.controls.get(placed[target].content)) is not None:
            found[path] = raw
            if target != path:
                lent.add(target)
    for path in sorted(found.keys() - lent)[:_READ_LIMIT]:
        try:
            yield parse_control(found[path], name=path.rpartition("/")[2].removesuffix(".control"), path=path)
        except ControlError:
            continue


def _is_for(source: Source, platform: Platform) -> bool:
    return source.platform is None or source.platform.matches(platform)


def _parts(
    contents: _Contents,
    sources: Sequence[Source],
    project: Project | None,
    named: Reference | None,
    distro: str | None,
    used: set[int],
) -> _Parts:
    release = distro or contents.labels.get(OPERAND_OS)
    release = release if release in RELEASES or release == "sid" else None
    files = dict(contents.files)
    packages: list[Component] = []
    for source in sources:
        same = {
            entry.path
            for entry in source.entries
            if isinstance(entry, File) and entry.path in files and files[entry.path].sha256 == content_digest(entry)
        }
        if not same:
            continue
        used.add(id(source))
        for package, paths in packages_of(source, release):
            if came := same & paths:
                packages.append(package)
                for path in came:
                    more = (*files[path].properties, ("ocibuild:package", package.ref))
                    files[path] = msgspec.structs.replace(files[path], properties=more)
    container = _container(contents.digest, contents.labels, named, contents.platform)
    system = None
    if packages and release is not None:
        # What tells scanners whose advisories count. The packages are Debian's; the rest of Debian is not here.
        system = Component(type="operating-system", name="debian", version=RELEASES.get(release, release))
    return _Parts(
        container=msgspec.structs.replace(container, files=tuple(files.values())),
        extensions=tuple(_extensions(contents, project)),
        packages=tuple(packages),
        system=system,
    )


def _check_used(sources: Sequence[Source], contents: Sequence[_Contents], used: set[int]) -> None:
    for source in sources:
        has_files = any(isinstance(entry, File) for entry in source.entries)
        if has_files and id(source) not in used and any(_is_for(source, item.platform) for item in contents):
            raise SourceError(
                "nothing of it is in the image", wanted="what the image was built from", where=source.where
            )


def _container(
    digest: Digest, labels: Mapping[str, str], named: Reference | None, platform: Platform | None = None
) -> Component:
    properties = [("ocibuild:platform", str(platform))] if platform is not None else []
    properties += [("ocibuild:postgresql", labels[PG_MAJOR])] if labels.get(PG_MAJOR) else []
    return Component(
        type="container",
        name=labels.get(TITLE) or str(digest),
        version=labels.get(VERSION) or None,
        description=labels.get(DESCRIPTION) or None,
        licences=(labels[LICENSES],) if labels.get(LICENSES) else (),
        purl=_image_purl(digest, named, platform) if named is not None else None,
        hashes=((digest.algorithm, digest.encoded),),
        references=_references(labels),
        properties=tuple(properties),
    )


def _image_purl(digest: Digest, named: Reference, platform: Platform | None) -> Purl:
    place = f"{named.registry}/{named.repository}"
    arch = (("arch", platform.architecture),) if platform is not None else ()
    return Purl(
        type="oci",
        name=place.rpartition("/")[2],
        version=str(digest),
        qualifiers=(*arch, ("repository_url", place)),
    )


def _references(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((kind, labels[key]) for kind, key in _REFERENCES if _ADDRESS.fullmatch(labels.get(key) or ""))


def _extensions(contents: _Contents, project: Project | None) -> Iterator[Component]:
    """The extensions of an image: the one that its labels speak of, first, and all others that have a control file."""
    labels = contents.labels
    major = labels.get(PG_MAJOR) or str(common_major(contents.libraries) or "")
    title = labels.get(TITLE)
    main = main_control(contents.controls, [title] if title else [])
    if main is not None or (labels.get(PG_MAJOR) and title):
        said = {LICENSES: "licenses", SOURCE: "source", URL: "url", DESCRIPTION: "description"}
        known = {key: project.labels[name] for key, name in said.items() if project and name in project.labels}
        yield _extension(main, {**known, **labels}, major, title or "")
    for control in contents.controls:
        if control is not main:
            yield _extension(control, {}, major, control.name)


def _extension(control: Control | None, labels: Mapping[str, str], major: str, title: str) -> Component:
    name = control.name if control is not None else title
    sql = control.default_version if control is not None else None
    version = labels.get(VERSION) or sql
    properties = [("ocibuild:postgresql", major), ("ocibuild:default_version", sql)]
    if control is not None:
        properties += [("ocibuild:requires", item) for item in control.requires[:_READ_LIMIT]]
    at_github = (_GITHUB.fullmatch(labels.get(key) or "") for key in (SOURCE, URL))
    found = next((match for match in at_github if match), None)
    return Component(
        type="library",
        name=name,
        version=version or None,
        description=labels.get(DESCRIPTION) or (control.comment if control is not None else None),
        licences=(labels[LICENSES],) if labels.get(LICENSES) else (),
        # Of a component without one, some readers refuse the whole document.
        purl=Purl(type="github", namespace=found[1], name=found[2], version=version or None)
        if found
        else Purl(type="generic", name=name, version=version or None),
        references=_references(labels),
        properties=tuple((key, value) for key, value in properties if value),
    )


def _order(item: Component) -> tuple[bool, bool, str, str, str]:
    """The extensions before what they are made of, the images last."""
    is_extension = any(name == "ocibuild:postgresql" for name, _ in item.properties)
    return item.type == "container", not is_extension, item.name, item.version or "", item.ref


def _joined(parts: Sequence[_Parts], crates: Crates) -> tuple[dict[str, Component], dict[str, set[str]]]:
    """What the platforms' images are made of, each once, and by reference what needs what."""
    components: dict[str, Component] = {}
    depends: dict[str, set[str]] = {}
    for part in parts:
        made_of = (*part.extensions, *part.packages, *((part.system,) if part.system else ()))
        components |= {item.ref: item for item in made_of}
        depends[part.container.ref] = {item.ref for item in made_of}
        built = part.extensions[0] if part.extensions else part.container
        depends.setdefault(built.ref, set()).update(crates.direct)
    components |= {item.ref: item for item in crates.found}
    return components, depends | {ref: set(needed) for ref, needed in crates.depends}
