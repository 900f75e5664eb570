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
from ocibuild.cli.arguments import add_source_options, created_time
from ocibuild.cli.building import pairs
from ocibuild.cli.diff import show_comparison
from ocibuild.cli.progress import progress
from ocibuild.cli.render import Style, message, print_json, printable, short_digest, table
from ocibuild.cli.sources import Input, read_input, recorded_options, source_resources
from ocibuild.errors import UsageError
from ocibuild.layer import Compression
from ocibuild.layer.plan import total_size
from ocibuild.locations import open_artifact
from ocibuild.oci import Platform
from ocibuild.oci.annotations import TITLE
from ocibuild.postgres.keys import OPERAND_NAME, OPERAND_OS, PG_MAJOR
from ocibuild.provenance import Provenance, changed_sources
from ocibuild.reproduce import Rebuilt, Settings, narrowed, rebuild, recorded_settings
from ocibuild.store.graph import find_platform

TROUBLE = 2


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
    if options.threads is not None and options.threads < 1:
        raise UsageError(f"--threads {options.threads}", wanted="1 or more")
    image = open_artifact(options.image, registry=registry_options(options))
    recorded = recorded_settings(image)
    settings = _said(options, recorded)
    if options.platform:
        image = find_platform(image, Platform.parse(options.platform[0]))
    distro, provenance = options.distro, settings.provenance
    taken = recorded_options(options, provenance) if provenance is not None else []
    given = read_input(options)
    _check_platforms(settings, given)
    total = sum(total_size(source.entries) for source in given.sources)
    with progress("rebuilding", total) as advance:
        found = rebuild(
            image,
            given.sources,
            labels=pairs(options.label, "--label"),
            settings=settings,
            recorded=recorded,
            distro=distro,
            threads=options.threads,
            reproducible=options.reproducible,
            on_progress=advance,
        )
    changed = _changed(given, provenance, options.platform) if provenance is not None else []
    if options.json:
        print_json({**found.to_dict(), "changedSources": changed})
        return 0 if found.is_equal else 1
    for line in changed:
        message(printable(line))
    if not found.is_equal:
        # Where what was built with is not known, the difference may be that alone.
        hint = "no provenance: options that do not show in an image, such as --include, must be said again"
        if taken or provenance is None:
            message(f"from the provenance: {printable(', '.join(taken))}" if taken else hint)
    print("\n".join(_lines(found, Style(no_color=options.no_color))))
    return 0 if found.is_equal else 1


def _check_platforms(settings: Settings, given: Input) -> None:
    have = sorted({str(source.platform) for source in given.sources if source.platform})
    lacking = [str(item) for item in settings.platforms if str(item) not in have]
    common = [name for name in have if name in map(str, settings.platforms)]
    if have and lacking:
        raise UsageError(
            f"no source for {', '.join(lacking)}, which the image has",
            wanted=f"sources for all; those given are for {', '.join(have)}",
            hint=f"Give the others too, or compare one alone: --platform {common[0]}." if common else "Give those too.",
        )


def _changed(given: Input, provenance: Provenance, platforms: list[str]) -> list[str]:
    sides = (provenance.sources, source_resources(given.sources))
    recorded, packed = ([item for item in side if _is_for(item.name, platforms)] for side in sides)
    return changed_sources(recorded, packed)


def _said(options: argparse.Namespace, settings: Settings) -> Settings:
    """The settings as they were said; labels that follow from what was said are made anew."""
    anew = {
        TITLE: options.name,
        PG_MAJOR: options.pg,
        OPERAND_OS: options.distro,
        OPERAND_NAME: options.distro,
    }
    labels = {key: value for key, value in settings.labels.items() if not anew.get(key)}
    if options.name:
        labels[TITLE] = options.name.rpartition("/")[2]
    return narrowed(
        settings,
        labels=labels,
        platforms=tuple(Platform.parse(name) for name in options.platform) or None,
        compression=Compression(options.compression) if options.compression else None,
        created=created_time(options.created) if options.created else None,
    )


def _is_for(name: str, platforms: list[str]) -> bool:
    return not platforms or "=" not in name or name.startswith(f"{Platform.parse(platforms[0])}=")


def _lines(found: Rebuilt, style: Style) -> Iterator[str]:
    rows = []
    for level in found.levels:
        verdict = "equal" if level.is_equal else f"rebuilt: {short_digest(level.built) or 'not there'}"
        rows.append([printable(level.platform), level.name, short_digest(level.image) or "not there", verdict])
    for line, level in zip(table(rows), found.levels, strict=True):
        yield style(line, "green" if level.is_equal else "red")
    yield ""
    if found.is_equal:
        yield f"{style('reproduced', 'green')} {found.image.digest}"
        if found.taken:
            keys = ", ".join(printable(key.removeprefix("org.opencontainers.image.")) for key in found.taken)
            yield style(f"labels taken from the image, which the sources do not say: {keys}", "dim")
        return
    yield from show_comparison(found.comparison, style)
    yield ""
    if found.only_compression:
        recorded, installed = found.codecs
        names = [item.compression.value for item in (found.recorded, found.settings)]
        yield f"{style('not reproduced', 'red')}: only the compressed bytes differ, the archives are equal"
        recorded = printable(recorded)
        by = f"by {recorded or 'nothing'}" if recorded or names[0] == "none" else "by a codec that no provenance names"
        yield f"the image's layers are {names[0]}, compressed {by}; these are {names[1]}, compressed by {installed or 'nothing'}"
    else:
        yield f"{style('not reproduced', 'red')} {found.image.digest}"
