"""What build and check share: the sources on the command line, the recipe, and what follows from them."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ocibuild import postgres
from ocibuild.cli.arguments import split_platform
from ocibuild.cli.render import message, printable
from ocibuild.errors import DocumentError, UsageError
from ocibuild.layer import Entry, File, read_tree
from ocibuild.postgres.distros import DISTROS
from ocibuild.postgres.recipe import RECIPE_NAME
from ocibuild.postgres.sources.base import make_source

if TYPE_CHECKING:
    from ocibuild.provenance import Provenance, Resource

__all__ = ["Input", "check_input", "read_input", "recorded_options", "source_resources"]

_SIZE = re.compile(r"([0-9]{1,12})\s*(|[kKMG])i?B?")
_UNITS = {"": 1, "k": 1000, "K": 1000, "M": 1000**2, "G": 1000**3}


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be packed, and what is known of it.

    Attributes:
        sources: The sources.
        name: The image's name.
        recipe: The recipe, empty where there is none.
        recipe_origin: The recipe's name for a person.
        name_origin: Where the name was said.
        distro_origin: Where the distro was said.
        project: The crate.
        distro: The Debian release of the server's image.
    """

    sources: Sequence[postgres.Source]
    name: str
    recipe: postgres.Recipe
    recipe_origin: str
    name_origin: str
    distro_origin: str
    project: postgres.Project | None
    distro: str | None

    @property
    def version(self) -> str | None:
        """The crate's version, where one is known."""
        return self.project.labels.get("version") if self.project else None

    def title(self, version: str | None, platforms: Sequence[str]) -> str:
        """Name, version, PostgreSQL major and platforms in a line."""
        what = " ".join(item for item in (self.name, version) if item)
        pg = f" for PostgreSQL {self.major}" if self.major else ""
        return f"{what}{pg}" + (f", {', '.join(platforms)}" if platforms else "")

    @property
    def major(self) -> int | None:
        """The PostgreSQL major version."""
        return next((source.major for source in self.sources if source.major), None)


def read_input(options: argparse.Namespace, read: Callable[[Path], list[Entry]] = read_tree) -> Input:
    """Everything that the arguments name, read; folders by `read`.

    Raises:
        OcibuildError: Something of it cannot be.
    """
    asked = [split_platform(text) for text in options.sources] or _project(options)
    folders = [*(Path(os.path.realpath(path)) for _, path in asked), Path.cwd()]
    path = next((path for folder in folders if (path := postgres.find_recipe(folder))), None)
    recipe = postgres.read_recipe(path) if path else postgres.Recipe()
    include = [*options.include, *recipe.include]
    given = [
        source
        for platform, item in asked
        for source in postgres.open_sources(
            item, platform=platform, major=options.pg, bitcode=options.bitcode, include=include, read=read
        )
    ]
    distro = options.distro or recipe.distro
    if distro is not None and distro not in DISTROS:
        raise UsageError(f"the distro {distro!r}", wanted=f"one of: {', '.join(DISTROS)}", where=path or "")
    name = options.name or recipe.name or postgres.image_name(given) or _tree_name(given)
    recipe_name = path.name if path else RECIPE_NAME
    sources = [_in_folder(source) for source in given] if options.folders else given
    if options.strip_libdir:
        sources = [postgres.strip_libdir(source) for source in sources]
    if path is not None and recipe.license_files:
        sources = [*sources, _licences(path, recipe, name)]
    sources = [*sources, *_system(sources, options, distro)]
    extensions = list(dict.fromkeys(control.name for source in sources for control in source.controls))
    projects = (postgres.find_project(folder, item) for item in extensions for folder in folders)
    return Input(
        sources=sources,
        name=name,
        recipe=recipe,
        recipe_origin=recipe_name,
        name_origin="given" if options.name else recipe_name,
        distro_origin="given" if options.distro else recipe_name,
        project=next((project for project in projects if project), None),
        distro=distro,
    )


def check_input(given: Input, options: argparse.Namespace) -> postgres.Report:
    """The report on what is to be packed."""
    return postgres.check(
        given.sources,
        distro=given.distro,
        major=options.pg,
        name=given.name,
        preload=given.recipe.preload,
        max_size=_size(options.max_size),
        platforms=options.platform,
        version=given.version,
    )


def source_resources(sources: Sequence[postgres.Source]) -> tuple[Resource, ...]:
    """What was packed, each with its digest, sorted by name: `PLATFORM=NAME`, as on a command line."""
    found = {resource.name: resource for source in sources for resource in _resources(source)}
    return tuple(found[name] for name in sorted(found))


def _resources(source: postgres.Source) -> Iterator[Resource]:
    from ocibuild.provenance import file_resource, folder_resource

    lead = f"{source.platform}=" if source.platform else ""
    name = f"{lead}{source.where.resolve().name}"
    if source.kind == "licences":
        files = [entry.content for entry in source.entries if isinstance(entry, File)]
        yield from (file_resource(Path(path)) for path in files if not isinstance(path, bytes))
    elif source.where.is_dir():
        yield folder_resource(source.where, name=name)
    elif source.where.is_file():
        yield file_resource(source.where, name=name)


def recorded_options(options: argparse.Namespace, provenance: Provenance) -> list[str]:
    """Take from a provenance what was not said on the command line; what that was.

    Raises:
        DocumentError: It says something that no build could have been told.
    """
    said = provenance.parameters
    wanted = {
        "name": str,
        "pg": int,
        "distro": str,
        "include": list,
        "bitcode": bool,
        "strip_libdir": bool,
        "folders": bool,
    }
    taken = []
    for name, kind in wanted.items():
        value = said.get("stripLibdir" if name == "strip_libdir" else name)
        if value is None or getattr(options, name):
            continue
        if type(value) is not kind or (isinstance(value, list) and not all(isinstance(item, str) for item in value)):
            raise DocumentError(
                f"the parameter {name} = {value!r}"[:200], wanted=f"a {kind.__name__}", where="provenance"
            )
        setattr(options, name, value)
        taken.append(f"{name} = {value}")
    return taken


def _project(options: argparse.Namespace) -> list[tuple[None, str]]:
    """The packages of the pgrx project in the current folder, named: it was not said which."""
    target = os.environ.get("CARGO_TARGET_DIR")
    paths = postgres.find_packages(Path.cwd(), major=options.pg, target=Path(target) if target else None)
    found = [os.path.relpath(path) for path in paths]
    for path in found:
        message(f"taking {printable(path)}")
    return [(None, path) for path in found]


def _in_folder(source: postgres.Source) -> postgres.Source:
    if source.name is None:
        raise UsageError("an extension without a name", wanted="one for its folder", where=source.where)
    return postgres.in_folder(source, postgres.mount_name(source.name))


def _licences(path: Path, recipe: postgres.Recipe, name: str) -> postgres.Source:
    """The licence files that a recipe names, for every platform."""
    entries = []
    for item in recipe.license_files:
        file = path.parent / item
        if not file.is_file():
            raise UsageError(f"no file {item!r}", wanted="a licence file, relative to the recipe", where=path)
        entries.append(File(path=f"licenses/{postgres.mount_name(name)}/{file.name}", content=file))
    return make_source(path.parent, "licences", entries)


def _system(
    sources: Sequence[postgres.Source], options: argparse.Namespace, distro: str | None
) -> list[postgres.Source]:
    if not options.system:
        return []
    if distro is None:
        raise UsageError("--system without --distro", wanted="the Debian release whose image lacks the libraries")
    systems = [found for path in options.system for found in postgres.open_system(path)]
    roots = postgres.image_roots(sources, platforms=options.platform)
    return [source for root in roots for source in postgres.system_sources(root, distro, systems)]


def _tree_name(sources: Sequence[postgres.Source]) -> str:
    names = {source.where.resolve().name for source in sources}
    if len(names) != 1:
        raise UsageError(f"sources named {', '.join(sorted(names))}", wanted="a name for the image", hint="Add --name.")
    return names.pop()


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"--max-size {text!r}", wanted="bytes, or such as 25MB")
    return int(match[1]) * _UNITS[match[2]]
