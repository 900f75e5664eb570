"""Write the files of an image to a folder that does not exist yet or is empty.

ocibuild unpack dist/pg_trickle files --platform linux/amd64
"""

from __future__ import annotations

import argparse
import json

from ocibuild.errors import UsageError
from ocibuild.locations import open_artifact
from ocibuild.oci import Index, Platform
from ocibuild.store import Artifact, find_platform
from ocibuild.store.graph import read_document
from ocibuild.unpack import unpack


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("image", metavar="IMAGE", help="oci:DIR[:TAG], oci-archive:FILE[:TAG], or a path; @sha256:...")
    parser.add_argument("folder", metavar="DIR", help="the folder to make")
    parser.add_argument("--platform", metavar="P", help="which platform's files, such as linux/arm64")


def run(options: argparse.Namespace) -> int:
    """Unpack, and say what."""
    image = _choose(open_artifact(options.image), Platform.parse(options.platform) if options.platform else None)
    paths = unpack(image, options.folder)
    if options.json:
        print(
            json.dumps({"digest": image.digest, "folder": options.folder, "paths": paths}, indent=2, ensure_ascii=False)
        )
    else:
        print(f"{len(paths)} files and folders of {image.digest} in {options.folder}")
    return 0


def _choose(artifact: Artifact, platform: Platform | None) -> Artifact:
    if platform is not None:
        return find_platform(artifact, platform)
    document = read_document(artifact.source, artifact.root)
    if not isinstance(document, Index):
        return artifact
    if len(document.manifests) != 1:
        names = ", ".join(str(item.platform) for item in document.manifests)
        raise UsageError(
            f"{len(document.manifests)} platforms", wanted="one of them", hint=f"Add --platform, one of: {names}"
        )
    return Artifact(document.manifests[0], artifact.source)
