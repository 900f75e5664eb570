"""Show what an image holds: index, manifests, labels, layers, files, and what refers to it.

ocibuild inspect dist/pg_trickle
ocibuild inspect oci-archive:pg_trickle.tar:0.2.0 --json
"""

from __future__ import annotations

import argparse
import json

from ocibuild.cli.render import Node, Style, human_size, printable, show_tree, table
from ocibuild.describe import Description, ImageDescription, describe
from ocibuild.layer.read import Member
from ocibuild.locations import open_artifact

_MARKS = {"directory": "d", "file": "-", "symlink": "l", "hardlink": "h"}


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("image", metavar="IMAGE", help="oci:DIR[:TAG], oci-archive:FILE[:TAG], or a path; @sha256:...")
    parser.add_argument("--no-files", action="store_true", help="do not read the layers")


def run(options: argparse.Namespace) -> int:
    """Read and show."""
    found = describe(open_artifact(options.image), files=not options.no_files)
    if options.json:
        print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        print("\n".join(show_tree(_tree(found, Style(no_color=options.no_color)))))
    return 0


def _tree(found: Description, style: Style) -> Node:
    is_index = found.root.media_type.endswith(("index.v1+json", "list.v2+json"))
    root = Node(f"{style('index' if is_index else 'image', 'bold')} {style(found.root.digest, 'cyan')}")
    if is_index:
        _add_map(root, "annotations", found.annotations, style)
        for image in found.images:
            platform = style(str(image.platform or "no platform"), "bold")
            _add_image(
                root.add(f"{platform} {style(image.descriptor.digest, 'cyan')}  {human_size(image.size)}"), image, style
            )
    else:
        _add_image(root, found.images[0], style)
    if found.referrers:
        referrers = root.add("referrers")
        for item in found.referrers:
            referrers.add(f"{printable(item.artifact_type or item.media_type)} {style(item.digest, 'cyan')}")
    return root


def _add_image(node: Node, image: ImageDescription, style: Style) -> None:
    config = image.config
    annotations = image.manifest.annotations or {}
    if config is None:
        node.add(f"artifact of type {printable(image.manifest.effective_artifact_type)}")
        _add_map(node, "annotations", annotations, style)
        return
    if annotations != config.labels:
        _add_map(node, "annotations", annotations, style)
    _add_map(node, "labels and annotations" if annotations == config.labels else "labels", config.labels, style)
    facts = [("user", config.config.user if config.config else None), ("created", config.created)]
    for key, value in facts:
        if value:
            node.add(f"{style(key, 'dim')} {printable(value)}")
    for layer in image.layers:
        kind = layer.descriptor.media_type.rpartition("+")[2] if "+" in layer.descriptor.media_type else "tar"
        below = node.add(f"layer {style(layer.descriptor.digest, 'cyan')}  {human_size(layer.descriptor.size)} {kind}")
        below.add(f"{style('diff ID', 'dim')} {layer.diff_id}")
        for line in table([_row(member) for member in layer.members]):
            below.add(line)


def _row(member: Member) -> list[str]:
    target = f" -> {printable(member.link)}" if member.link else ""
    size = human_size(member.size) if member.kind == "file" else ""
    return [f"{_MARKS.get(member.kind, '?')}{member.mode:04o}", size.rjust(8), printable(member.path) + target]


def _add_map(node: Node, title: str, values: dict[str, str], style: Style) -> None:
    if not values:
        return
    below = node.add(title)
    for line in table([[printable(key), printable(value)] for key, value in sorted(values.items())]):
        below.add(line)
    del style
