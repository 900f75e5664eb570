"""Saying once what holds for many platforms, or for a label and an annotation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from .difference import Difference

__all__ = ["fold", "joined"]

_NAMED = 20
_SAID = ("annotation", "label")


def fold(found: list[Difference], count: int) -> list[Difference]:
    """The same said once: of platforms that differ in the same way, and of labels that are annotations too.

    Args:
        found: The differences.
        count: How many images there are on both sides: those that do not differ say nothing.
    """
    images = [_labels_once(item) for item in found if item.kind == "image"]
    rest = [item for item in found if item.kind != "image"]
    said = [{_said(item): item for item in image.below if item.kind in _SAID} for image in images]
    everywhere = set.intersection(*map(set, said)) if images and len(images) == count else set()
    folded = set()
    for number, item in enumerate(rest):
        if item.kind == "annotation" and _said(item) in everywhere:
            folded.add(_said(item))
            is_label = all(side[_said(item)].kind == "label" for side in said)
            note = "and annotation, in the index and every image" if is_label else "in the index and every image"
            rest[number] = replace(item, kind="label" if is_label else "annotation", note=note)
    groups: dict[tuple[str, tuple[Difference, ...]], list[str]] = {}
    for image in images:
        below = tuple(item for item in image.below if item.kind not in _SAID or _said(item) not in folded)
        if below:
            groups.setdefault((image.note, below), []).append(image.where)
    return rest + [
        Difference(kind="image", where=joined(names), note=note, below=below) for (note, below), names in groups.items()
    ]


def joined(names: Iterable[str]) -> str:
    """The names in one line, and how many more there are."""
    first = [*islice(names := iter(names), _NAMED)]
    left = sum(1 for _ in names)
    return ", ".join(first) + f" and {left:,} more" * bool(left)


def _labels_once(image: Difference) -> Difference:
    """A label that is an annotation of the manifest too is said once."""
    labels, notes = ({_said(item) for item in image.below if item.kind == kind} for kind in ("label", "annotation"))
    both = labels & notes
    below = (
        replace(item, note="and annotation") if item.kind == "label" and _said(item) in both else item
        for item in image.below
        if item.kind != "annotation" or _said(item) not in both
    )
    return replace(image, below=tuple(below))


def _said(item: Difference) -> tuple[str, str | None, str | None]:
    return item.where, item.a, item.b
