"""Control files, read as PostgreSQL reads them (`guc-file.l`, `extension.c`)."""

from __future__ import annotations

import re

import msgspec

from ocibuild.errors import ControlError

__all__ = ["KEYS", "Control", "parse_control"]

KEYS = frozenset({
    "comment", "default_version", "directory", "encoding", "module_pathname", "no_relocate", "relocatable", "requires",
    "schema", "superuser", "trusted",
})  # fmt: skip
"""The keys PostgreSQL 18 knows; any other one makes it refuse the file."""

BOOLEANS = ("relocatable", "superuser", "trusted")

SIZE_LIMIT = 64 * 1024

# The tokens of guc-file.l; bytes above 127 count as letters there. Flex takes the longest token, so of a value's kinds the
# longest counts, and what follows it must be the end of the line. One token is matched at a time: no text is read twice.
# Said by what they are not: a class that reaches to the last code point takes 10 ms to compile.
_LETTER = r"[^\x00-@\[-^`{-\x7f]"
_LETTER_OR_DIGIT = r"[^\x00-/:-@\[-^`{-\x7f]"
_ID = rf"{_LETTER}{_LETTER_OR_DIGIT}*"
_SPACE = re.compile(r"[ \t\r]*")
_NAME = re.compile(rf"{_ID}(?:\.{_ID})?")
_QUALIFIED = re.compile(rf"{_ID}\.{_ID}")
_VALUES = (
    re.compile(r"'(?:[^'\\\n]|\\.|'')*'"),
    re.compile(rf"{_LETTER}[^\x00-,;-@\[-^`{{-\x7f]*"),
    re.compile(r"[+-]?(?:0x[0-9a-fA-F]+|[0-9]+)[a-zA-Z]*"),
    re.compile(r"[+-]?[0-9]*\.[0-9]*(?:[Ee][+-]?[0-9]+)?"),
)
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)|''", re.DOTALL)
_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_EXTENSION_NAME = re.compile(r"(?!-)(?!.*--)[^/\\\0]+(?<!-)")


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """What an extension's control file says.

    Attributes:
        name: The extension's SQL name: the file's name without `.control`.
        path: Where the file is in the image.
        values: Every key and its value, the last one where a key is repeated.
    """

    name: str
    path: str = ""
    values: dict[str, str] = msgspec.field(default_factory=dict)

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
        names = [name.strip() for name in self.values.get("requires", "").split(",")]
        return tuple(name[1:-1] if name.startswith('"') else name.lower() for name in names if name)

    @property
    def not_boolean(self) -> tuple[str, ...]:
        """Keys whose value PostgreSQL does not take for true or false (`parse_bool`)."""
        return tuple(
            sorted(key for key in BOOLEANS if key in self.values and not _is_boolean(self.values[key].lower()))
        )

    @property
    def unknown(self) -> tuple[str, ...]:
        """Keys that PostgreSQL 18 does not know."""
        return tuple(sorted(self.values.keys() - KEYS))


def parse_control(raw: bytes, *, name: str, path: str = "", where: object = "") -> Control:
    r"""A control file from its bytes.

    Args:
        raw: The file.
        name: The extension's name, from the file's name.
        path: Where the file is in the image.
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
    return Control(name=name, path=path, values=values)


def _is_boolean(text: str) -> bool:
    """Any beginning of true, false, yes or no, of on and off one that tells them apart; 1 or 0."""
    words = ("true", "false", "yes", "no")
    return text in ("1", "0", "on", "of", "off") or (text != "" and any(word.startswith(text) for word in words))


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
    value = max((match[0] for kind in _VALUES if (match := kind.match(line, at))), key=len, default="")
    end = line[_skip(line, at + len(value)) :][:1]
    # A name of two parts is a token of its own, and no value.
    if value in ("", "+", "-") or end not in ("", "#") or _QUALIFIED.fullmatch(value):
        raise ValueError(line)
    return {name[0]: _unquote(value) if value.startswith("'") else value}


def _skip(line: str, at: int) -> int:
    space = _SPACE.match(line, at)
    return space.end() if space else at


def _unquote(text: str) -> str:
    # Octal escapes are bytes, which may be a character together.
    return _ESCAPE.sub(_character, text[1:-1].encode()).decode(errors="replace")


def _character(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if code is None:
        return b"'"
    if code[:1].isdigit() and code[0] < ord("8"):
        return bytes([int(code, 8) & 0xFF])
    return _ESCAPES.get(code, code)
