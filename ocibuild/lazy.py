"""Packages whose names are loaded when they are first used (PEP 562), so that importing one costs next to nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

__all__ = ["loader"]


def loader(package: str, names: dict[str, object], homes: Mapping[str, tuple[str, ...]]) -> Callable[[str], object]:
    """A module's `__getattr__` that loads public names from where they live.

    Args:
        package: The module's `__name__`.
        names: Its `globals()`, where a loaded name is kept.
        homes: For each submodule the public names that live in it. No submodule has the name of one of them.

    Example:
        >>> names = {}
        >>> loader("ocibuild", names, {"errors": ("UsageError",)})("UsageError").exit_code
        2
    """

    def load(name: str) -> object:
        for home, public in homes.items():
            if name in public:
                names[name] = getattr(import_module(f".{home}", package), name)
                return names[name]
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load
