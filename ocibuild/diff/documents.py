"""Two JSON documents of one kind: every field that differs, by its name."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ocibuild.oci.annotations import CREATED
from ocibuild.oci.canonical import encode

from .difference import Difference

__all__ = ["document_differences", "spelling"]

_KINDS = {("annotations",): "annotation", ("config", "Labels"): "label"}
_TIMES = {"created", "history"}
"""The fields of a configuration that no container sees."""
_DATES = re.compile(r"history\[\d+\]\.created")
_VALUE_LIMIT = 1_000


def document_differences(
    a: dict[str, Any], b: dict[str, Any], *, kind: str, without: tuple[str, ...] = (), semantic: bool = False
) -> list[Difference]:
    """The differences of two documents.

    Args:
        a: The first, decoded.
        b: The second.
        kind: What they are: `index`, `manifest`, `config`.
        without: Fields that are compared elsewhere.
        semantic: Leave out what has no effect on a container.
    """
    left_out = {*without, *(_TIMES if semantic else ())}
    ours, theirs = ({key: value for key, value in item.items() if key not in left_out} for item in (a, b))
    found = list(_differences(ours, theirs, (), kind))
    if semantic:
        found = [item for item in found if item.where != CREATED]
    created = next(((item.a, item.b) for item in found if item.where == "created"), None)
    # The history says the same date once a layer.
    return [item for item in found if not (_DATES.fullmatch(item.where) and (item.a, item.b) == created)]


def spelling(a: bytes, b: bytes, *, kind: str) -> Difference:
    """The difference of two documents that say the same in other bytes."""
    return Difference(
        kind="JSON",
        where=kind,
        a=_manner(a),
        b=_manner(b),
        note="the same content in other bytes: white space, order of keys or escapes",
    )


def _manner(raw: bytes) -> str:
    is_canonical = encode(json.loads(raw)) == raw
    return f"{len(raw):,} bytes" + (", canonical" if is_canonical else ", not canonical (RFC 8785)")


def _differences(a: Any, b: Any, path: tuple[str, ...], kind: str) -> Iterator[Difference]:
    if a == b and type(a) is type(b):
        return
    if isinstance(a, dict | None) and isinstance(b, dict | None) and (a or b):
        ours, theirs = a or {}, b or {}
        for key in sorted(ours.keys() | theirs.keys()):
            yield from _differences(ours.get(key), theirs.get(key), (*path, key), kind)
    elif isinstance(a, list | None) and isinstance(b, list | None) and (a or b):
        yield from _items(a or [], b or [], path, kind)
    else:
        yield _leaf(a, b, path, kind)


def _items(a: list[Any], b: list[Any], path: tuple[str, ...], kind: str) -> Iterator[Difference]:
    """Lists of texts differ by what one alone holds; other lists by number."""
    if not all(isinstance(item, str) for item in [*a, *b]):
        for number in range(max(len(a), len(b))):
            name = f"{path[-1]}[{number}]"
            ours, theirs = (item[number] if number < len(item) else None for item in (a, b))
            yield from _differences(ours, theirs, (*path[:-1], name), kind)
        return
    gone, new = Counter(a) - Counter(b), Counter(b) - Counter(a)
    if not gone and not new:
        yield Difference(kind=kind, where=".".join(path), a=_shown(a), b=_shown(b), note="another order")
    for item in gone.elements():
        yield Difference(kind=kind, where=".".join(path), a=_cut(item))
    for item in new.elements():
        yield Difference(kind=kind, where=".".join(path), b=_cut(item))


def _leaf(a: Any, b: Any, path: tuple[str, ...], kind: str) -> Difference:
    left, right = (None if item is None else _shown(item) for item in (a, b))
    note = "null on one side, absent on the other" if left is right is None else ""
    for lead, name in _KINDS.items():
        if path[: len(lead)] == lead and len(path) == len(lead) + 1:
            return Difference(kind=name, where=path[-1], a=left, b=right, note=note)
    return Difference(kind=kind, where=".".join(path), a=left, b=right, note=note)


def _shown(value: Any) -> str:
    return _cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= _VALUE_LIMIT else text[:_VALUE_LIMIT] + "…"
