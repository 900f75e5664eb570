"""Debian packages that files of an image came from: their fields, and their licence (copyright-format 1.0)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ocibuild.layer.entry import File
from ocibuild.sbom import Component, Purl

from .sources.base import Source
from .sources.content import content_digest, read_content
from .sources.deb import read_deb

__all__ = ["RELEASES", "copyright_licences", "packages_of"]

RELEASES = {"bullseye": "11", "bookworm": "12", "trixie": "13"}
"""Debian's releases and their numbers; sid has none."""

_COPYRIGHT_LIMIT = 1024 * 1024
_STATUS_LIMIT = 64 * 1024 * 1024
_FORMAT = re.compile(r"Format(?:-Specification)?:\s*\S*copyright-format", re.IGNORECASE)
_SOURCE = re.compile(r"(\S+)(?:\s+\(([^()]+)\))?")
_VERSIONED = re.compile(r"(A?L?GPL)-([0-9](?:\.[0-9])?)(?:\.0)?(\+?)", re.IGNORECASE)
_SPDX = {"expat": "MIT", "apache-2": "Apache-2.0", "cc0": "CC0-1.0", "bsd-2": "BSD-2-Clause", "bsd-3": "BSD-3-Clause"}
_NOT_SPDX = frozenset({"public-domain", "permissive", "custom", "other"})


def packages_of(source: Source, distro: str | None) -> Iterator[tuple[Component, frozenset[str]]]:
    """The packages that a source's files came from, each with the paths of its files in the image.

    Args:
        source: A Debian package, or system libraries; of any other kind it is none.
        distro: The Debian release that they are for.

    Raises:
        SourceError: A package that cannot be read again.
    """
    files = {entry.path: entry for entry in source.entries if isinstance(entry, File)}
    if source.kind not in ("deb", "system"):
        return
    if not source.where.is_dir():
        fields = read_deb(source.where).fields
        digest = content_digest(File(path="", content=source.where))
        yield _component(fields, distro, files, digest), frozenset(files)
        return
    for fields, paths in _installed(source.where, files):
        licence = f"licenses/{fields['package']}/copyright"
        yield _component(fields, distro, files, None), frozenset(paths) | ({licence} & files.keys())


def _component(
    fields: Mapping[str, str], distro: str | None, files: Mapping[str, File], digest: str | None
) -> Component:
    name, version = fields["package"], fields["version"]
    qualifiers = {"arch": fields.get("architecture", "")}
    if distro is not None:
        qualifiers["distro"] = f"debian-{RELEASES[distro]}" if distro in RELEASES else distro
    # Advisories are about source packages.
    if match := _SOURCE.fullmatch(fields.get("source", "")):
        qualifiers["upstream"] = match[1] + (f"@{match[2]}" if match[2] else "")
    copyright_file = files.get(f"licenses/{name}/copyright")
    text = read_content(copyright_file, _COPYRIGHT_LIMIT).decode(errors="replace") if copyright_file else ""
    homepage = fields.get("homepage", "")
    return Component(
        type="library",
        name=name,
        version=version,
        description=fields.get("description") or None,
        licences=copyright_licences(text),
        purl=Purl(
            type="deb",
            namespace="debian",
            name=name,
            version=version,
            qualifiers=tuple((key, value) for key, value in qualifiers.items() if value),
        ),
        hashes=(("sha256", digest),) if digest else (),
        references=(("website", homepage),) if re.fullmatch(r"https?://[!-~]+", homepage) else (),
    )


def _installed(root: Path, files: Mapping[str, File]) -> Iterator[tuple[dict[str, str], list[str]]]:
    """The packages of an installed system that have the given files, by dpkg's lists and status."""
    found = _owners(root, _places(root, files))
    status = root / "var/lib/dpkg/status"
    if not found or not status.is_file() or status.stat().st_size > _STATUS_LIMIT:
        return
    for paragraph in re.split(r"\n{2,}", status.read_text(errors="replace")):
        fields = _fields(paragraph)
        if {"package", "version"} <= fields.keys():
            keys = (fields["package"], f"{fields['package']}:{fields.get('architecture')}")
            paths = {path for key in keys for path in found.pop(key, ())}
            if paths:
                yield fields, sorted(paths)


def _places(root: Path, files: Mapping[str, File]) -> dict[str, set[str]]:
    """The paths that files have in an image, by those they have in a system, as its lists may name them."""
    found: dict[str, set[str]] = {}
    for path, file in files.items():
        if not isinstance(file.content, bytes) and not path.startswith("licenses/"):
            place = os.path.relpath(file.content, root)
            # /lib may be a link to usr/lib.
            for name in (place, place.removeprefix("usr/")):
                found.setdefault(name, set()).add(path)
    return found


def _owners(root: Path, places: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The paths of an image by the package that has their files."""
    found: dict[str, set[str]] = {}
    for item in sorted((root / "var/lib/dpkg/info").glob("*.list")):
        if item.stat().st_size <= _STATUS_LIMIT:
            lines = {line.lstrip("/") for line in item.read_text(errors="replace").splitlines()}
            for name in lines & places.keys():
                found.setdefault(item.stem, set()).update(places[name])
    return found


def _fields(paragraph: str) -> dict[str, str]:
    """The fields of a paragraph, of a folded one the first line."""
    lines = (line.partition(":") for line in paragraph.splitlines() if not line[:1].isspace())
    return {key.lower(): value.strip() for key, colon, value in lines if colon}


def copyright_licences(text: str) -> tuple[str, ...]:
    r"""The licences in a copyright file that a machine can read, as one SPDX expression where all have a name there.

    Example:
        >>> copyright_licences("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
        ...     "Files: *\nLicense: PostgreSQL\n\nFiles: debian/*\nLicense: GPL-2+ or Expat\n")
        ('(GPL-2.0-or-later OR MIT) AND PostgreSQL',)
    """
    if not _FORMAT.match(text):
        return ()
    paragraphs = (_fields(paragraph) for paragraph in re.split(r"\n[ \t]*\n", text))
    names = sorted(
        {" ".join(item["license"].split()) for item in paragraphs if "files" in item and item.get("license")}
    )
    expressions = {name: _expression(name) for name in names}
    if names and all(expressions.values()):
        return (" AND ".join(_joined(item for item in expressions.values() if item)),)
    return tuple(sorted({item or name for name, item in expressions.items()}))


def _joined(expressions: Iterable[str]) -> list[str]:
    found = sorted(set(expressions))
    return [f"({item})" if " OR " in item and len(found) > 1 else item for item in found]


def _expression(text: str) -> str | None:
    """The SPDX expression for Debian's; None where there is none. There too, `and` binds more than `or`."""
    words = re.split(r" (and|or) ", text)
    found = []
    for number, word in enumerate(words):
        if number % 2:
            found.append(word.upper())
        elif (name := _identifier(word)) is not None:
            found.append(name)
        else:
            return None
    return " ".join(found)


def _identifier(name: str) -> str | None:
    from cyclonedx.spdx import fixup_id

    if match := _VERSIONED.fullmatch(name):
        number = match[2] if "." in match[2] else f"{match[2]}.0"
        return fixup_id(f"{match[1]}-{number}-{'or-later' if match[3] else 'only'}")
    return fixup_id(_SPDX.get(name.lower(), name)) if name.lower() not in _NOT_SPDX else None
