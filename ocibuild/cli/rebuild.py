"""Build an image again from its sources, with the settings it was built with, and compare the digests.

The settings are those that the image and its provenance show; what is said here comes before them.

  ocibuild rebuild ghcr.io/grove/pg_trickle-ext:0.2.0 dist/amd64/pg_trickle-pg18 dist/arm64/pg_trickle-pg18
  ocibuild rebuild oci:dist/pg_trickle --platform linux/amd64 target/release/pg_trickle-pg18

Exits with 0 when the digest is the same, 1 when it is not, 2 when that cannot be told.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ocibuild.cli.access import add_registry_options, registry_options
from ocibuild.cli.build import created_time, pairs
from ocibuild.cli.diff import show_comparison
from ocibuild.cli.progress import progress
from ocibuild.cli.render import Style, message, print_json, printable, table
from ocibuild.cli.sources import add_source_options, read_input, recorded_options, source_resources
from ocibuild.errors import UsageError
from ocibuild.layer import Compression
from ocibuild.layer.plan import total_size
from ocibuild.locations import open_artifact
from ocibuild.oci import Platform
from ocibuild.provenance import same_sources
from ocibuild.reproduce import Rebuilt, narrowed, rebuild, recorded_settings
from ocibuild.store.graph import find_platform

TROUBLE = 2

_SHORT = len("sha256:") + 12


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("image", metavar="IMAGE", help="oci:DIR[:TAG], oci-archive:FILE[:TAG], a path or a reference")
    add_source_options(parser)
    parser.add_argument("--label", action="append", default=[], metavar="K=V", help="a label in place of the image's")
    parser.add_argument("--compression", choices=[item.value for item in Compression], help="codec of the layers")
    parser.add_argument("--created", metavar="TIME", help="in place of the image's")
    parser.add_argument(
        "--reproducible", action=argparse.BooleanOptionalAction, default=True, help="refuse another codec"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="compression threads (default: one a core)")
    add_registry_options(parser)


def run(options: argparse.Namespace) -> int:
    """Build and compare."""
    if len(options.platform) > 1:
        raise UsageError("several platforms", wanted="one, or none for all of them", where="--platform")
    image = open_artifact(options.image, registry=registry_options(options))
    settings = recorded_settings(image)
    if options.platform:
        image = find_platform(image, Platform.parse(options.platform[0]))
    settings = narrowed(
        settings,
        platforms=tuple(Platform.parse(name) for name in options.platform) or None,
        compression=Compression(options.compression) if options.compression else None,
        created=created_time(options.created) if options.created else None,
    )
    changed: list[str] = []
    if settings.provenance is not None:
        recorded_options(options, settings.provenance)
    given = read_input(options)
    if settings.provenance is not None:
        resources = [
            item
            for item in source_resources(given.sources)
            if not options.platform or _is_for(item.name, options.platform[0])
        ]
        wanted = [
            item
            for item in settings.provenance.sources
            if not options.platform or _is_for(item.name, options.platform[0])
        ]
        changed = same_sources(wanted, resources)
    total = sum(total_size(source.entries) for source in given.sources)
    with progress("rebuilding", total) as advance:
        found = rebuild(
            image,
            given.sources,
            labels=pairs(options.label, "--label"),
            settings=settings,
            threads=options.threads,
            reproducible=options.reproducible,
            on_progress=advance,
        )
    if options.json:
        print_json({**found.to_dict(), "changedSources": changed})
    else:
        for name in changed:
            message(f"{printable(name)} is not the source that the provenance names")
        print("\n".join(_lines(found, Style(no_color=options.no_color))))
    return 0 if found.is_equal else 1


def _is_for(name: str, platform: str) -> bool:
    return "=" not in name or name.startswith(f"{Platform.parse(platform)}=")


def _lines(found: Rebuilt, style: Style) -> Iterator[str]:
    rows = []
    for level in found.levels:
        verdict = "equal" if level.is_equal else f"rebuilt: {level.built[:_SHORT] or 'not there'}"
        rows.append([level.platform, level.name, level.image[:_SHORT] or "not there", verdict])
    for line, level in zip(table(rows), found.levels, strict=True):
        yield style(line, "green" if level.is_equal else "red")
    yield ""
    if found.is_equal:
        yield f"{style('reproduced', 'green')} {found.image.digest}"
        return
    yield from show_comparison(found.comparison, style)
    yield ""
    if found.only_compression:
        recorded, installed = found.codecs
        by = f"by {recorded}" if recorded else "by a codec that no provenance names"
        yield f"{style('not reproduced', 'red')}: only the compressed bytes differ, the archives are equal"
        yield f"the image's layers were compressed {by}, these by {installed or 'none'}"
    else:
        yield f"{style('not reproduced', 'red')} {found.image.digest}"
