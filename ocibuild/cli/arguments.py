"""Arguments that several commands share; what is here is loaded before anything else, and stays small."""

from __future__ import annotations

import argparse
import os
import re

from ocibuild.errors import UsageError
from ocibuild.layer.tar import MTIME_LIMIT
from ocibuild.postgres.distros import DISTROS

__all__ = ["add_source_options", "created_time", "split_platform"]

_PLATFORM = re.compile(r"([a-z0-9]+/[a-z0-9_]+(?:/[a-z0-9]+)?)=(.*)", re.DOTALL)


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what is packed and for whom."""
    parser.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="a folder, archive, Debian package or image; PLATFORM=FOLDER for a plain tree",
    )
    parser.add_argument(
        "--pg", type=int, metavar="MAJOR", help="the PostgreSQL major, where nothing or several things tell it"
    )
    parser.add_argument("--name", help="the image's name (default: the package's, else the extension's)")
    parser.add_argument("--distro", choices=DISTROS, help="the Debian release of the server's image")
    parser.add_argument("--platform", action="append", default=[], metavar="P", help="build for these platforms only")
    parser.add_argument(
        "--include", action="append", default=[], metavar="GLOB[=FOLDER]", help="take left-out files too"
    )
    parser.add_argument("--bitcode", action="store_true", help="keep LLVM bitcode")
    parser.add_argument("--strip-libdir", action="store_true", help="take $libdir/ out of scripts")
    parser.add_argument("--folders", action="store_true", help="a folder for each extension in the image")
    parser.add_argument(
        "--system",
        action="extend",
        nargs="+",
        default=[],
        metavar="PATH",
        help=".deb files, a folder of them, or a root folder, to take needed libraries from",
    )
    parser.add_argument("--max-size", default="10MB", metavar="SIZE", help="what is called large (default 10 MB)")


def split_platform(text: str) -> tuple[str | None, str]:
    """The platform in front of a source, if there is one, and its path."""
    match = _PLATFORM.fullmatch(text)
    return (match[1], match[2]) if match and not os.path.exists(text) else (None, text)


def created_time(flag: str | None) -> int | None:
    """Seconds since 1970 from `--created`, else from SOURCE_DATE_EPOCH; None where neither says.

    Raises:
        UsageError: It is no time.
    """
    text = flag if flag is not None else os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    where = "--created" if flag is not None else "SOURCE_DATE_EPOCH"
    if text.isascii() and text.isdigit() and len(text) <= len(str(MTIME_LIMIT)):
        return int(text)
    if flag is not None:
        from ocibuild.postgres.build import seconds_of

        if (seconds := seconds_of(text)) is not None:
            return seconds
    wanted = "seconds since 1970" + (", or a date and time with its zone" if flag is not None else "")
    raise UsageError(f"the time {text!r}", wanted=wanted, where=where)
