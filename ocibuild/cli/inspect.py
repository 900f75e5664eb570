"""Show what an image holds: index, manifests, labels, layers, files, and what refers to it.

ocibuild inspect dist/pg_trickle
ocibuild inspect oci-archive:pg_trickle.tar:0.2.0 --json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ocibuild.cli.access import add_registry_options, registry_options
from ocibuild.cli.render import Node, Style, human_size, message, print_json, printable, show_tree, table
from ocibuild.describe import AttachedDescription, Description, ImageDescription, describe, describe_attached
from ocibuild.errors import ContentError, OcibuildError
from ocibuild.layer.read import Member
from ocibuild.locations import open_artifact
from ocibuild.oci import Digest
from ocibuild.oci.media_types import INDEXES
from ocibuild.store import Artifact, RemoteStore

_DEPTH = 20
"""How deep a tree of what is attached goes; what is attached below begins anew."""

_WIDTH = 60
"""How far the digests of what is attached are put to the right, so that they stand in a column."""

_MARKS = {"directory": "d", "file": "-", "symlink": "l", "hardlink": "h"}


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("image", metavar="IMAGE", help="oci:DIR[:TAG], oci-archive:FILE[:TAG], or a path; @sha256:...")
    parser.add_argument("--no-files", action="store_true", help="do not read the layers")

    add_registry_options(parser)


def run(options: argparse.Namespace) -> int:
    """Read and show."""
    artifact = open_artifact(options.image, registry=registry_options(options))
    found = describe(artifact, files=not options.no_files)
    tags = _tags(artifact)
    attached = _attached(artifact)
    if options.json:
        told = [item.to_dict() for item in attached] if attached is not None else None
        print_json({**found.to_dict(), "tags": tags, "attached": told})
    else:
        style = Style(no_color=options.no_color)
        tree = _tree(found, tags, style)
        _add_attached(tree, found, attached or (), style)
        print("\n".join(show_tree(tree)))
    return 0


def _tags(artifact: Artifact) -> list[str]:
    """The image's tags; of a registry none, as it would be asked once a tag."""
    if not hasattr(artifact.source, "tags") or isinstance(artifact.source, RemoteStore):
        return []
    try:
        found = artifact.source.tags()
    except ContentError as error:
        message(f"the image's tags cannot be told: {printable(str(error))}")
        return []
    return [name for name, descriptor in found.items() if descriptor.digest == artifact.digest]


def _attached(artifact: Artifact) -> tuple[AttachedDescription, ...] | None:
    """What is attached; None where that cannot be told, which does not hide the image."""
    if not hasattr(artifact.source, "referrers"):
        return ()
    try:
        return describe_attached(artifact)
    except OcibuildError as error:
        message(f"what is attached to the image cannot be told: {printable(str(error))}")
        return None


def _add_attached(root: Node, found: Description, attached: Sequence[AttachedDescription], style: Style) -> None:
    """Each below what it is attached to; what is attached to a platform's image below the platform's name."""
    if not attached:
        return
    top = root.add("attached")
    nodes, depths = {found.root.digest: top}, {found.root.digest: 0}
    platforms = {image.descriptor.digest: _platform(image) for image in found.images}
    rows: dict[Digest, list[tuple[Node, AttachedDescription]]] = {}
    for item in attached:  # what is about comes first
        about = item.subject
        if about not in nodes or depths[about] > _DEPTH:
            nodes[about], depths[about] = top.add(f"to {platforms.get(about) or style(about, 'cyan')}"), 0
        node = nodes[about].add("")
        rows.setdefault(about, []).append((node, item))
        nodes.setdefault(item.descriptor.digest, node)
        depths.setdefault(item.descriptor.digest, depths[about] + 1)
    for siblings in rows.values():
        kinds = [printable(item.kind) for _, item in siblings]
        width = max((len(kind) for kind in kinds if len(kind) <= _WIDTH), default=0)
        for kind, (node, item) in zip(kinds, siblings, strict=True):
            tag = f"  {style('tag', 'dim')} .{item.tag.rpartition('.')[2]}" if item.tag else ""
            node.text = f"{kind.ljust(width)}  {style(item.descriptor.digest, 'cyan')}{tag}"


def _tree(found: Description, tags: list[str], style: Style) -> Node:
    is_index = found.root.media_type in INDEXES
    names = [_platform(image) for image in found.images]
    if is_index:
        root = Node(f"{style('index', 'bold')} {style(found.root.digest, 'cyan')}")
    else:
        size = human_size(found.images[0].size)
        root = Node(f"{style('image', 'bold')} {names[0]} {style(found.root.digest, 'cyan')}  {size}")
    if tags:
        root.add(f"{style('tags', 'dim')} {printable(', '.join(tags))}")
    if is_index:
        _add_map(root, "annotations", found.annotations)
        width = max((len(name) for name in names), default=0)
        for name, image in zip(names, found.images, strict=True):
            digest = style(image.descriptor.digest, "cyan")
            node = root.add(f"{style(name.ljust(width), 'bold')}  {digest}  {human_size(image.size)}")
            _add_image(node, image, style, found.annotations)
    else:
        _add_image(root, found.images[0], style, {})
    return root


def _platform(image: ImageDescription) -> str:
    return printable(str(image.platform)) if image.platform else "no platform"


def _add_image(node: Node, image: ImageDescription, style: Style, known: dict[str, str]) -> None:
    """One image; labels and annotations that are those of the index are not said again."""
    config = image.config
    annotations = image.manifest.annotations or {}
    if config is None:
        node.add(f"artifact of type {printable(image.manifest.effective_artifact_type)}")
        _add_map(node, "annotations", annotations)
        return
    if annotations == config.labels:
        if annotations and annotations == known:
            node.add("labels and annotations: those of the index")
        else:
            _add_map(node, "labels and annotations", annotations)
    else:
        _add_map(node, "annotations", annotations)
        _add_map(node, "labels", config.labels)
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


def _add_map(node: Node, title: str, values: dict[str, str]) -> None:
    if values:
        below = node.add(title)
        for line in table([[printable(key), printable(value)] for key, value in sorted(values.items())]):
            below.add(line)
