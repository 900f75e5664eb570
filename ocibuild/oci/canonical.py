"""JSON documents: written canonically (RFC 8785), read strictly.

A document that two parsers could read differently is refused: a key twice in one object, both `layers` and `manifests`
(CVE-2021-41190), a number that is no JSON number, text that is no UTF-8, nesting or size beyond any honest use.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeVar

import msgspec
import rfc8785

from ocibuild.errors import DocumentError, OcibuildError, UsageError

from .digest import Digest

__all__ = ["DOCUMENT_LIMIT", "decode", "encode"]

DOCUMENT_LIMIT = 4 * 1024 * 1024
"""The largest document read, in bytes: what registries must accept as a manifest (distribution-spec)."""

_DEPTH_LIMIT = 64

T = TypeVar("T")


def encode(value: Any) -> bytes:
    r"""The canonical bytes of a struct or of plain JSON values: sorted keys, no spaces, minimal escapes.

    Raises:
        UsageError: Text that is not UTF-8, or a number that JSON cannot hold.

    Example:
        >>> encode({"b": 1, "a": "é"})
        b'{"a":"\xc3\xa9","b":1}'
    """
    plain = msgspec.to_builtins(value, enc_hook=str)
    try:
        return rfc8785.dumps(plain)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise UsageError(f"a value that JSON cannot hold: {error}", wanted="UTF-8 text and whole numbers") from error


def decode(raw: bytes, type_: type[T], *, where: object = "") -> T:
    """A document of the given type from the bytes it arrived in.

    Args:
        raw: The bytes; at most `DOCUMENT_LIMIT`.
        type_: The struct to read.
        where: What to name in an error.

    Raises:
        DocumentError: The bytes are not such a document.
    """
    if len(raw) > DOCUMENT_LIMIT:
        raise DocumentError(f"a document of {len(raw)} bytes", wanted=f"at most {DOCUMENT_LIMIT}", where=where)
    try:
        plain = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        _check_depth(plain)
        if isinstance(plain, dict) and "manifests" in plain and not plain.keys().isdisjoint(("layers", "config")):
            raise DocumentError("a manifest's fields and an index's in one document: layers or config, and manifests")
        return msgspec.json.decode(raw, type=type_, dec_hook=_hook)
    except OcibuildError as error:
        raise DocumentError(error.found, wanted=error.wanted, where=where, hint=error.hint) from None
    except RecursionError:
        raise DocumentError("JSON nested too deeply", where=where) from None
    except (ValueError, msgspec.MsgspecError) as error:
        raise DocumentError(f"not a valid {type_.__name__.lstrip('_')}: {error}", where=where) from None


def _hook(type_: type, value: Any) -> Any:
    if type_ is Digest and isinstance(value, str):
        return Digest(value)
    raise DocumentError(f"{value!r}", wanted=f"a {type_.__name__.lower()}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise DocumentError(f"the key {key[:80]!r} twice in one object")
        members[key] = value
    return members


def _no_constant(text: str) -> NoReturn:
    raise DocumentError(f"{text}, which is no JSON number")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_DEPTH_LIMIT):
        if not level:
            return
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                deeper.extend(item.values())
            elif isinstance(item, list):
                deeper.extend(item)
        level = deeper
    raise DocumentError(f"JSON nested deeper than {_DEPTH_LIMIT} levels")
