"""Control files, read as PostgreSQL reads them (`guc-file.l`, `extension.c`)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ocibuild.errors import ControlError

__all__ = ["KEYS", "Control", "parse_control"]

KEYS = frozenset({
    "comment", "default_version", "directory", "encoding", "module_pathname", "no_relocate", "relocatable", "requires",
    "schema", "superuser", "trusted",
})  # fmt: skip
"""The keys PostgreSQL 18 knows; any other one makes it refuse the file."""

SIZE_LIMIT = 1024 * 1024

# The tokens of guc-file.l; bytes above 127 count as letters there. One token is matched at a time, so that no text is
# read twice.
_SPACE = re.compile(r"[ \t\f\v\r]*")
_NAME = re.compile(r"[A-Za-z_\x80-\U0010ffff][\w$.\x80-\U0010ffff]*", re.ASCII)
_QUOTED = re.compile(r"'(?:[^'\\\n]|\\.|'')*'")
_BARE = re.compile(r"[A-Za-z_\x80-\U0010ffff][\w$.:/\x80-\U0010ffff-]*|[+-]?[0-9][0-9A-Za-z_.+-]*", re.ASCII)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)|''", re.DOTALL)
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_EXTENSION_NAME = re.compile(r"(?!-)(?!.*--)[^/\\\0]+(?<!-)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What an extension's control file says.

    Attributes:
        name: The extension's SQL name: the file's name without `.control`.
        values: Every key and its value, the last one where a key is repeated.
    """

    name: str
    values: dict[str, str] = field(default_factory=dict)

    @property
    def default_version(self) -> str | None:
        """The version `CREATE EXTENSION` installs."""
        return self.values.get("default_version")

    @property
    def comment(self) -> str | None:
        """What the extension is, in a line."""
        return self.values.get("comment") or None

    @property
    def requires(self) -> tuple[str, ...]:
        """The extensions that must be installed first."""
        names = self.values.get("requires", "").split(",")
        return tuple(name.strip().strip('"') for name in names if name.strip())

    @property
    def unknown(self) -> tuple[str, ...]:
        """Keys that PostgreSQL 18 does not know."""
        return tuple(sorted(self.values.keys() - KEYS))


def parse_control(raw: bytes, *, name: str, where: object = "") -> Control:
    r"""A control file from its bytes.

    Args:
        raw: The file.
        name: The extension's name, from the file's name.
        where: What to name in an error.

    Raises:
        ControlError: A line PostgreSQL could not read, or a name it would refuse.

    Example:
        >>> parse_control(b"comment = 'it''s'\ndefault_version = '1.0' # now", name="x").values
        {'comment': "it's", 'default_version': '1.0'}
    """
    if not _EXTENSION_NAME.fullmatch(name):
        raise ControlError(f"the extension name {name!r}", wanted="no slash, no --, no - at either end", where=where)
    if len(raw) > SIZE_LIMIT or b"\0" in raw:
        raise ControlError("not a control file: it is binary or too long", where=where)
    values: dict[str, str] = {}
    for number, line in enumerate(raw.decode(errors="replace").split("\n"), 1):
        try:
            values.update(_assignment(line))
        except ValueError:
            raise ControlError(
                f"line {number}: {line.strip()[:80]!r}",
                wanted="key = 'value'",
                where=where,
                hint="PostgreSQL refuses it.",
            ) from None
    return Control(name=name, values=values)


def _assignment(line: str) -> dict[str, str]:
    """The key and value of a line; empty for a blank line or a comment; ValueError for what is neither."""
    at = _skip(line, 0)
    if line[at : at + 1] in ("", "#"):
        return {}
    name = _NAME.match(line, at)
    if name is None:
        raise ValueError(line)
    at = _skip(line, name.end())
    if line[at : at + 1] == "=":
        at = _skip(line, at + 1)
    elif at == name.end() and line[at : at + 1] != "'":
        raise ValueError(line)
    value = _QUOTED.match(line, at) or _BARE.match(line, at)
    if value is None or line[_skip(line, value.end()) :][:1] not in ("", "#"):
        raise ValueError(line)
    return {name[0]: _unquote(value[0]) if value[0].startswith("'") else value[0]}


def _skip(line: str, at: int) -> int:
    space = _SPACE.match(line, at)
    return space.end() if space else at


def _unquote(text: str) -> str:
    return _ESCAPE.sub(_character, text[1:-1])


def _character(match: re.Match[str]) -> str:
    code = match[1]
    if code is None:
        return "'"
    if code[0] in "01234567":
        return chr(int(code, 8) & 0xFF)
    return _ESCAPES.get(code, code)
