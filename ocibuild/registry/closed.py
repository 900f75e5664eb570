"""Inherited methods that must not be called: they would go around what this package checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Never

from ocibuild.errors import UsageError

__all__ = ["closed"]


def closed(why: str, instead: str) -> Callable[..., Never]:
    """A method that refuses.

    Args:
        why: What the inherited method does.
        instead: What to use.

    Example:
        >>> closed("it verifies nothing", "copy")()
        Traceback (most recent call last):
        ocibuild.errors.UsageError: a method of oras that is closed here (it verifies nothing), wanted copy
    """

    def refuse(*_arguments: object, **_keywords: object) -> Never:
        raise UsageError(f"a method of oras that is closed here ({why})", wanted=instead)

    return refuse
