"""Authorization: Basic, and the bearer token flow with scopes of our own (distribution's auth specification)."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests
import urllib3.exceptions
from oras.auth.base import AuthBackend

from ocibuild.errors import AuthError, RegistryError

from .closed import closed
from .credentials import Credential
from .failure import unreachable
from .origin import Origin, check_target, redacted
from .retry import is_temporary, wanted_wait
from .transport import quiet_urls

__all__ = ["Authorizer", "Challenge", "parse_challenges"]

_ANSWER_LIMIT = 1024 * 1024
_SECONDS = (10, 30)
_MARGIN = 10.0
_LONGEST_LIFE = 3600.0
_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_SCHEME = re.compile(rf"[\s,]*({_NAME})(?:\s+|(?=,)|$)")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*\s*(?=,|$)")
_PARAMETER = re.compile(rf"[\s,]*({_NAME})\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]+))\s*(?=,|$)")
_CLIENT = "ocibuild"


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a `WWW-Authenticate` header asks for."""

    scheme: str
    parameters: dict[str, str]


@dataclass(slots=True)
class _Token:
    value: str = field(repr=False)
    until: float


class Authorizer(AuthBackend):
    """Gives the `Authorization` of requests to one registry, and to no other place.

    A token is kept for each scope, renewed before it ends and when the registry no longer takes it.
    """

    def __init__(
        self,
        registry: Origin,
        credential: Credential | None,
        session: requests.Session,
        reach: Callable[[str], dict[str, Any]],
    ) -> None:
        super().__init__()
        self.session = session
        self.credential = credential
        self._registry, self._reach = registry, reach
        self._challenge: Challenge | None = None
        self._tokens: dict[str, _Token] = {}
        self._denied: dict[str, AuthError] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be seen: credentials and tokens."""
        known = self.credential.secrets if self.credential else ()
        with self._lock:
            return (*known, *(token.value for token in self._tokens.values()))

    def load_configs(self, container: Any, configs: Any = None) -> None:
        """Nothing: inherited calls would read Docker's configuration in their own way."""

    get_auth_header = closed("it knows no scopes", "Authorizer.header")
    request_anonymous_token = closed("it asks whatever realm it is told", "Authorizer.answer")
    set_basic_auth = closed("it keeps a secret where it is shown", "Credential")
    set_token_auth = set_basic_auth

    def header(self, scope: str) -> str | None:
        """The `Authorization` for a scope, as far as it is known without asking."""
        challenge = self._challenge
        if challenge is None:
            return None
        if challenge.scheme == "basic":
            return self.credential.basic if self.credential else None
        token = self._valid(scope)
        return f"Bearer {token.value if token else self._fetch(scope, None)}"

    def answer(self, header: str, scope: str, refused: str | None) -> str | None:
        """The `Authorization` that a challenge asks for; None when there is nothing to give.

        Args:
            header: `WWW-Authenticate`.
            scope: What is to be done, such as `repository:o/x:pull,push`; several with spaces between them.
            refused: The `Authorization` that was refused.

        Raises:
            AuthError: The token service refuses, or the challenge leads where no secret may go.
        """
        challenge = self.learn(header)
        if challenge is None:
            return None
        if challenge.scheme == "bearer":
            return f"Bearer {self._fetch(scope, refused)}"
        basic = self.credential.basic if self.credential else None
        return basic if refused != basic else None

    def learn(self, header: str) -> Challenge | None:
        """Keep what a `WWW-Authenticate` asks for, if it can be answered."""
        challenges = {item.scheme: item for item in parse_challenges(header)}
        if "bearer" in challenges and challenges["bearer"].parameters.get("realm"):
            self._challenge = challenges["bearer"]
            return self._challenge
        if "basic" in challenges and self.credential is not None and self.credential.password:
            self._challenge = challenges["basic"]
            return self._challenge
        return None

    def _valid(self, scope: str) -> _Token | None:
        token = self._tokens.get(scope)
        return token if token is not None and token.until > time.monotonic() else None

    def _fetch(self, scope: str, refused: str | None) -> str:
        with self._lock:
            lock = self._locks.setdefault(scope, threading.Lock())
            before = self._denied.get(scope)
        with lock:  # several threads want the same one: the first asks
            token = self._valid(scope)
            if token is None or f"Bearer {token.value}" == refused:
                denied = self._denied.get(scope)
                if denied is not None and denied is not before:  # it would be asked once more what it just refused
                    raise AuthError(denied.found, where=denied.where, hint=denied.hint, status=denied.status)
                token = self._request(scope)
                with self._lock:
                    self._tokens[scope] = token
            return token.value

    def _request(self, scope: str) -> _Token:
        """Ask the token service."""
        assert self._challenge is not None
        parameters = self._challenge.parameters
        realm = parameters["realm"]
        try:
            check_target(realm, self._registry, what="its token service")
        except RegistryError as error:
            raise AuthError(error.found, wanted=error.wanted, where=error.where) from None
        fields = {"service": parameters["service"]} if parameters.get("service") else {}
        credential = self.credential
        shown = redacted(realm)
        try:
            if credential is not None and credential.identity_token:
                data = {**fields, "grant_type": "refresh_token", "client_id": _CLIENT, "scope": scope}
                data["refresh_token"] = credential.identity_token
                answer = self._send("POST", realm, data=data)
            else:
                headers = {"Authorization": credential.basic} if credential else {}
                answer = self._send("GET", realm, params={**fields, "scope": scope.split()}, headers=headers)
            return self._read(answer, shown, scope)
        except requests.RequestException as error:
            failure = unreachable("GET", realm, error)
        # Not while the other is handled: its text may hold a secret.
        raise AuthError(
            failure.found, wanted="a token", where=shown, hint=failure.hint, is_temporary=failure.is_temporary
        )

    def _send(self, method: str, url: str, **arguments: Any) -> requests.Response:
        with quiet_urls():
            return self.session.request(
                method, url, timeout=_SECONDS, allow_redirects=False, stream=True, **self._reach(url), **arguments
            )

    def _read(self, answer: requests.Response, where: str, scope: str) -> _Token:
        try:
            with answer:
                raw = answer.raw.read(_ANSWER_LIMIT + 1, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            found = f"an answer that breaks off ({type(error).__name__})"
            raise AuthError(found, where=where, is_temporary=True) from None
        wait = wanted_wait(answer.headers.get("Retry-After"), raw)
        if is_temporary(answer.status_code, raw):
            raise AuthError(
                f"{answer.status_code} in place of a token",
                where=where,
                status=answer.status_code,
                retry_after=wait,
                is_temporary=True,
            )
        if answer.status_code in (401, 403):
            who = (
                f"the credentials from {self.credential.origin or 'the caller'}"
                if self.credential
                else "no credentials"
            )
            hint = "Log in again, or give the token the right to it." if self.credential else "Log in: ocibuild login."
            found = f"{who} refused for {scope}"
            self._denied[scope] = AuthError(found, where=where, hint=hint, status=answer.status_code)
            raise self._denied[scope]
        try:
            fields = json.loads(raw) if answer.status_code == 200 and len(raw) <= _ANSWER_LIMIT else {}  # noqa: PLR2004
            value = fields.get("token") or fields.get("access_token")
            life = fields.get("expires_in", 60)
        except (ValueError, AttributeError, RecursionError):
            value, life = None, 60
        if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]+", value):
            raise AuthError(f"an answer without a token ({answer.status_code})", where=where, status=answer.status_code)
        seconds = min(life, _LONGEST_LIFE) if isinstance(life, int | float) and life > 0 else 60.0
        return _Token(value, time.monotonic() + max(1.0, seconds - _MARGIN))


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges of a `WWW-Authenticate` header (RFC 9110); what is none is passed over.

    Example:
        >>> parse_challenges('Bearer realm="https://ghcr.io/token",service="ghcr.io"')
        [Challenge(scheme='bearer', parameters={'realm': 'https://ghcr.io/token', 'service': 'ghcr.io'})]
    """
    found: list[Challenge] = []
    at = 0
    header = header[:8192]
    while at < len(header) and (scheme := _SCHEME.match(header, at)):
        at = scheme.end()
        if token68 := _TOKEN68.match(header, at):
            at = token68.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, at):
            value = parameter[3] if parameter[2] is None else re.sub(r"\\(.)", r"\1", parameter[2])
            parameters.setdefault(parameter[1].lower(), value)
            at = parameter.end()
        found.append(Challenge(scheme[1].lower(), parameters))
    return found
