"""Building, with all that it needs loaded: what `ocibuild build` does once its trees are being packed."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ocibuild import __version__, postgres
from ocibuild.cli.findings import report_dict, show_findings, show_verdicts
from ocibuild.cli.progress import progress
from ocibuild.cli.render import Node, Style, human_size, message, print_json, printable, show_tree, table
from ocibuild.cli.sources import Input, check_input, read_input, source_resources
from ocibuild.describe import Description, describe
from ocibuild.errors import CheckError, UsageError
from ocibuild.layer import Compression
from ocibuild.layer.ahead import Ahead
from ocibuild.layer.plan import total_size
from ocibuild.locations import Location, open_store, parse_location
from ocibuild.oci import Digest, Platform, Reference
from ocibuild.oci.annotations import LICENSES, SOURCE, VERSION, full_key
from ocibuild.postgres.recipe import RECIPE_NAME
from ocibuild.store import Artifact, LocalStore, copy

if TYPE_CHECKING:
    from ocibuild.provenance import Provenance

_WIDTH = 60
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


def build(options: argparse.Namespace, created: int | None, ahead: Ahead) -> int:
    """Build and show what was built."""
    given = read_input(options, ahead.read)
    roots = postgres.image_roots(given.sources, platforms=options.platform)
    labels, annotations = _metadata(given, options)
    version = labels[VERSION].value if VERSION in labels else None
    if options.expect_version is not None:
        postgres.check_version(version, options.expect_version)
        # What cargo pgrx package wrote before the version was raised is another one.
        for source in given.sources:
            if source.kind == "pgrx" and source.main_control is not None:
                postgres.check_version(source.main_control.default_version, options.expect_version)
    place = _place(options, given.name)
    _check_outside(place, given)
    total = sum(total_size(root.entries.values()) for root in roots) if sys.stderr.isatty() else 0
    settings: dict[str, Any] = {
        "compression": Compression(options.compression),
        "created": created,
        "threads": options.threads,
        "reproducible": options.reproducible,
    }
    with (
        _open_store(place, given.name) as store,
        progress("building", total) as advance,
        postgres.begin_layers(roots, into=store, ahead=ahead, on_progress=advance, **settings) as layers,
    ):
        # Meanwhile: nothing is kept before the checks have passed.
        report = _checked(given, options)
        tags = _tags(options, place, postgres.tag_fields(version, given.major, distro=given.distro, created=created))
        image = postgres.build_extension(
            given.sources,
            into=store,
            labels={key: item.value for key, item in labels.items()},
            annotations=annotations,
            platforms=options.platform,
            distro=given.distro,
            layers=layers,
            **settings,
        )
        copy(image, store, tags=tags)
        attached = _attach(image, store, given, options, created)
        shown = describe(image, files=False, referrers=False)
    mount = postgres.configuration(given.name, roots, env=given.recipe.env)
    packing = {"stripLibdir": options.strip_libdir, "bitcode": options.bitcode, "folders": options.folders}
    built = _Built(given, version, shown, labels, place, tags, report, mount, packing, attached)
    if options.json:
        print_json(built.to_dict())
    else:
        print("\n".join(built.lines(Style(no_color=options.no_color))))
    return 0


def _attach(
    image: Artifact, store: LocalStore, given: Input, options: argparse.Namespace, created: int | None
) -> dict[str, Digest]:
    """Keep beside the image what was asked for; the manifest of each, by what it is."""
    attached: dict[str, Digest] = {}
    if options.provenance:
        from ocibuild.provenance import attach_provenance

        attached["provenance"] = attach_provenance(image, store, _provenance(given, options, created)).digest
    if options.sbom:
        from ocibuild.cli.sbom import attach_built

        attached["SBOM"] = attach_built(image, store, given).digest
    return attached


def _checked(given: Input, options: argparse.Namespace) -> postgres.Report:
    if options.check == "off":
        return postgres.Report(())
    report = check_input(given, options)
    style = Style(no_color=options.no_color, stream=sys.stderr)
    for line in show_findings([item for item in report.findings if item.severity != "info"], style):
        message(line)
    if not report and options.check == "error":
        for line in show_verdicts(report, style):
            message(line)
        count = len(report.errors)
        raise CheckError(
            f"{count} finding{'s' if count > 1 else ''} that would break the extension",
            findings=report.findings,
            hint=f"Mend {'them' if count > 1 else 'it'}, or build all the same with --check=warn.",
        )
    return report


class _Built(msgspec.Struct, frozen=True):
    """What came of a build."""

    given: Input
    version: str | None
    shown: Description
    labels: dict[str, postgres.Label]
    place: Location
    tags: list[str]
    report: postgres.Report
    mount: postgres.ExtensionConfiguration
    settings: dict[str, bool]
    attached: dict[str, Digest]

    def lines(self, style: Style) -> Iterator[str]:
        yield style(printable(self.given.title(self.version, [])), "bold")
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
        in_order = sorted(self.labels.values(), key=lambda item: (_short(item.key) == item.key, item.key))
        values = [[_short(item.key), _cut(printable(item.value)), f"({item.origin})"] for item in in_order]
        yield from table(values)
        missing = [_short(key) for key in (LICENSES, SOURCE) if key not in self.labels]
        if missing:
            them = "it" if len(missing) == 1 else "them"
            hint = f"unknown: {', '.join(missing)} (say {them} with --label KEY=VALUE or in {RECIPE_NAME})"
            yield style(hint, "dim")
        yield ""
        yield from self._usage()
        for line in table([["attached", what, digest] for what, digest in self.attached.items()]):
            yield line
        for tag in self.tags:
            yield f"{style('wrote', 'green')} {self.place.transport}:{self.place.path}:{tag}"

    def _usage(self) -> Iterator[str]:
        """What the server must be told, where it is not the default, and on what it runs."""
        rows = [["mount", f"/extensions/{self.mount.name}"]]
        for key, value in self.mount.to_dict().items():
            if isinstance(value, list):
                texts = [f"{item['name']}={item['value']}" if isinstance(item, dict) else item for item in value]
                rows.append([key, ", ".join(texts)])
        if self.given.recipe.preload:
            rows.append(["preload", ", ".join(self.given.recipe.preload)])
        left_out = [path for source in self.given.sources for path in source.left_out]
        if left_out:
            rows.append(
                ["left out", f"{len(left_out)} file{'s' if len(left_out) > 1 else ''} (ocibuild check lists them)"]
            )
        loads = [verdict.distro for verdict in self.report.verdicts if verdict]
        fails = [verdict.distro for verdict in self.report.verdicts if not verdict]
        if self.report.verdicts:
            rows.append(
                ["loads on", f"{', '.join(loads) or 'none'}" + (f"; not on {', '.join(fails)}" if fails else "")]
            )
        yield from table([[left, printable(right)] for left, right in rows])
        yield ""

    def to_dict(self) -> dict[str, Any]:
        control = next((source.main_control for source in self.given.sources if source.main_control), None)
        return {
            "name": self.given.name,
            "extension": control.name if control else None,
            "version": self.version,
            "postgresql": self.given.major,
            "sources": [
                {
                    "path": str(item.where),
                    "kind": item.kind,
                    "platform": str(item.platform) if item.platform else None,
                    "leftOut": list(item.left_out),
                }
                for item in self.given.sources
            ],
            "mount": self.mount.to_dict(),
            "settings": self.settings,
            "preload": list(self.given.recipe.preload),
            "parameters": self.given.recipe.parameters,
            "digest": self.shown.root.digest,
            "destination": f"{self.place.transport}:{self.place.path}",
            "tags": self.tags,
            "attached": {what.lower(): digest for what, digest in self.attached.items()},
            "platforms": [
                {"platform": str(item.platform), "digest": item.descriptor.digest, "size": item.size}
                for item in self.shown.images
            ],
            "labels": {item.key: {"value": item.value, "origin": item.origin} for item in self.labels.values()},
            **report_dict(self.report),
        }


def _provenance(given: Input, options: argparse.Namespace, created: int | None) -> Provenance:
    """What `ocibuild rebuild` needs to know, and what was packed."""
    from ocibuild.provenance import Provenance
    from ocibuild.workflow import github_workflow

    parameters = {
        "name": given.name,
        "pg": options.pg,
        "distro": given.distro,
        "platforms": [str(Platform.parse(item)) for item in options.platform],
        "include": [*options.include, *given.recipe.include],
        "bitcode": options.bitcode,
        "stripLibdir": options.strip_libdir,
        "folders": options.folders,
        "compression": options.compression,
        "created": created,
        "labels": pairs(options.label, "--label"),
        "annotations": pairs(options.annotation, "--annotation"),
    }
    return Provenance(
        parameters={key: value for key, value in parameters.items() if value not in (None, [], {}, False)},
        sources=source_resources(given.sources),
        version=__version__,
        workflow=github_workflow(os.environ),
    )


def _check_outside(place: Location, given: Input) -> None:
    """An output inside its own source would be packed by the next build."""
    output = Path(os.path.realpath(place.path))
    for source in given.sources:
        where = os.path.realpath(source.where)
        if source.kind not in ("licences", "system", "image") and output.is_relative_to(where):
            raise UsageError(
                f"the output {place} lies inside the source {source.where}",
                wanted="a place outside",
                hint="Name one with -o: the next build would pack this one's output.",
            )


def _metadata(given: Input, options: argparse.Namespace) -> tuple[dict[str, postgres.Label], dict[str, str]]:
    labels = postgres.labels(
        given.sources,
        given=pairs(options.label, "--label") | ({"version": options.set_version} if options.set_version else {}),
        recipe=({"version": given.recipe.version} if given.recipe.version else {}) | given.recipe.labels,
        recipe_origin=given.recipe_origin,
        project=given.project,
        name=given.name.rpartition("/")[2] if options.name or given.recipe.name else None,
        distro=given.distro,
        name_origin=given.name_origin,
        distro_origin=given.distro_origin,
    )
    annotations = {full_key(key): value for key, value in given.recipe.annotations.items()}
    annotations |= {full_key(key): value for key, value in pairs(options.annotation, "--annotation").items()}
    return labels, annotations


def pairs(items: list[str], flag: str) -> dict[str, str]:
    """Keys and values from `KEY=VALUE`.

    Raises:
        UsageError: One is not of that form.
    """
    found = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f"{flag} {item!r}", wanted="KEY=VALUE")
        found[key] = value
    return found


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


def _tags(options: argparse.Namespace, place: Location, fields: dict[str, str]) -> list[str]:
    templates = [*([place.name] if place.name else []), *(options.tag or [])]
    if not templates:
        templates = ["{version}" if "version" in fields else "latest"]
    found, held = postgres.tags(templates, fields, floating=options.floating)
    if held:
        message(f"{fields['version']} is a pre-release: {', '.join(held)} not moved (--floating moves them)")
    if not found:
        raise UsageError("no tag is left", wanted="one that names the pre-release", hint="Add --tag '{version}'.")
    return found


def _open_store(place: Location, name: str) -> LocalStore:
    if place.transport != "oci-archive":
        return open_store(place)
    try:
        reference = Reference.parse(name)
    except UsageError:
        return open_store(place)
    from ocibuild.store import ArchiveStore

    return ArchiveStore(place.path, name=f"{reference.registry}/{reference.repository}")


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def _short(key: str) -> str:
    return printable(key.removeprefix("org.opencontainers.image."))
