"""The links that a Debian package makes when it is installed: `update-alternatives` lines of its postinst.

The script is read, never run: simple assignments and `update-alternatives --install` with plain words and those variables.
"""

from __future__ import annotations

import re
import shlex

__all__ = ["alternatives"]

_ASSIGNMENT = re.compile(r"(?:export\s+|readonly\s+)?([A-Za-z_][A-Za-z0-9_]*)=(\S*|\"[^\"`]*\"|'[^']*')\s*;?")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_LENGTH_LIMIT = 512
_LINES_LIMIT = 10_000


def alternatives(script: str) -> dict[str, str]:
    r"""The links a postinst makes, and what each leads to: of several for one link, that of the highest priority.

    Args:
        script: The maintainer script.

    Returns:
        Absolute paths, links to targets. What cannot be read without running the script is left out.

    Example:
        >>> alternatives('D=/usr/share\nupdate-alternatives --install $D/x.control x ${D}/x-3.control 30')
        {'/usr/share/x.control': '/usr/share/x-3.control'}
    """
    values: dict[str, str] = {}
    found: dict[str, tuple[int, str]] = {}
    for line in script.replace("\\\n", " ").splitlines()[:_LINES_LIMIT]:
        text = line.strip()
        if assignment := _ASSIGNMENT.fullmatch(text):
            value = _expanded(assignment[2].strip("\"'"), values)
            values.pop(assignment[1], None)
            if value is not None and "$(" not in value and "`" not in value:
                values[assignment[1]] = value
        elif "update-alternatives" in text:
            for priority, link, target in _installed(text, values):
                if priority >= found.get(link, (priority, ""))[0]:
                    found[link] = (priority, target)
    return {link: target for link, (_, target) in found.items()}


def _installed(line: str, values: dict[str, str]) -> list[tuple[int, str, str]]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return []
    plain = [_expanded(word, values) for word in words]
    links: list[tuple[int, str, str]] = []
    priority = 0
    for number, word in enumerate(plain):
        if word == "--install" and len(plain) > number + 4:
            link, _, target, level = plain[number + 1 : number + 5]
            priority = int(level) if level and re.fullmatch(r"-?[0-9]{1,9}", level) else 0
        elif word == "--slave" and len(plain) > number + 3:
            link, _, target = plain[number + 1 : number + 4]
        else:
            continue
        if link and target and link.startswith("/") and target.startswith("/"):
            links.append((priority, link, target))
    return links


def _expanded(text: str, values: dict[str, str]) -> str | None:
    """A word with its variables replaced; None when one is not known."""
    names = {match[1] or match[2] for match in _VARIABLE.finditer(text)}
    if not names <= values.keys() or len(text) > _LENGTH_LIMIT:
        return None
    value = _VARIABLE.sub(lambda match: values[match[1] or match[2]], text)
    return value if len(value) <= _LENGTH_LIMIT and "$" not in value else None
