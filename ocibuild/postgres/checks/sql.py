"""Reading SQL scripts as far as checks need: statements with their strings apart, and the C functions among them.

Nothing here looks at a byte twice, whatever the script.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

__all__ = ["CFunction", "Statement", "c_functions", "statements"]

_SPECIAL = re.compile(r"--|/\*|(?<![\w$])\$(?:[^\x00-@\[-^`{-\x7f][^\x00-/:-@\[-^`{-\x7f]*)?\$|'|\"|;")
_NESTED = re.compile(r"/\*|\*/")
_ESCAPED = re.compile(r"[^'\\]*(?:\\.[^'\\]*|''[^'\\]*)*", re.DOTALL)
_LANGUAGE = re.compile(r"\blanguage\s+(?:(\w+)|\"([^\"]*)\"|'(\d+)')", re.IGNORECASE)
_OBJECT = re.compile(r"\bas\s+e?'(\d+)'(?:\s*,\s*e?'(\d+)')?", re.IGNORECASE)
_FUNCTION = re.compile(
    r"\s*create\s+(?:or\s+replace\s+)?(?:function|procedure)\s+"
    r"(?:(?:\"[^\"]*\"|@[^@\s]*@|[\w$]+)\s*\.\s*)?(?:\"([^\"]*)\"|([\w$]+))",
    re.IGNORECASE,
)


class Statement(msgspec.Struct, frozen=True):
    """A statement.

    Attributes:
        code: Its text, comments as a space and each string as its number in quotes.
        strings: The strings, and dollar-quoted bodies, by that number.
    """

    code: str
    strings: tuple[str, ...]

    @property
    def function(self) -> str | None:
        """The name of the function that it makes; None when it makes none."""
        match = _FUNCTION.match(self.code)
        return (match[1] or (match[2] or "").lower()) if match else None

    @property
    def language(self) -> str:
        """The language of that function, as PostgreSQL looks it up."""
        match = _LANGUAGE.search(self.code)
        if match is None:
            return ""
        return (match[1] or "").lower() or match[2] or (self.strings[int(match[3])] if match[3] else "")


class CFunction(msgspec.Struct, frozen=True):
    """A function in C that a script makes: the library it names, and the symbol in it."""

    library: str
    symbol: str


def statements(script: str) -> Iterator[Statement]:
    r"""The statements of a script; lines that start with `\echo` are none, as PostgreSQL has it.

    Example:
        >>> [item.code for item in statements("select 'a;b' /* no */; do $$ begin; end $$;")]
        ["select '0'  ", " do '0'"]
    """
    text = re.sub(r"^\\echo[^\n]*$", "", script, flags=re.MULTILINE)
    pieces: list[str] = []
    strings: list[str] = []
    at = 0
    while match := _SPECIAL.search(text, at):
        pieces.append(text[at : match.start()])
        kind, start = match[0], match.end()
        if kind == ";":
            yield Statement("".join(pieces), tuple(strings))
            pieces, strings, at = [], [], start
        elif kind == "--":
            end = text.find("\n", start)
            pieces.append(" ")
            at = len(text) if end < 0 else end
        elif kind == "/*":
            pieces.append(" ")
            at = _comment_end(text, start)
        elif kind == '"':
            end = text.find('"', start)
            at = len(text) if end < 0 else end + 1
            pieces.append(text[match.start() : at])
        else:
            end, at = _string_end(text, kind, match.start(), start)
            pieces.append(f"'{len(strings)}'")
            strings.append(text[start:end])
    pieces.append(text[at:])
    if (rest := "".join(pieces)).strip():
        yield Statement(rest, tuple(strings))


def _comment_end(text: str, at: int) -> int:
    """Where a comment ends; comments nest."""
    depth = 1
    while depth and (match := _NESTED.search(text, at)):
        depth += 1 if match[0] == "/*" else -1
        at = match.end()
    return at if depth == 0 else len(text)


def _string_end(text: str, kind: str, before: int, start: int) -> tuple[int, int]:
    """Where a string's content ends, and where what follows it begins."""
    if kind != "'":
        end = text.find(kind, start)
        return (len(text), len(text)) if end < 0 else (end, end + len(kind))
    if text[before - 1 : before] in ("e", "E") and not re.match(r"[\w$]", text[before - 2 : before - 1]):
        match = _ESCAPED.match(text, start)
        end = match.end() if match else len(text)
        return end, min(end + 1, len(text))
    end = text.find("'", start)
    while end >= 0 and text[end + 1 : end + 2] == "'":
        end = text.find("'", end + 2)
    return (len(text), len(text)) if end < 0 else (end, end + 1)


def c_functions(script: str) -> Iterator[CFunction]:
    """The functions in C that a script makes.

    Example:
        >>> list(c_functions("CREATE FUNCTION s.f(int) RETURNS int LANGUAGE C AS 'MODULE_PATHNAME';"))
        [CFunction(library='MODULE_PATHNAME', symbol='f')]
    """
    for statement in statements(script):
        name = statement.function
        if name is None or statement.language != "c":
            continue
        named = _OBJECT.search(statement.code)
        if named is not None:
            symbol = statement.strings[int(named[2])] if named[2] else "-"
            library = statement.strings[int(named[1])].replace("''", "'")
            yield CFunction(library=library, symbol=name if symbol == "-" else symbol)
