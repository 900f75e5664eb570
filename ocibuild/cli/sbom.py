"""List what an image was made of, as a CycloneDX 1.6 document: its files, and from its sources packages and crates.

The document goes to standard output, to a file with -o, or with --attach beside the image, where referrers are found.
SOURCE is what build took: what it holds must be in the image. The same image and sources give the same bytes.

  ocibuild sbom dist/pg_trickle
  ocibuild sbom oci:dist/pg_trickle target/release/pg_trickle-pg18 --attach
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import cast

from ocibuild.cli.access import add_registry_options, registry_options
from ocibuild.cli.arguments import add_source_options
from ocibuild.cli.render import Style, print_json, printable
from ocibuild.cli.sources import Input, read_input, recorded_options
from ocibuild.errors import UsageError
from ocibuild.locations import open_artifact
from ocibuild.oci import Descriptor, Digest, Platform, Reference
from ocibuild.postgres.inventory import take_inventory
from ocibuild.provenance import find_provenance
from ocibuild.sbom import attach_sbom, encode_sbom
from ocibuild.store import Artifact, LocalStore
from ocibuild.store.files import store_errors
from ocibuild.store.graph import find_platform

__all__ = ["attach_built", "configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("image", metavar="IMAGE", help="oci:DIR[:TAG], oci-archive:FILE[:TAG], a path or a reference")
    add_source_options(parser)
    parser.add_argument("--attach", action="store_true", help="keep it beside the image, as a referrer")
    parser.add_argument("-o", "--output", metavar="FILE", help="write it to a file")
    parser.add_argument(
        "--repository", metavar="REPO", help="where the image is published, for its package URL: ghcr.io/owner/name"
    )
    add_registry_options(parser)


def run(options: argparse.Namespace) -> int:
    """List, and write or attach."""
    if len(options.platform) > 1:
        raise UsageError("several platforms", wanted="one, or none for all of them", where="--platform")
    if options.system and not options.sources:
        raise UsageError("--system without a source", wanted="what the image was built from")
    image = open_artifact(options.image, registry=registry_options(options))
    given = _sources(options, image) if options.sources else None
    if options.platform:
        image = find_platform(image, Platform.parse(options.platform[0]))
    document = encode_sbom(
        take_inventory(
            image,
            given.sources if given else (),
            project=given.project if given else None,
            repository=options.repository or (_repository(given) if given else None),
            distro=given.distro if given else options.distro,
        )
    )
    if options.output is not None:
        with store_errors(options.output):
            Path(options.output).write_bytes(document)
    attached = _attach(image, document) if options.attach else None
    if options.output is None and attached is None:
        _print(document)
    elif options.json:
        print_json({
            "image": image.digest, "digest": Digest.of(document), "size": len(document), "output": options.output,
            "attached": attached.digest if attached else None,
        })  # fmt: skip
    else:
        style = Style(no_color=options.no_color)
        if options.output is not None:
            print(f"{style('wrote', 'green')} {printable(options.output)}")
        if attached is not None:
            print(f"{style('attached', 'green')} {attached.digest} to {image.digest}")
    return 0


def _sources(options: argparse.Namespace, image: Artifact) -> Input:
    if (provenance := find_provenance(image)) is not None:
        recorded_options(options, provenance)
    return read_input(options)


def attach_built(image: Artifact, store: LocalStore, given: Input) -> Descriptor:
    """Keep beside an image that was just built the document that this command writes for it and its sources."""
    found = take_inventory(
        image, given.sources, project=given.project, repository=_repository(given), distro=given.distro
    )
    return attach_sbom(image, store, encode_sbom(found))


def _repository(given: Input) -> str | None:
    """The name of the image, where it names a registry."""
    try:
        return str(Reference.parse(given.name))
    except UsageError:
        return None


def _attach(image: Artifact, document: bytes) -> Descriptor:
    store = cast("LocalStore", image.source)
    with store:
        return attach_sbom(image, store, document)


def _print(document: bytes) -> None:
    """The document as it is; on a terminal in ASCII, which no character can steer."""
    stream = getattr(sys.stdout, "buffer", None)
    if stream is None or sys.stdout.isatty():
        print_json(json.loads(document))
        return
    sys.stdout.flush()
    stream.write(document + b"\n")
