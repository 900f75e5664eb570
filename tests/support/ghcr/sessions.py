"""Upload sessions: the proxy's own, each with the real registry's behind it."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field
from urllib.parse import urlsplit

__all__ = ["Session", "Sessions"]


@dataclass(slots=True)
class Session:
    """One upload.

    Attributes:
        behind: The real registry's location; it changes with every byte taken.
        offset: The bytes that the real registry has.
        mark: What the newest location has in its query.
        state: `open`, `done` or `gone`.
    """

    id: str
    repository: str
    behind: str
    offset: int = 0
    mark: str = ""
    state: str = "open"
    locations: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def location(self, base: str) -> str:
        """A new location, sometimes absolute, sometimes not. Bodies are taken at the newest only."""
        self.mark = secrets.token_hex(8)
        self.locations += 1
        path = f"/v2/{self.repository}/blobs/uploads/{self.id}?part={self.locations}&_state={self.mark}%3D"
        return path if (self.locations + int(self.id[0], 16)) % 2 else base + path

    @property
    def range(self) -> str:
        """The bytes taken, as registries write it: `0-0` for none."""
        return f"0-{max(0, self.offset - 1)}"

    def moved(self, location: str) -> None:
        """Take the real registry's new location."""
        parts = urlsplit(location)
        self.behind = f"{parts.path}?{parts.query}"


class Sessions:
    """The sessions of a site."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def begin(self, repository: str, location: str) -> Session:
        """A session for one that the real registry has begun."""
        session = Session(secrets.token_hex(8), repository, "")
        session.moved(location)
        self._sessions[session.id] = session
        return session

    def find(self, repository: str, name: str) -> Session | None:
        """A session of a repository."""
        session = self._sessions.get(name)
        return session if session is not None and session.repository == repository else None
