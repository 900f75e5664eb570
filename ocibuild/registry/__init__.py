"""Registries as stores: authorisation, transfers, referrers. Imported only by what reaches a registry."""

from .client import RegistryClient
from .credentials import Credential, find_credential
from .store import RegistryStore

__all__ = ["Credential", "RegistryClient", "RegistryStore", "find_credential"]
