"""Tokens: who may do what, and for how long (distribution's auth specification, as GHCR has it)."""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Access", "Token", "Tokens", "parse_scopes"]

Access = dict[str, frozenset[str]]
"""The actions that are wanted or granted, by repository."""


@dataclass(slots=True)
class Token:
    """One token: it ends after a time, or after a number of uses; `used` counts them."""

    number: int
    value: str = field(repr=False)
    access: Access
    until: float
    uses: int | None
    user: str
    used: int = 0

    def allows(self, wanted: Access) -> bool:
        """Whether it is good for all of what is wanted."""
        return all(actions <= self.access.get(name, frozenset()) for name, actions in wanted.items())


class Tokens:
    """The token service's memory.

    Attributes:
        user, secret: The one account.
        issued: Every token ever given.
        public: Repositories that anyone may read.
        read_only: Repositories that the account may not write to.
    """

    def __init__(self, *, life: float, uses: int | None) -> None:
        self.user, self.secret = "octo-cat", "ghs_" + secrets.token_hex(18)
        self.issued: list[Token] = []
        self.public: set[str] = set()
        self.read_only: set[str] = set()
        self._life, self._uses = life, uses
        self._lock = threading.Lock()

    @property
    def values(self) -> list[str]:
        """Every secret: the account's, also as Basic shows it, and all tokens."""
        basic = base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()
        return [self.secret, basic, *(token.value for token in list(self.issued))]

    def check_basic(self, header: str) -> str | None:
        """The account of a Basic `Authorization`: empty without one, None when it is wrong."""
        if not header:
            return ""
        scheme, _, value = header.partition(" ")
        try:
            user, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            return None
        # GHCR looks at the token only; the name may be any.
        return user if scheme.lower() == "basic" and secrets.compare_digest(secret, self.secret) else None

    def issue(self, user: str, wanted: Access) -> Token:
        """A token for what of the wanted is allowed."""
        access = {name: actions & self._allowed(user, name) for name, actions in wanted.items()}
        with self._lock:
            token = Token(
                number=len(self.issued) + 1,
                value="tok_" + secrets.token_urlsafe(30),
                access=access,
                until=time.monotonic() + self._life,
                uses=self._uses,
                user=user,
            )
            self.issued.append(token)
        return token

    def find(self, header: str) -> Token | None:
        """The token of a Bearer `Authorization`, good or not."""
        scheme, _, value = header.partition(" ")
        if scheme.lower() != "bearer":
            return None
        return next((token for token in list(self.issued) if token.value == value), None)

    def use(self, token: Token) -> bool:
        """Use a token once; False when it has ended."""
        with self._lock:
            if time.monotonic() >= token.until or token.used == token.uses:
                return False
            token.used += 1
            return True

    def end(self, token: Token) -> None:
        """End a token before its time."""
        token.until = 0.0

    def _allowed(self, user: str, repository: str) -> frozenset[str]:
        if user:
            return frozenset({"pull"} if repository in self.read_only else {"pull", "push"})
        return frozenset({"pull"} if repository in self.public else ())


def parse_scopes(values: Iterable[str]) -> Access:
    """What `scope` parameters ask for; several may stand in one, with spaces between.

    Example:
        >>> parse_scopes(["repository:o/x:pull repository:o/y:pull"])
        {'o/x': frozenset({'pull'}), 'o/y': frozenset({'pull'})}
    """
    found: Access = {}
    for scope in " ".join(values).split():
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        if kind == "repository" and name:
            found[name] = found.get(name, frozenset()) | frozenset(actions.split(","))
    return found
