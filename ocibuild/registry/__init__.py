"""Registries as stores: authorisation, transfers, referrers. Every name is loaded when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocibuild.lazy import loader

if TYPE_CHECKING:
    from .client import RegistryClient
    from .credentials import Credential, find_credential
    from .early import Early
    from .store import RegistryStore

__all__ = ["Credential", "Early", "RegistryClient", "RegistryStore", "find_credential"]

_HOMES = {
    "client": ("RegistryClient",),
    "credentials": ("Credential", "find_credential"),
    "early": ("Early",),
    "store": ("RegistryStore",),
}

__getattr__ = loader(__name__, globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
