"""Push an image to a registry, and name it with tags.

A tag is literal or a template, filled from the image's labels: {version}, {major}, {minor}, {patch}, {pg}, {distro}. Exact
versions are set first and floating tags last. Credentials are those that docker or podman stored, else GITHUB_TOKEN for
ghcr.io, else --username with --password-stdin.

  ocibuild push dist/pg_trickle ghcr.io/grove/pg_trickle-ext --tag {version} --tag {major}.{minor} --tag latest
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Any

from ocibuild import postgres
from ocibuild.cli.access import add_registry_options, registry_options
from ocibuild.cli.render import human_size, message, print_json, printable, progress
from ocibuild.describe import describe
from ocibuild.errors import NotFoundError, UsageError
from ocibuild.locations import Location, open_artifact, open_store, parse_location
from ocibuild.oci import Descriptor, Digest, Platform, Reference
from ocibuild.oci.annotations import CREATED, SOURCE, VERSION
from ocibuild.postgres.labels import OPERAND_OS, PG_MAJOR
from ocibuild.postgres.tags import is_floating
from ocibuild.store import Artifact, Store, copy, find_platform, walk


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "source", metavar="SRC", help="the image: oci:DIR[:TAG], oci-archive:FILE[:TAG], a path, @sha256:..."
    )
    parser.add_argument("reference", metavar="REF", help="registry/repository[:TAG]")
    parser.add_argument(
        "-t", "--tag", action="append", default=[], metavar="T", help="tag or template (default {version})"
    )
    parser.add_argument("--floating", action="store_true", help="move floating tags to a pre-release too")
    parser.add_argument("--replace", action="store_true", help="let a tag of an exact version name another image")
    parser.add_argument("--platform", metavar="P", help="only this platform's image")
    parser.add_argument("--referrers", action="store_true", help="also what is attached to it")
    parser.add_argument(
        "--mount-from", action="append", default=[], metavar="REPO", help="repository that may have the blobs"
    )
    add_registry_options(parser)


def run(options: argparse.Namespace) -> int:
    """Push, and say what was sent."""
    place = _destination(options.reference)
    reference = Reference.parse(place.path)
    artifact = open_artifact(options.source)
    if options.platform:
        artifact = find_platform(artifact, Platform.parse(options.platform))
    annotations = dict(describe(artifact, files=False).annotations)
    tags, exact = _tags(options, reference, annotations)
    if reference.registry == "ghcr.io" and SOURCE not in annotations:
        message("org.opencontainers.image.source is not set: the package will not be linked to its repository")
    access = replace(registry_options(options), mount_from=tuple(options.mount_from))
    blobs = list(walk(artifact.source, artifact.root))
    moved: list[str] = []
    with open_store(place, registry=access) as store, progress("pushing", sum(item.size for item in blobs)) as advance:
        if not options.replace:
            _check_exact(store, artifact, exact, reference)

        def tell(_: Descriptor, size: int) -> None:
            if advance is not None:
                advance(size)

        copy(artifact, store, referrers=options.referrers, on_progress=tell)
        try:
            for name in tags:
                store.tag(artifact.root, name)
                moved.append(name)
        except BaseException:
            message(f"tags that moved: {', '.join(moved) or 'none'}")
            raise
        how = getattr(store, "sent", {})
    _show(options, reference, artifact, tags, blobs, how)
    return 0


def _destination(text: str) -> Location:
    place = parse_location(text)
    if place.transport != "docker":
        raise UsageError(
            f"{place}", wanted="a reference that starts with its registry's host", hint="To a folder: ocibuild copy."
        )
    if Reference.parse(place.path).digest:
        raise UsageError("a digest in the destination", wanted="a tag", where=place)
    return place


def _tags(
    options: argparse.Namespace, reference: Reference, annotations: dict[str, str]
) -> tuple[list[str], list[str]]:
    """The tags, exact versions first, and those that are of an exact version."""
    major = annotations.get(PG_MAJOR, "")
    fields = postgres.tag_fields(
        annotations.get(VERSION), int(major) if major.isdigit() else None, distro=annotations.get(OPERAND_OS)
    )
    if created := annotations.get(CREATED):
        fields["timestamp"] = created[:16].translate({ord(character): None for character in "-:T"})
    templates = [*([reference.tag] if reference.tag else []), *options.tag]
    if not templates:
        templates = ["{version}" if "version" in fields else "latest"]
    # A reader who finds the floating tag moved must find the exact one too.
    found, held = postgres.tags(sorted(templates, key=is_floating), fields, floating=options.floating)
    if held:
        message(f"{fields['version']} is a pre-release: {', '.join(held)} not moved (--floating moves them)")
    if not found:
        raise UsageError("no tag is left", wanted="one that names the pre-release", hint="Add --tag '{version}'.")
    exact = [one for one in templates if "{version}" in one or "{timestamp}" in one]
    return found, [postgres.expand_tag(one, fields) for one in exact]


def _check_exact(store: Store, artifact: Artifact, tags: list[str], reference: Reference) -> None:
    """Refuse to let the tag of an exact version name another image than it does."""
    for name in tags:
        try:
            there = store.resolve(name)
        except NotFoundError:
            continue
        if there.digest != artifact.digest:
            raise UsageError(
                f"the tag {name} names {there.digest}",
                wanted=f"a new tag, or {artifact.digest}",
                where=f"{reference.registry}/{reference.repository}",
                hint="Raise the version, or say --replace.",
            )


def _show(
    options: argparse.Namespace,
    reference: Reference,
    artifact: Artifact,
    tags: list[str],
    blobs: list[Descriptor],
    how: dict[Digest, str],
) -> None:
    name = f"{reference.registry}/{reference.repository}"
    groups: dict[str, list[Descriptor]] = {"sent": [], "mounted": [], "there": []}
    for item in blobs:
        groups[how.get(item.digest, "there")].append(item)
    if options.json:
        fields: dict[str, Any] = {kind: [item.digest for item in items] for kind, items in groups.items()}
        print_json({"digest": artifact.digest, "destination": name, "tags": tags, **fields})
        return
    for tag in tags:
        print(f"{printable(name)}:{tag}")
    print(f"{printable(name)}@{artifact.digest}")
    told = [
        f"{len(items)} {kind} ({human_size(sum(item.size for item in items))})"
        for kind, items in groups.items()
        if items
    ]
    print(", ".join(told), file=sys.stderr)
