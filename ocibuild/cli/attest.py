"""Sign what is said of an image.

Without --predicate that is what is attached to it unsigned: the provenance of `build --provenance`, and a CycloneDX SBOM. It
is then vouched for as it is there: attest in the job that built the image, before it is pushed.

  ocibuild attest oci:dist/pg_trickle --key cosign.key
  ocibuild attest ghcr.io/grove/pg_trickle-ext:0.2.0 --key cosign.key --type vuln --predicate scan.json
"""

from __future__ import annotations

import argparse
import os

from ocibuild.cli.sign import add_signing_options, load_key, open_place, show, signing_time
from ocibuild.errors import UsageError
from ocibuild.locations import parse_location
from ocibuild.oci.canonical import DOCUMENT_LIMIT


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_signing_options(parser)
    parser.add_argument(
        "--type",
        metavar="T",
        help="what the predicate says: a URI, or cyclonedx, spdxjson, slsaprovenance1, vuln, custom...",
    )
    parser.add_argument("--predicate", metavar="FILE", help="what is said: a JSON document")


def run(options: argparse.Namespace) -> int:
    """Sign, and say what, by which key, and where it is kept."""
    from ocibuild.sign import attest, attest_attached
    from ocibuild.sign.predicates import predicate_type, read_predicate

    if (options.type is None) != (options.predicate is None):
        given, lacking = ("--predicate", "--type") if options.type is None else ("--type", "--predicate")
        raise UsageError(f"{given} without {lacking}", wanted="both, or neither for what is attached already")
    kind = predicate_type(options.type) if options.type is not None else ""
    created, predicate = signing_time(options.created), b""
    if kind:
        predicate = _read(options.predicate)
        # Here it has a name.
        read_predicate(kind, predicate, created, where=options.predicate)
    signer = load_key(options)
    artifact, store = open_place(parse_location(options.image), options)
    with store:
        if kind:
            signed = [attest(artifact, store, signer, kind, predicate, created=created)]
        else:
            signed = attest_attached(artifact, store, signer, created=created)
    show(options, artifact, signed)
    return 0


def _read(path: str) -> bytes:
    """A predicate's bytes."""
    try:
        with open(path, "rb") as stream:
            raw = stream.read(DOCUMENT_LIMIT + 1)
    except (OSError, ValueError) as error:
        found = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise UsageError(found, wanted="a predicate", where=os.fspath(path)) from None
    if len(raw) > DOCUMENT_LIMIT:
        raise UsageError(f"more than {DOCUMENT_LIMIT} bytes", wanted="a predicate", where=path)
    return raw
