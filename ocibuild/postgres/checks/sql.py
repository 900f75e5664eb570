"""Reading SQL scripts as far as checks need: statements without comments and function bodies, and the C functions in them.

Nothing here looks at a byte twice, whatever the script.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["CFunction", "c_functions", "statements"]

_SPECIAL = re.compile(r"--|/\*|\$(?:[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?\$|'|;")
_WORD = re.compile(r"[\w$/.-]{1,200}")
_PSQL = re.compile(r"^\\[^\n]*$", re.MULTILINE)
_LANGUAGE_C = re.compile(r"\blanguage\s+(?:'c'|\"c\"|c\b)", re.IGNORECASE)
_OBJECT = re.compile(r"\bas\s+e?'((?:[^']|'')*)'(?:\s*,\s*e?'((?:[^']|'')*)')?", re.IGNORECASE)
_FUNCTION = re.compile(
    r"\s*create\s+(?:or\s+replace\s+)?(?:function|procedure)\s+(?:(?:\"[^\"]*\"|[\w@$]+)\s*\.\s*)?(?:\"([^\"]*)\"|([\w$]+))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class CFunction:
    """A function in C that a script makes: the library it names, and the symbol in it."""

    library: str
    symbol: str


def statements(script: str, *, bodies: bool = False) -> Iterator[str]:
    r"""The statements of a script, comments as a space; dollar-quoted bodies too, or as they are.

    A dollar-quoted word is a string like any other.

    Example:
        >>> list(statements("select 'a;b'; -- no; \ncreate table x (); do $$ begin; end $$;"))
        ["select 'a;b'", '   create table x ()', ' do  ']
    """
    text = _PSQL.sub("", script)
    pieces: list[str] = []
    at = 0
    while match := _SPECIAL.search(text, at):
        pieces.append(text[at : match.start()])
        kind, start = match[0], match.end()
        if kind == ";":
            yield "".join(pieces)
            pieces = []
            at = start
            continue
        closing = {"--": "\n", "/*": "*/"}.get(kind, kind)
        end = text.find(closing, start)
        if end < 0:
            at = len(text)
            break
        if kind == "'":
            pieces.append(text[match.start() : end + 1])
        elif kind.startswith("$") and _WORD.fullmatch(text, start, end):
            pieces.append(f"'{text[start:end]}'")  # AS 'MODULE_PATHNAME', $$symbol$$
        else:
            pieces.append(text[start:end] if bodies and kind.startswith("$") else " ")
        at = end + len(closing)
    pieces.append(text[at:])
    if (rest := "".join(pieces)).strip():
        yield rest


def c_functions(script: str) -> Iterator[CFunction]:
    """The functions in C that a script makes.

    Example:
        >>> list(c_functions("CREATE FUNCTION s.f(int) RETURNS int LANGUAGE C AS 'MODULE_PATHNAME';"))
        [CFunction(library='MODULE_PATHNAME', symbol='f')]
    """
    for statement in statements(script):
        function = _FUNCTION.match(statement)
        if function is None or _LANGUAGE_C.search(statement) is None:
            continue
        named = _OBJECT.search(statement, function.end())
        if named is not None:
            symbol = named[2] or function[1] or (function[2] or "").lower()
            yield CFunction(library=named[1].replace("''", "'"), symbol=symbol)
