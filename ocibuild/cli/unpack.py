"""Write the files of an image to a folder that does not exist yet or is empty.

ocibuild unpack dist/pg_trickle files --platform linux/amd64
"""

from __future__ import annotations

import argparse
import sys

from ocibuild.cli.access import add_registry_options, registry_options
from ocibuild.cli.progress import progress
from ocibuild.cli.render import print_json
from ocibuild.contents import file_tree
from ocibuild.locations import open_artifact
from ocibuild.oci import Platform
from ocibuild.store import single_image
from ocibuild.unpack import unpack


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("image", metavar="IMAGE", help="oci:DIR[:TAG], oci-archive:FILE[:TAG], or a path; @sha256:...")
    parser.add_argument("folder", metavar="DIR", help="the folder to make")
    parser.add_argument("--platform", metavar="P", help="which platform's files, such as linux/arm64")

    add_registry_options(parser)


def run(options: argparse.Namespace) -> int:
    """Unpack, and say what."""
    image = single_image(
        open_artifact(options.image, registry=registry_options(options)),
        Platform.parse(options.platform) if options.platform else None,
    )
    total = sum(placed.member.size for placed in file_tree(image).values()) if sys.stderr.isatty() else 0
    with progress("unpacking", total) as advance:
        paths = unpack(image, options.folder, on_progress=advance)
    if options.json:
        print_json({"digest": image.digest, "folder": options.folder, "paths": paths})
    else:
        print(f"{len(paths)} files and folders of {image.digest} in {options.folder}")
    return 0
