"""Build an image from what cargo pgrx package wrote: one image a platform, one index over them.

A source is the folder that cargo pgrx package wrote, or PLATFORM=FOLDER for a plain tree taken as it is. Without a
source, the packages under ./target of a pgrx project are taken. Without -o the image goes to dist/NAME.

  ocibuild build target/release/pg_trickle-pg18
  ocibuild build dist/amd64/pg_trickle-pg18 dist/arm64/pg_trickle-pg18 -o oci-archive:pg_trickle.tar
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocibuild import postgres
from ocibuild.cli.render import Node, Style, human_size, message, print_json, printable, progress, show_tree, table
from ocibuild.describe import Description, describe
from ocibuild.errors import CheckError, UsageError
from ocibuild.layer import Compression
from ocibuild.layer.plan import total_size
from ocibuild.layer.tar import MTIME_LIMIT
from ocibuild.locations import Location, open_store, parse_location
from ocibuild.oci import Digest, Reference
from ocibuild.oci.annotations import LICENSES, SOURCE, VERSION, full_key
from ocibuild.postgres.build import merge
from ocibuild.postgres.recipe import RECIPE_NAME
from ocibuild.postgres.tags import tag_fields
from ocibuild.store import ArchiveStore, LocalStore, copy

_PLATFORM = re.compile(r"([a-z0-9]+/[a-z0-9_]+(?:/[a-z0-9]+)?)=(.*)", re.DOTALL)
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help="a folder, or PLATFORM=FOLDER for a plain tree")
    parser.add_argument(
        "-o", "--output", metavar="DEST", help="oci:DIR[:TAG], oci-archive:FILE[:TAG] (default dist/NAME)"
    )
    parser.add_argument("-t", "--tag", action="append", metavar="T", help="tag or template (default {version})")
    parser.add_argument("--pg", type=int, metavar="MAJOR", help="the PostgreSQL major, where a project has several")
    parser.add_argument("--name", help="the image's name (default: the extension's)")
    parser.add_argument("--label", action="append", default=[], metavar="K=V", help="label, also an annotation")
    parser.add_argument("--annotation", action="append", default=[], metavar="K=V", help="annotation only")
    parser.add_argument(
        "--compression", choices=[item.value for item in Compression], default="gzip", help="codec of the layers"
    )
    parser.add_argument("--created", metavar="TIME", help="RFC 3339 or seconds since 1970 (default $SOURCE_DATE_EPOCH)")
    parser.add_argument("--check", choices=["error", "warn", "off"], default="error", help="what findings do")
    parser.add_argument("--threads", type=int, metavar="N", help="compression threads (default: one a core)")


def run(options: argparse.Namespace) -> int:
    """Build and show what was built."""
    if options.threads is not None and options.threads < 1:
        raise UsageError(f"--threads {options.threads}", wanted="1 or more")
    sources = [_open(text) for text in options.sources] or _project(options)
    by_platform = merge(sources)
    labels, annotations, name = _metadata(sources, options)
    created = _created(options.created)
    version = labels[VERSION].value if VERSION in labels else None
    place = _place(options, name)
    _check_outside(place, sources)
    report = postgres.check(sources) if options.check != "off" else postgres.Report(())
    _show_findings(report, options)
    if not report and options.check == "error":
        count = len(report.errors)
        raise CheckError(
            f"{count} finding{'s' if count > 1 else ''} that would break the extension",
            findings=report.findings,
            hint=f"Mend {'them' if count > 1 else 'it'}, or build all the same with --check=warn.",
        )
    tags = _tags(options, place, version, sources)
    total = sum(total_size(entries) for entries in by_platform.values())
    with _open_store(place, name) as store, progress("building", total) as advance:
        image = postgres.build_extension(
            sources,
            into=store,
            labels={key: item.value for key, item in labels.items()},
            annotations=annotations,
            compression=Compression(options.compression),
            created=created,
            threads=options.threads,
            on_progress=advance,
        )
        copy(image, store, tags=tags)
        shown = describe(image, files=False)
    built = _Built(name, version, sources, shown, labels, place, tags, report)
    if options.json:
        print_json(built.to_dict())
    else:
        print("\n".join(built.lines(Style(no_color=options.no_color))))
    return 0


@dataclass(frozen=True, slots=True)
class _Built:
    """What came of a build."""

    name: str
    version: str | None
    sources: Sequence[postgres.Source]
    shown: Description
    labels: dict[str, postgres.Label]
    place: Location
    tags: list[str]
    report: postgres.Report

    def lines(self, style: Style) -> Iterator[str]:
        title = " ".join(item for item in (self._first("name") or self.name, self.version) if item)
        major = self._first("major")
        yield style(printable(title), "bold") + (f" for PostgreSQL {major}" if major else "")
        yield ""
        rows = [[str(item.platform), item.descriptor.digest, human_size(item.size)] for item in self.shown.images]
        width = max(len(row[0]) for row in rows) + len("├─ ")
        root = Node(f"{'index'.ljust(width)}  {self.shown.root.digest}")
        for line in table(rows):
            root.add(line)
        digests = [self.shown.root.digest, *(item.descriptor.digest for item in self.shown.images)]
        for line, digest in zip(show_tree(root), digests, strict=True):
            yield line.replace(digest, style(digest, "cyan"))
        yield ""
        values = [[_short(item.key), printable(item.value), f"({item.origin})"] for item in self.labels.values()]
        yield from table(values)
        missing = [_short(key) for key in (LICENSES, SOURCE) if key not in self.labels]
        if missing:
            them = "it" if len(missing) == 1 else "them"
            hint = f"unknown: {', '.join(missing)} (say {them} with --label KEY=VALUE or in {RECIPE_NAME})"
            yield style(hint, "dim")
        yield ""
        for tag in self.tags:
            yield f"{style('wrote', 'green')} {self.place.transport}:{self.place.path}:{tag}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "extension": self._first("name"),
            "version": self.version,
            "postgresql": self._first("major"),
            "sources": [
                {"path": str(item.where), "kind": item.kind, "platform": str(item.platform)} for item in self.sources
            ],
            "digest": self.shown.root.digest,
            "destination": f"{self.place.transport}:{self.place.path}",
            "tags": self.tags,
            "platforms": [
                {"platform": str(item.platform), "digest": item.descriptor.digest, "size": item.size}
                for item in self.shown.images
            ],
            "labels": {item.key: {"value": item.value, "origin": item.origin} for item in self.labels.values()},
            "findings": [finding.to_dict() for finding in self.report.findings],
        }

    def _first(self, attribute: str) -> Any:
        found = (getattr(source, attribute) for source in self.sources)
        return next((value for value in found if value), None)


def _open(text: str | Path) -> postgres.Source:
    match = _PLATFORM.fullmatch(str(text))
    if match and not os.path.exists(text):
        return postgres.open_source(match[2], platform=match[1])
    return postgres.open_source(text)


def _project(options: argparse.Namespace) -> list[postgres.Source]:
    """The packages of the pgrx project in the current folder, named: it was not said which."""
    target = os.environ.get("CARGO_TARGET_DIR")
    paths = postgres.find_packages(Path.cwd(), major=options.pg, target=Path(target) if target else None)
    found = []
    for path in paths:
        shown = Path(os.path.relpath(path))
        message(f"packing {printable(str(shown))}")
        found.append(postgres.open_source(shown))
    return found


def _check_outside(place: Location, sources: Sequence[postgres.Source]) -> None:
    """An output inside its own source would be packed by the next build."""
    output = Path(os.path.realpath(place.path))
    for source in sources:
        if output.is_relative_to(os.path.realpath(source.where)):
            raise UsageError(
                f"the output {place} lies inside the source {source.where}",
                wanted="a place outside",
                hint="Name one with -o: the next build would pack this one's output.",
            )


def _metadata(
    sources: list[postgres.Source], options: argparse.Namespace
) -> tuple[dict[str, postgres.Label], dict[str, str], str]:
    folders = [*(source.where.resolve() for source in sources), Path.cwd()]
    recipe_path = next((path for folder in folders if (path := postgres.find_recipe(folder))), None)
    recipe = postgres.read_recipe(recipe_path) if recipe_path else postgres.Recipe()
    extension = next((source.name for source in sources if source.name), None)
    projects = (postgres.find_project(folder, extension) for folder in folders) if extension else ()
    labels = postgres.labels(
        sources,
        given=_pairs(options.label, "--label"),
        recipe=recipe.labels,
        recipe_origin=RECIPE_NAME,
        project=next((project for project in projects if project), None),
        name=options.name or recipe.name,
    )
    annotations = {full_key(key): value for key, value in recipe.annotations.items()}
    annotations |= {full_key(key): value for key, value in _pairs(options.annotation, "--annotation").items()}
    name = options.name or recipe.name or extension or _tree_name(sources)
    return labels, annotations, name


def _tree_name(sources: Sequence[postgres.Source]) -> str:
    names = {source.where.resolve().name for source in sources}
    if len(names) != 1:
        raise UsageError(f"sources named {', '.join(sorted(names))}", wanted="a name for the image", hint="Add --name.")
    return names.pop()


def _pairs(items: list[str], flag: str) -> dict[str, str]:
    found = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f"{flag} {item!r}", wanted="KEY=VALUE")
        found[key] = value
    return found


def _created(flag: str | None) -> int | None:
    text = flag if flag is not None else os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    where = "--created" if flag is not None else "SOURCE_DATE_EPOCH"
    if text.isascii() and text.isdigit() and len(text) <= len(str(MTIME_LIMIT)):
        return int(text)
    if flag is not None:
        from datetime import datetime

        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is not None and moment.tzinfo is not None:
            return int(moment.timestamp())
    wanted = "seconds since 1970" + (", or a date and time with its zone" if flag is not None else "")
    raise UsageError(f"the time {text!r}", wanted=wanted, where=where)


def _place(options: argparse.Namespace, name: str) -> Location:
    if options.output is None:
        folder = _NOT_IN_NAME.sub("-", name.rpartition("/")[2].partition("@")[0].partition(":")[0]).strip(".-")
        if not folder:
            raise UsageError(f"the name {name!r}", wanted="one that a folder can have", hint="Say where with -o.")
        return Location(transport="oci", path=str(Path("dist") / folder))
    place = parse_location(options.output, to_write=True)
    if place.transport not in ("oci", "oci-archive"):
        raise UsageError(f"{place}", wanted="oci:DIR or oci-archive:FILE", hint="Build there, then copy.")
    if place.name and Digest.is_valid(place.name):
        raise UsageError("a digest in the destination", wanted="a tag", where=place)
    return place


def _tags(
    options: argparse.Namespace, place: Location, version: str | None, sources: Sequence[postgres.Source]
) -> list[str]:
    major = next((source.major for source in sources if source.major), None)
    templates = [*([place.name] if place.name else []), *(options.tag or [])]
    if not templates:
        templates = ["{version}" if version else "latest"]
    fields = tag_fields(version, major)
    return list(dict.fromkeys(postgres.expand_tag(template, fields) for template in templates))


def _open_store(place: Location, name: str) -> LocalStore:
    if place.transport != "oci-archive":
        return open_store(place)
    try:
        reference = Reference.parse(name)
    except UsageError:
        return open_store(place)
    return ArchiveStore(place.path, name=f"{reference.registry}/{reference.repository}")


def _show_findings(report: postgres.Report, options: argparse.Namespace) -> None:
    style = Style(no_color=options.no_color, stream=sys.stderr)
    colours = {"error": "red", "warning": "yellow", "info": "cyan"}
    for finding in report.findings:
        severity = style(finding.severity, colours[finding.severity], "bold")
        message(f"{severity} [{finding.id}] {printable(finding.where)}: {printable(finding.message)}")
        if finding.hint:
            message(f"  {style(finding.hint, 'dim')}")


def _short(key: str) -> str:
    return printable(key.removeprefix("org.opencontainers.image."))
