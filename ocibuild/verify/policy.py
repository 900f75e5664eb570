"""Policies: what an image must be besides signed, in TOML (docs/reference/verification.md)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from ocibuild.errors import UsageError
from ocibuild.oci import Digest
from ocibuild.postgres.policies import DISTROS
from ocibuild.sign.keys import PublicKey, load_public_key

from .predicates import split_repository

__all__ = ["ChecksRule", "Policy", "ProvenanceRule", "parse_policy", "read_policy"]

SIZE_LIMIT = 1024 * 1024
_KEYS_LIMIT = 64
_SIZE = re.compile(r"([0-9]{1,12}) ?(B|kB|MB|GB|KiB|MiB|GiB)")
_UNITS = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a policy: what is not known in it is refused, for it might have been meant to forbid."""


class SignatureRule(_Table, frozen=True, kw_only=True):
    """Whose signatures are wanted; paths of keys are relative to the policy's file."""

    keys: tuple[Text, ...] = ()
    threshold: Annotated[int, msgspec.Meta(ge=1, le=_KEYS_LIMIT)] = 1


class SbomRule(_Table, frozen=True, kw_only=True):
    """Whether a signed SBOM is wanted."""

    required: bool


class ProvenanceRule(_Table, frozen=True, kw_only=True):
    """A signed provenance, perhaps of one source repository and by one builder."""

    required: bool
    source: Text | None = None
    builder: Text | None = None


class BaseRule(_Table, frozen=True, kw_only=True):
    """The bases allowed: `none`, a name, or `name@digest`."""

    allowed: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)]


class SizeRule(_Table, frozen=True, kw_only=True):
    """The largest image of a platform, compressed."""

    max: Text


class ChecksRule(_Table, frozen=True, kw_only=True):
    """The worst finding of `ocibuild check` that is taken."""

    max_severity: Literal["none", "info", "warning"]
    distro: str | None = None
    pg: Annotated[int, msgspec.Meta(ge=1, le=99)] | None = None


_TABLES: dict[str, type[_Table]] = {
    "signature": SignatureRule,
    "sbom": SbomRule,
    "provenance": ProvenanceRule,
    "base": BaseRule,
    "size": SizeRule,
    "checks": ChecksRule,
}


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    r"""What an image must be; a rule that is None is not asked for.

    Attributes:
        keys: Whose signatures count; where there are none, those `verify` is given.
        threshold: How many different ones of them must have signed.
        sbom: A signed CycloneDX SBOM is wanted.
        provenance: What a signed provenance must say.
        base: The bases allowed.
        max_size: Bytes of a platform's image, compressed.
        checks: The findings taken.

    Example:
        >>> parse_policy(b'[size]\nmax = "50 MiB"').max_size
        52428800
    """

    keys: tuple[PublicKey, ...] = ()
    threshold: int | None = None
    sbom: bool = False
    provenance: ProvenanceRule | None = None
    base: tuple[str, ...] | None = None
    max_size: int | None = None
    checks: ChecksRule | None = None


def read_policy(path: Path) -> Policy:
    """The policy in a file, its keys loaded.

    Raises:
        UsageError: It cannot be read, asks for nothing, or has what policies do not have.
        OcibuildError: A key cannot be read, as `load_public_key`.
    """
    try:
        with open(path, "rb") as stream:
            raw = stream.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", wanted="a policy in TOML", where=path) from error
    return parse_policy(raw, where=path, load_key=lambda name: load_public_key(path.parent / name))


def parse_policy(
    raw: bytes, *, where: object = "policy", load_key: Callable[[str], PublicKey] = load_public_key
) -> Policy:
    """A policy from its bytes.

    Args:
        raw: The TOML.
        where: What to name in an error.
        load_key: Gives the key of a path.

    Raises:
        UsageError: It is none, asks for nothing, or has what policies do not have.
        OcibuildError: As `load_key`.
    """
    tables = {name: _table(name, value, where) for name, value in _load(raw, where).items()}
    if not tables:
        raise UsageError("a policy that asks for nothing", wanted=f"one of: {', '.join(_TABLES)}", where=where)
    rules: dict[str, Any] = {}
    for table in tables.values():
        if isinstance(table, SignatureRule):
            rules |= {"keys": _keys(table, load_key, where), "threshold": table.threshold}
        elif isinstance(table, SbomRule):
            rules["sbom"] = _required(table, where)
        elif isinstance(table, ProvenanceRule):
            _required(table, where)
            rules["provenance"] = _provenance(table, where)
        elif isinstance(table, BaseRule):
            rules["base"] = _bases(table, where)
        elif isinstance(table, SizeRule):
            rules["max_size"] = _size(table, where)
        elif isinstance(table, ChecksRule):
            rules["checks"] = _checks(table, where)
    return Policy(**rules)


def _load(raw: bytes, where: object) -> dict[str, Any]:
    import tomllib

    if len(raw) > SIZE_LIMIT:
        raise UsageError(f"more than {SIZE_LIMIT} bytes", wanted="a policy", where=where)
    try:
        return tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"cannot be read: {error}"[:300], wanted="a policy in TOML", where=where) from None


def _table(name: str, value: Any, where: object) -> _Table:
    _refuse_unknown(name, list(_TABLES), where)
    if not isinstance(value, dict):
        raise UsageError(f"{name} = {value!r}"[:200], wanted=f"a table, [{name}]", where=where)
    known = [f"{name}.{item}" for item in _TABLES[name].__struct_fields__]
    for key in value:
        _refuse_unknown(f"{name}.{key}", known, where)
    try:
        return msgspec.convert(value, _TABLES[name])
    except msgspec.ValidationError as error:
        raise UsageError(f"[{name}]: {error}", where=where) from None


def _refuse_unknown(name: str, known: Sequence[str], where: object) -> None:
    """What is not known might have been meant to forbid something."""
    if name in known:
        return
    import difflib

    near = difflib.get_close_matches(name[:100], known, n=1)
    raise UsageError(
        f"the unknown {'key' if '.' in known[0] else 'table'} {name[:100]!r}",
        wanted=f"one of: {', '.join(known)}",
        where=where,
        hint=f"Did you mean {near[0]!r}?" if near else "",
    )


def _keys(table: SignatureRule, load_key: Callable[[str], PublicKey], where: object) -> tuple[PublicKey, ...]:
    if len(table.keys) > _KEYS_LIMIT:
        raise UsageError(f"{len(table.keys)} keys", wanted=f"at most {_KEYS_LIMIT}", where=where)
    keys = tuple({key.fingerprint: key for key in map(load_key, table.keys)}.values())
    if keys and table.threshold > len(keys):
        found = f"a threshold of {table.threshold} with {len(keys)} different keys"
        raise UsageError(found, wanted="as many keys at least", where=where)
    return keys


def _required(table: SbomRule | ProvenanceRule, where: object) -> bool:
    if not table.required:
        raise UsageError("required = false", wanted="true, or no such table", where=where)
    return True


def _provenance(table: ProvenanceRule, where: object) -> ProvenanceRule:
    """The rule with its source in the form in which repositories are compared."""
    if table.source is None:
        return table
    source, ref = split_repository(table.source)
    if ref or not source:
        found = f"provenance.source = {table.source!r}"
        raise UsageError(found, wanted="a repository without a revision, which is not compared", where=where)
    return msgspec.structs.replace(table, source=source)


def _bases(table: BaseRule, where: object) -> tuple[str, ...]:
    for item in table.allowed:
        name, at, digest = item.partition("@")
        if not name or (at and not Digest.is_valid(digest)):
            raise UsageError(f"the base {item!r}", wanted="none, NAME, or NAME@sha256:<64 hex>", where=where)
    return table.allowed


def _size(table: SizeRule, where: object) -> int:
    match = _SIZE.fullmatch(table.max)
    if match is None:
        raise UsageError(f"size.max = {table.max!r}", wanted="such as '50 MiB' or '50 MB'", where=where)
    return int(match[1]) * _UNITS[match[2]]


def _checks(table: ChecksRule, where: object) -> ChecksRule:
    if table.distro is not None and table.distro not in DISTROS:
        raise UsageError(f"the distro {table.distro!r}", wanted=f"one of: {', '.join(DISTROS)}", where=where)
    return table
