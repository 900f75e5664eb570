"""Comparing two images of one platform: manifest, configuration, then layers or files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from ocibuild.oci import Descriptor, Manifest
from ocibuild.store import Artifact
from ocibuild.store.graph import read_document

from .difference import Difference
from .documents import document_differences, is_same, spelling
from .layers import Side, layer_differences, verify_claims
from .trees import tree_differences

__all__ = ["image_differences", "left_out"]


def left_out(*names: str, semantic: bool) -> tuple[str, ...]:
    """The fields of a document that are not compared."""
    return (*names, "mediaType", "schemaVersion") if semantic else names


def image_differences(a: Artifact, b: Artifact, semantic: bool) -> tuple[list[Difference], int | None]:
    """What differs of two images, and how many of their files are the same where that was looked into."""
    documents = [read_document(item.source, item.root) for item in (a, b)]
    one, other = documents
    if not isinstance(one, Manifest) or not isinstance(other, Manifest):
        # An index in an index, or what is neither: there is no more to it than its digest.
        return [Difference(kind="blob", where=a.root.media_type, a=a.digest, b=b.digest)], None
    ours, theirs = Side.read(a, one), Side.read(b, other)
    found = _documents(ours, theirs, semantic)
    count = None
    if ours.config is None or theirs.config is None:
        found += _blobs(one.layers, other.layers)
    elif not semantic:
        found += layer_differences(ours, theirs)
    elif ours.config.rootfs == theirs.config.rootfs:
        verify_claims(ours, theirs)
    else:
        below, count = tree_differences(ours, theirs)
        found += below
    if not semantic:
        found += _spellings(ours, theirs, whole=not found)
    # What a history says follows from the layers.
    return sorted(
        found, key=lambda item: item.kind == "config" and (not item.where or item.where.startswith("history"))
    ), count


def _spellings(a: Side, b: Side, *, whole: bool) -> Iterator[Difference]:
    """Documents that say the same in other bytes; where nothing else was found, all that they say otherwise."""
    pairs = [("manifest", a.raw, b.raw)]
    if a.raw_config is not None and b.raw_config is not None:
        pairs.append(("config", a.raw_config, b.raw_config))
    for kind, raw, other in pairs:
        if raw == other:
            continue
        ours, theirs = json.loads(raw), json.loads(other)
        if is_same(ours, theirs):
            yield spelling(raw, other, kind=kind)
        elif whole:
            yield from document_differences(ours, theirs, kind=kind)


def _documents(a: Side, b: Side, semantic: bool) -> list[Difference]:
    is_image = a.config is not None and b.config is not None
    identity = ("digest", "size", *(("mediaType",) if is_image else ()))
    ours, theirs = (_without(json.loads(item.raw), identity) for item in (a, b))
    count = min(len(item["layers"]) for item in (ours, theirs))
    for item in (ours, theirs):
        del item["layers"][count:]
    found = document_differences(ours, theirs, kind="manifest", without=left_out(semantic=semantic), semantic=semantic)
    if a.raw_config is None or b.raw_config is None:
        if a.manifest.config.digest != b.manifest.config.digest:
            found.append(
                Difference(kind="config", where="digest", a=a.manifest.config.digest, b=b.manifest.config.digest)
            )
    elif a.raw_config != b.raw_config:
        one, other = json.loads(a.raw_config), json.loads(b.raw_config)
        for item in (one, other):
            item["rootfs"].pop("diff_ids", None)
        found += document_differences(one, other, kind="config", semantic=semantic)
    return found


def _without(manifest: dict[str, Any], identity: tuple[str, ...]) -> dict[str, Any]:
    """A manifest whose descriptors say no more than what is compared nowhere else."""
    config, *layers = (
        {key: value for key, value in item.items() if key not in identity}
        for item in (manifest["config"], *manifest["layers"])
    )
    return {**manifest, "config": config, "layers": layers}


def _blobs(a: Sequence[Descriptor], b: Sequence[Descriptor]) -> Iterator[Difference]:
    """The blobs of what is no image, by their digests."""
    for number, pair in enumerate(zip_longest(a, b)):
        one, other = (None if item is None else item.digest for item in pair)
        if one != other:
            yield Difference(kind="blob", where=f"layer {number + 1}", a=one, b=other)
