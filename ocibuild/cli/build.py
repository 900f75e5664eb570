"""Build an image from what an extension's build left: one image a platform, one index over them.

A source is the folder that cargo pgrx package wrote, an install tree, a release archive (tar or zip), a Debian package, or
an image. PLATFORM=FOLDER is a plain tree taken as it is. Without a source, the packages under ./target of a pgrx project
are taken. Without -o the image goes to dist/NAME.

  ocibuild build target/release/pg_trickle-pg18
  ocibuild build postgresql-18-pgvector_*.deb --distro trixie -o oci-archive:pgvector.tar
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module

from ocibuild.cli.arguments import add_source_options, created_time, split_platform
from ocibuild.errors import UsageError
from ocibuild.layer.ahead import Ahead, can_fork
from ocibuild.layer.compress import Compression


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_source_options(parser)
    parser.add_argument(
        "-o", "--output", metavar="DEST", help="oci:DIR[:TAG], oci-archive:FILE[:TAG] (default dist/NAME)"
    )
    parser.add_argument("-t", "--tag", action="append", metavar="T", help="tag or template (default {version})")
    parser.add_argument("--floating", action="store_true", help="move floating tags to a pre-release too")
    parser.add_argument("--set-version", metavar="V", help="the version (default: the package's, else the extension's)")
    parser.add_argument("--expect-version", metavar="V", help="refuse another version than this one, as of a git tag")
    parser.add_argument("--label", action="append", default=[], metavar="K=V", help="label, also an annotation")
    parser.add_argument("--annotation", action="append", default=[], metavar="K=V", help="annotation only")
    parser.add_argument(
        "--compression", choices=[item.value for item in Compression], default="gzip", help="codec of the layers"
    )
    parser.add_argument("--created", metavar="TIME", help="RFC 3339 or seconds since 1970 (default $SOURCE_DATE_EPOCH)")
    parser.add_argument("--check", choices=["error", "warn", "off"], default="error", help="what findings do")
    parser.add_argument(
        "--provenance",
        action="store_true",
        help="keep beside the image what it was made of and how (SLSA v1, unsigned)",
    )
    parser.add_argument(
        "--sbom", action="store_true", help="keep beside the image what it was made of (CycloneDX, unsigned)"
    )
    parser.add_argument(
        "--reproducible",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="refuse a codec that gives other bytes than the format (the default)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="compression threads (default: one a core)")


def run(options: argparse.Namespace) -> int:
    """Build and show what was built."""
    if options.threads is not None and options.threads < 1:
        raise UsageError(f"--threads {options.threads}", wanted="1 or more")
    created = created_time(options.created)
    with Ahead(_plain_trees(options), mtime=created or 0, threads=options.threads) as ahead:
        # Loaded while the trees are packed.
        if options.is_program:
            _load_msgspec()
        from ocibuild.cli.building import build

        return build(options, created, ahead)


def _plain_trees(options: argparse.Namespace) -> list[str]:
    """The trees that will surely be packed as they are, into an image that is surely new."""
    is_changed = options.folders or options.strip_libdir or options.include or options.system or options.platform
    is_wanted = options.is_program and options.compression == "gzip" and not is_changed
    if not (is_wanted and _is_new(options.output or "dist") and can_fork()):
        return []
    found = [split_platform(text) for text in options.sources]
    return [path for platform, path in found if platform and os.path.isdir(path)]


def _is_new(output: str) -> bool:
    """Whether nothing is there, with what may be a tag or without it: a layout may have the layers."""
    path = output.removeprefix("oci:").removeprefix("oci-archive:")
    return not any(os.path.lexists(item) for item in (path, path.rpartition(":")[0]))


def _load_msgspec() -> None:
    """Load msgspec without typing_extensions, whose place `typing` takes since Python 3.11: a twentieth of a small build."""
    if "typing_extensions" not in sys.modules:
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # an import of it fails
        import_module("msgspec")
        del sys.modules["typing_extensions"]
