"""Show why two images differ: platforms, labels, layers, tar headers, files, and what in the files.

  ocibuild diff dist/pg_trickle:0.2.0 dist/pg_trickle:0.2.1
  ocibuild diff --semantic oci:mine ghcr.io/grove/pg_trickle-ext:0.2.0

Exits with 0 when they are equal, 1 when they differ, 2 when that cannot be told.
"""

from __future__ import annotations

import argparse

from ocibuild.cli.access import add_registry_options, registry_options
from ocibuild.cli.render import Node, Style, print_json, printable, short_digest, show_tree
from ocibuild.diff import Comparison, Difference, compare
from ocibuild.errors import NotFoundError
from ocibuild.locations import RegistryOptions, open_artifact
from ocibuild.oci import Platform
from ocibuild.oci.media_types import INDEXES
from ocibuild.store import Artifact
from ocibuild.store.graph import find_platform

TROUBLE = 2

_BARE = ("image", "file", "entry", "header", "layer", "link", "root")
"""Kinds that their place says already."""
_MARKS = {"+": "green", "-": "red", "@": "cyan"}


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("a", metavar="A", help="an image: oci:DIR[:TAG], oci-archive:FILE[:TAG], a path or a reference")
    parser.add_argument("b", metavar="B", help="another one")
    parser.add_argument(
        "--semantic", action="store_true", help="leave out what has no effect on a container: times, order, codec"
    )
    parser.add_argument("--platform", metavar="P", help="compare the images of this platform only")
    add_registry_options(parser)


def run(options: argparse.Namespace) -> int:
    """Compare and show."""
    registry = registry_options(options)
    platform = Platform.parse(options.platform) if options.platform else None
    a, b = (_open(text, platform, registry) for text in (options.a, options.b))
    found = compare(a, b, semantic=options.semantic)
    if options.json:
        print_json(found.to_dict())
    else:
        print("\n".join(show_comparison(found, Style(no_color=options.no_color))))
    return 0 if found.is_equal else 1


def _open(text: str, platform: Platform | None, registry: RegistryOptions) -> Artifact:
    image = open_artifact(text, registry=registry)
    if platform is None:
        return image
    try:
        return find_platform(image, platform)
    except NotFoundError as error:
        raise NotFoundError(error.found, wanted=error.wanted, where=text) from None


def show_comparison(found: Comparison, style: Style) -> list[str]:
    """The comparison as a tree."""
    one, other = (style(short_digest(item.digest), "cyan") for item in (found.a, found.b))
    if found.is_equal:
        if found.a.digest == found.b.digest:
            return [f"{style('equal', 'green')} {found.a.digest}"]
        counts = [f"{printable(platform)}: {count} files" for platform, count in found.same_files.items()]
        return [
            f"{style('equal to a container', 'green')} {one} and {other}" + "".join(f"\n  {line}" for line in counts)
        ]
    kind = "index" if found.a.media_type in INDEXES else "image"
    root = Node(f"{style(kind, 'bold')} {one} → {other}")
    for item in found.differences:
        _add(root, item, style)
    return list(show_tree(root))


def _add(parent: Node, item: Difference, style: Style) -> None:
    node = parent.add(_line(item, style))
    node.lines += [_coloured(line, style) for line in item.lines]
    for below in item.below:
        _add(node, below, style)


def _line(item: Difference, style: Style) -> str:
    where, a, b = (None if text is None else printable(text) or '""' for text in (item.where or " ", item.a, item.b))
    name = f"{where}" if item.kind in _BARE else f"{style(printable(item.kind), 'dim')} {where}".rstrip()
    if item.kind in ("image", "file", "entry"):
        name = style(name, "bold")
    if not item.where and a is b is None and item.note.startswith("and "):
        return f"{name} … {printable(item.note)}"
    if a is None and b is None:
        text = name
    elif a == b:
        text = f"{name}: {a} on both sides"
    elif a is None or b is None:
        mark, colour, value = ("+", "green", b) if a is None else ("-", "red", a)
        # A folder's value is that it is one.
        text = style(f"{mark} {name}", colour) + (f": {value}" if value != item.kind else "")
    else:
        text = f"{name}: {a} → {b}"
    return f"{text}  {style('(' + printable(item.note) + ')', 'dim')}" if item.note else text


def _coloured(line: str, style: Style) -> str:
    colour = _MARKS.get(line[:1])
    if not colour:
        return printable(line)
    # A blank at the end would not be seen.
    shown = line.rstrip(" ")
    return style(printable(shown) + "·" * (len(line) - len(shown)) if len(shown) > 1 else printable(line), colour)
