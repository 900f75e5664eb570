"""GHCR, played by a proxy in front of a real registry: what it does that others do not, and faults on demand.

with registry(folder) as upstream, ghcr(upstream, faults=Plan(Fault("reset_upload", at=5_000_000))) as site:
    client = RegistryClient(site.address, credential=Credential(username=site.user, password=site.secret))
    ...
    assert not site.record.leaks(site.secrets)
"""

from .faults import KINDS, Fault, Kind, Plan
from .record import Record, Request
from .site import NAMES, Site, ghcr
from .uploads import CHUNK_LIMIT

__all__ = ["CHUNK_LIMIT", "KINDS", "NAMES", "Fault", "Kind", "Plan", "Record", "Request", "Site", "ghcr"]
