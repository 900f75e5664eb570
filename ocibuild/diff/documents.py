"""Two JSON documents of one kind: every field that differs, by its name."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from ocibuild.errors import UsageError
from ocibuild.oci.annotations import CREATED
from ocibuild.oci.canonical import encode

from .difference import Difference

__all__ = ["document_differences", "is_same", "spelling"]

_KINDS = {("annotations",): "annotation", ("config", "Labels"): "label"}
_TIMES = {"created", "history"}
"""The fields of a configuration that no container sees."""
_DATES = re.compile(r"history\[\d+\]\.created")
_VALUE_LIMIT = 1_000
_LEAD = 40
_SHOWN = 200
_ABSENT: Final = object()


def document_differences(
    a: dict[str, Any], b: dict[str, Any], *, kind: str, without: Iterable[str] = (), semantic: bool = False
) -> list[Difference]:
    """The differences of two documents, a few hundred at most.

    Args:
        a: The first, decoded.
        b: The second.
        kind: What they are: `index`, `manifest`, `config`.
        without: Fields that are compared elsewhere.
        semantic: Leave out what has no effect on a container.
    """
    left_out = {*without, *(_TIMES if semantic else ())}
    ours, theirs = ({key: value for key, value in item.items() if key not in left_out} for item in (a, b))
    if semantic:
        ours, theirs = _without_nulls(ours), _without_nulls(theirs)
    # The history says the same date once a layer.
    created = a.get("created"), b.get("created")
    found: list[Difference] = []
    hidden = 0
    for item in _differences(ours, theirs, (), kind):
        if semantic and item.kind in _KINDS.values() and item.where == CREATED:
            continue
        if item.kind == kind and _DATES.fullmatch(item.where) and (item.a, item.b) == created:
            continue
        hidden += len(found) >= _SHOWN
        if len(found) < _SHOWN:
            found.append(item)
    if hidden:
        found.append(Difference(kind=kind, note=f"and {hidden:,} more"))
    return found


def _without_nulls(value: Any) -> Any:
    """The same without fields that are null: readers take them for absent."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def is_same(a: Any, b: Any) -> bool:
    """Whether two JSON values say the same: `1` is not `true`, and null is not absent."""
    return next(_differences(a, b, (), ""), None) is None


def spelling(a: bytes, b: bytes, *, kind: str) -> Difference:
    """The difference of two documents that say the same in other bytes."""
    note = "the same content in other bytes: white space, order of keys or escapes"
    return Difference(kind="JSON", where=kind, a=_manner(a), b=_manner(b), note=note)


def _manner(raw: bytes) -> str:
    try:
        is_canonical = encode(json.loads(raw)) == raw
    except UsageError:
        is_canonical = False
    return f"{len(raw):,} bytes" + (", canonical" if is_canonical else ", not canonical (RFC 8785)")


def _differences(a: Any, b: Any, path: tuple[str, ...], kind: str) -> Iterator[Difference]:
    # What a whole object or list adds is told by what it holds.
    if b and isinstance(b, dict | list) and (a is None or a is _ABSENT):
        a = type(b)()
    if a and isinstance(a, dict | list) and (b is None or b is _ABSENT):
        b = type(a)()
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            yield from _differences(a.get(key, _ABSENT), b.get(key, _ABSENT), (*path, key), kind)
    elif isinstance(a, list) and isinstance(b, list):
        yield from _items(a, b, path, kind)
    elif type(a) is not type(b) or a != b:
        yield _leaf(a, b, path, kind)


def _items(a: list[Any], b: list[Any], path: tuple[str, ...], kind: str) -> Iterator[Difference]:
    """Lists of texts differ by what one alone holds; other lists by number."""
    where = ".".join(path)
    if not all(isinstance(item, str) for item in [*a, *b]):
        for number in range(max(len(a), len(b))):
            ours, theirs = (item[number] if number < len(item) else _ABSENT for item in (a, b))
            yield from _differences(ours, theirs, (*path[:-1], f"{path[-1]}[{number}]"), kind)
        return
    gone, new = Counter(a) - Counter(b), Counter(b) - Counter(a)
    if not gone and not new and a != b:
        yield Difference(kind=kind, where=where, a=_cut(json.dumps(a)), b=_cut(json.dumps(b)), note="another order")
    for item in gone.elements():
        yield Difference(kind=kind, where=where, a=_cut(item))
    for item in new.elements():
        yield Difference(kind=kind, where=where, b=_cut(item))


def _leaf(a: Any, b: Any, path: tuple[str, ...], kind: str) -> Difference:
    texts = [item if isinstance(item, str) else json.dumps(item) for item in (a, b) if item is not _ABSENT]
    if len(texts) == 1:
        left, right = (None if item is _ABSENT else _cut(texts[0]) for item in (a, b))
    elif texts[0] == texts[1]:
        # A text and what is no text.
        left, right = (_cut(json.dumps(item)) for item in (a, b))
    else:
        same = next((at for at, (one, other) in enumerate(zip(*texts, strict=False)) if one != other), 0)
        lead = same - _LEAD if max(map(len, texts)) > _VALUE_LIMIT and same > _VALUE_LIMIT // 2 else 0
        left, right = ("…" * bool(lead) + _cut(text[lead:]) for text in texts)
    name = next((name for place, name in _KINDS.items() if path[:-1] == place), "")
    return Difference(kind=name or kind, where=path[-1] if name else ".".join(path), a=left, b=right)


def _cut(text: str) -> str:
    return text if len(text) <= _VALUE_LIMIT else text[:_VALUE_LIMIT] + "…"
