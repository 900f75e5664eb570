"""Remove the blobs of a layout that no tag and no referrer reaches.

ocibuild gc dist/pg_trickle
"""

from __future__ import annotations

import argparse

from ocibuild.cli.render import human_size, print_json
from ocibuild.errors import UsageError
from ocibuild.locations import parse_location
from ocibuild.store import LayoutStore


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("layout", metavar="LAYOUT", help="oci:DIR, or the folder")


def run(options: argparse.Namespace) -> int:
    """Collect, and say how much."""
    place = parse_location(options.layout)
    if place.transport != "oci" or place.name:
        raise UsageError(f"{options.layout}", wanted="a layout folder, without a tag")
    count, size = LayoutStore(place.path).gc()
    if options.json:
        print_json({"layout": place.path, "blobs": count, "bytes": size})
    else:
        print(f"{count} blobs removed, {human_size(size)}")
    return 0
