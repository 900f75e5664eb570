"""Checks on what lies where: links, sizes, names, what was left out, how platforms agree."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ocibuild.layer.entry import File, Symlink
from ocibuild.layer.plan import resolve, total_size
from ocibuild.postgres.mount import MOUNT_NAME, mount_name
from ocibuild.postgres.root import ImageRoot
from ocibuild.postgres.sources import Source
from ocibuild.postgres.sources.content import content_digest
from ocibuild.postgres.sources.layout import development_kind, is_development
from ocibuild.postgres.sources.library import common_major

from .finding import Finding, listed

__all__ = ["MAX_SIZE", "check_layout", "check_platforms"]

MAX_SIZE = 10 * 1000 * 1000
"""Bytes of files from which on a single extension is called large."""

_MANY = 5


def check_layout(root: ImageRoot) -> Iterator[Finding]:
    """What would hinder the files of a root by their places."""
    yield from _links(root)
    for path in root.entries:
        if "share/tsearch_data/" in path and re.search(r"(?:^|/)share/tsearch_data/", path):
            yield Finding(
                id="tsearch-data",
                severity="warning",
                message="a dictionary's file: PostgreSQL 18 reads them from its own share folder only",
                where=root.where(path),
                hint="A dictionary that names it cannot be made; put the file into the server's image.",
            )
    is_extension = bool(root.controls) or any(library.magic for library in root.libraries)
    if not is_extension:
        yield Finding(
            id="no-extension",
            severity="warning",
            message="neither a control file nor a module: the server has nothing to load",
            where=", ".join(str(source.where) for source in root.sources),
            hint="Is it the right folder?",
        )
    for source in root.sources:
        yield from _left_out(source)


def _links(root: ImageRoot) -> Iterator[Finding]:
    links = {path: entry for path, entry in root.entries.items() if isinstance(entry, Symlink)}
    folders = {"", *(parent for path in root.entries for parent in _parents(path))} if links else set()
    for path, entry in links.items():
        found = resolve(path, root.entries)
        if found in root.entries or found in folders:
            continue
        # PostgreSQL opens the main control files of all extensions to list them.
        in_extension = path.rpartition("/")[0].rpartition("/")[2] == "extension"
        is_control = in_extension and path.endswith(".control") and "--" not in path.rpartition("/")[2]
        yield Finding(
            id="dangling-link",
            severity="error" if is_control else "warning",
            message=f"a link to {entry.target}, which is not in the image"
            + (": pg_available_extensions would fail for the whole server" if is_control else ""),
            where=root.where(path),
            hint="Give the file itself, or leave the link out.",
        )


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _left_out(source: Source) -> Iterator[Finding]:
    unexpected = [path for path in source.left_out if not is_development(path)]
    expected = [path for path in source.left_out if is_development(path)]
    built, said = common_major(source.libraries), source.package.major
    if built and said and built != said and not source.package.is_given:
        yield Finding(
            id="major-differs",
            severity="warning",
            message=f"modules for PostgreSQL {built}, and {source.package.origin or 'the prefix'} names {said}",
            where=str(source.where),
            hint="Package again if the name is right.",
        )
    if unexpected:
        yield Finding(
            id="left-out",
            severity="warning",
            message=f"files outside the extension's folders, not in the image: {_shown(unexpected)}",
            where=str(source.where),
            hint="Take those that the extension needs with --include GLOB.",
        )
    if expected:
        kinds = ", ".join(sorted({development_kind(path) for path in expected}))
        yield Finding(
            id="left-out",
            severity="info",
            message=f"{len(expected)} file{'s' if len(expected) > 1 else ''} for building and reading, not in the image: {kinds}",
            where=str(source.where),
        )


def check_platforms(
    roots: Sequence[ImageRoot], name: str | None, max_size: int, crate_version: str | None
) -> Iterator[Finding]:
    """What does not agree between platforms; the name of them all, and the size of the largest."""
    if name is not None and not MOUNT_NAME.fullmatch(mount_name(name)):
        yield Finding(
            id="mount-name",
            severity="error",
            message=f"the name {name!r}, as a mount {mount_name(name)!r}: CloudNativePG takes 1 to 59 of a-z, 0-9, - and _",
            where="the image",
            hint="Choose another with --name.",
        )
    yield from _size(max(roots, key=lambda root: total_size(root.entries.values())), max_size)
    yield from _agree(roots, crate_version)
    first = roots[0]
    for other in roots[1:]:
        yield from _same_files(first, other)


def _size(root: ImageRoot, max_size: int) -> Iterator[Finding]:
    size = total_size(root.entries.values())
    names = {control.name for control in root.controls}
    mains = sum(1 for control in root.controls if not names & set(control.requires))
    modules = sum(1 for library in root.libraries if library.magic)
    if size > max_size and (mains == 1 or (mains == 0 and modules)):
        largest = max((item for item in root.entries.values() if isinstance(item, File)), key=lambda item: item.size)
        yield Finding(
            id="large-image",
            severity="warning",
            message=f"{size / 1e6:.1f} MB of files, more than {max_size / 1e6:g} MB; {largest.size / 1e6:.1f} MB are this one",
            where=root.where(largest.path),
            hint="Strip libraries, leave out what the server does not read, or raise --max-size.",
        )


def _agree(roots: Sequence[ImageRoot], crate_version: str | None) -> Iterator[Finding]:
    sources = list({id(source): source for root in roots for source in root.sources}.values())
    told: dict[str, tuple[str, Source]] = {}
    for source in sources:
        for control in source.controls:
            if control.default_version is None:
                continue
            if source.kind == "pgrx" and crate_version not in (None, control.default_version):
                yield Finding(
                    id="versions-differ",
                    severity="warning",
                    message=f"{control.name} {control.default_version}, while Cargo.toml says {crate_version}",
                    where=str(source.where),
                    hint="Run cargo pgrx package again.",
                )
            version, other = told.setdefault(control.name, (control.default_version, source))
            if version != control.default_version:
                yield Finding(
                    id="versions-differ",
                    severity="error",
                    message=f"{control.name} {control.default_version}, but {version} in {other.where}",
                    where=str(source.where),
                    hint="One of the trees is stale: package both again from one commit.",
                )
    majors = {root.major: root for root in roots if root.major}
    if len(majors) > 1:
        listed = ", ".join(f"{major} for {root.platform}" for major, root in sorted(majors.items()))
        yield Finding(
            id="major-differs",
            severity="error",
            message=f"modules for several PostgreSQL majors: {listed}",
            where=", ".join(str(source.where) for root in majors.values() for source in root.sources),
            hint="Build one image for each.",
        )
    yield from _same_labels(sources)


def _same_labels(sources: Sequence[Source]) -> Iterator[Finding]:
    """What images that are joined say of themselves must agree, or the first one's words stand."""
    told: dict[str, tuple[str, Source]] = {}
    for source in sources:
        for key, value in source.package.labels.items() if source.kind == "image" else ():
            known, other = told.setdefault(key, (value, source))
            if value != known:
                yield Finding(
                    id="labels-differ",
                    severity="warning",
                    message=f"{key} is {value!r}, but {known!r} in {other.where}",
                    where=str(source.where),
                    hint="Say which with --label.",
                )


def _same_files(one: ImageRoot, other: ImageRoot) -> Iterator[Finding]:
    ours, theirs = _scripts(one), _scripts(other)
    for path in sorted(ours.keys() | theirs.keys()):
        if path in ours and path in theirs:
            if ours[path] == theirs[path]:
                continue
            message = f"differs between {one.platform} and {other.platform}"
        else:
            there, absent = (one, other) if path in ours else (other, one)
            message = f"only in {there.platform}, not in {absent.platform}"
        trees = " and ".join(
            dict.fromkeys(str(root.owners[path].where) for root in (one, other) if path in root.owners)
        )
        yield Finding(
            id="platforms-differ",
            severity="error",
            message=message,
            where=f"{trees}: {path}",
            hint="One of the trees is stale: delete both and package again from one commit.",
        )


def _scripts(root: ImageRoot) -> dict[str, str]:
    """The digests of the scripts and control files, which no platform may have otherwise."""
    return {
        path: content_digest(entry)
        for path, entry in root.entries.items()
        if isinstance(entry, File) and path.endswith((".sql", ".control"))
    }


def _shown(paths: Sequence[str]) -> str:
    """Paths, or of many their folders."""
    folders = list(dict.fromkeys(path.rpartition("/")[0] or path for path in paths))
    return listed(paths if len(paths) <= _MANY else [f"{folder}/" for folder in folders])
