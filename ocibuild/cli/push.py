"""Push an image to a registry, and name it with tags.

A tag is literal or a template, filled from the image's labels: {version}, {major}, {minor}, {patch}, {pg}, {distro}. Exact
versions are set first and floating tags last. Credentials are those that docker or podman stored, else GITHUB_TOKEN for
ghcr.io, else --username with --password-stdin.

  ocibuild push dist/pg_trickle ghcr.io/grove/pg_trickle-ext --tag {version} --tag {major}.{minor} --tag latest
"""

from __future__ import annotations

import argparse
import os

from ocibuild.cli.access import add_registry_options
from ocibuild.registry.early import Early


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
    host = options.reference.removeprefix("docker://").partition("/")[0]
    if any(name.lower().endswith("_proxy") and value for name, value in os.environ.items()):
        host = ""  # only the real client knows of proxies
    # Connected before the libraries are loaded that a push needs.
    with Early(host, plain_http=options.plain_http or None, ca_file=options.ca_file) as early:
        from ocibuild.cli.pushing import push

        return push(options, early)
