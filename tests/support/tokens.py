"""A token service on loopback, whose tokens docker-registry takes (distribution's "Token Authentication Specification").

It grants what an account may do and no more, and remembers who asked for what.
"""

from __future__ import annotations

import base64
import json
import math
import secrets
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.certificates import Certificates, self_signed

__all__ = ["Account", "Asked", "TokenService", "token_service"]

_LEEWAY = 60
"""Seconds for which docker-registry takes a token that has ended."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who may ask for tokens.

    Attributes:
        name: The user.
        rights: Actions, such as `pull,push`, by a pattern of repositories; the first that matches counts.
        password: For Basic.
        identity_token: For the OAuth2 grant `refresh_token`.
    """

    name: str
    rights: Mapping[str, str]
    password: str = ""
    identity_token: str = ""

    def allows(self, repository: str) -> set[str]:
        """What may be done with a repository."""
        found = (actions for pattern, actions in self.rights.items() if fnmatchcase(repository, pattern))
        return set(filter(None, next(found, "").split(",")))


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a token, and what became of it.

    Attributes:
        method: GET or POST.
        scopes: The scopes asked for, each by itself.
        authorization: The header as it came; empty for none.
        grant: The OAuth2 grant of a POST.
        account: Whose credential it was; empty for anonymous, None for nobody's.
        status: The answer's.
        granted: The scopes of the token, without those that have no action left.
    """

    method: str
    scopes: tuple[str, ...]
    authorization: str
    grant: str
    account: str | None
    status: int
    granted: tuple[str, ...] = ()


@dataclass(slots=True)
class TokenService:
    """A running service. What it does may be changed while it runs.

    Attributes:
        realm: Its URL.
        bundle: The file with the certificate that docker-registry trusts.
        accounts: Who is known.
        anonymous: The rights of everybody, by a pattern of repositories.
        life: Seconds for which docker-registry takes a token, to the next whole second.
        told_life: The `expires_in` of an answer.
        is_strict: Whether to refuse a request when not all of it is allowed, in place of granting less.
        failures: How many of the next requests end in a 503.
        asked: What came so far.
        issued: The tokens given out, for tests that look for them where they must not be.
        ends: The time at which the registry takes none of them any more.
    """

    realm: str
    bundle: Path
    key: ec.EllipticCurvePrivateKey
    chain: list[str]
    accounts: tuple[Account, ...]
    anonymous: Mapping[str, str]
    life: float = 300
    told_life: int | None = 300
    is_strict: bool = False
    failures: int = 0
    asked: list[Asked] = field(default_factory=list)
    issued: list[str] = field(default_factory=list)
    ends: float = 0.0
    issuer: str = "tokens of a test"
    service: str = "registry of a test"
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def scopes(self) -> list[str]:
        """The scopes asked for, a text for each request."""
        return [" ".join(item.scopes) for item in self.asked]

    def wait_out(self) -> None:
        """Return once the registry takes no token that was given out so far."""
        time.sleep(max(0.0, self.ends - time.time()) + 0.05)

    def answer(self, method: str, fields: Mapping[str, list[str]], authorization: str) -> tuple[int, dict[str, Any]]:
        """The answer to a request: its status and document."""
        scopes = tuple(item for text in fields.get("scope", []) for item in text.split())
        grant = fields.get("grant_type", [""])[0]
        account, said = self._account(method, fields, authorization)
        granted: list[dict[str, Any]] = []
        status = 401
        if fields.get("service") != [self.service]:
            status, said = 400, f"no service {fields.get('service')}"
        elif self.failures > 0:
            self.failures, status = self.failures - 1, 503
        elif account is not None:
            granted, is_whole = _granted(account, scopes)
            status = 403 if self.is_strict and not is_whole else 200
        names = tuple(f"{item['type']}:{item['name']}:{','.join(item['actions'])}" for item in granted)
        done = Asked(method, scopes, authorization, grant, account.name if account else None, status, names)
        with self._lock:
            self.asked.append(done)
            if status != 200 or account is None:
                # Some services repeat what they were given: a client must not.
                return status, {"errors": [{"code": "DENIED", "message": f"refused: {said}"}], "details": said}
            token = self._signed(account.name, granted)
            self.issued.append(token)
        answer: dict[str, Any] = {"access_token" if method == "POST" else "token": token}
        return 200, answer if self.told_life is None else {**answer, "expires_in": self.told_life}

    def _account(self, method: str, fields: Mapping[str, list[str]], authorization: str) -> tuple[Account | None, str]:
        """Whose request it is, and the credential that came with it."""
        if method == "POST":
            token = fields.get("refresh_token", [""])[0]
            is_grant = fields.get("grant_type") == ["refresh_token"] and bool(fields.get("client_id"))
            known = (item for item in self.accounts if item.identity_token and item.identity_token == token)
            return (next(known, None) if is_grant else None), token
        if not authorization:
            return Account("", self.anonymous), "nobody"
        scheme, _, encoded = authorization.partition(" ")
        if scheme != "Basic":
            return None, authorization
        name, _, password = base64.b64decode(encoded).decode().partition(":")
        known = (item for item in self.accounts if item.password and (item.name, item.password) == (name, password))
        return next(known, None), f"{name} with {password}"

    def _signed(self, subject: str, access: list[dict[str, Any]]) -> str:
        """A JSON web token (RFC 7519), ES256, with its certificate in `x5c`."""
        now = time.time()
        until = math.ceil(now + self.life)
        self.ends = max(self.ends, until)
        claims = {
            "iss": self.issuer,
            "aud": self.service,
            "sub": subject,
            "exp": until - _LEEWAY,
            "nbf": int(now) - _LEEWAY,
            "iat": int(now),
            "jti": secrets.token_hex(8),
            "access": access,
        }
        parts = [{"typ": "JWT", "alg": "ES256", "x5c": self.chain}, claims]
        text = ".".join(_encoded(json.dumps(part).encode()) for part in parts)
        r, s = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


@contextmanager
def token_service(
    folder: Path,
    *accounts: Account,
    anonymous: Mapping[str, str] | None = None,
    tls: Certificates | None = None,
) -> Iterator[TokenService]:
    """A running token service.

    Args:
        folder: For its certificate.
        accounts: Who is known.
        anonymous: The rights of those who show no credential; by default none.
        tls: Speak https, with this certificate.
    """
    certificate, key = self_signed("Tokens of a test")
    bundle = folder / "tokens.pem"
    bundle.write_bytes(certificate.public_bytes(Encoding.PEM))
    server = _Server(("127.0.0.1", 0), _Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.server, tls.server_key)
        # The handshake belongs to the request's own thread: one client that hangs must not stop the others.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    realm = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}/token"
    chain = [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()]
    server.service = TokenService(realm, bundle, key, chain, accounts, anonymous or {})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="tokens")
    thread.start()
    try:
        yield server.service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    service: TokenService
    daemon_threads = False  # so that closing waits for them

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that does not like our certificate, or goes away, is no failure of the service.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = 10

    def do_GET(self) -> None:
        self._answer(urlsplit(self.path).query)

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode())

    def _answer(self, text: str) -> None:
        assert isinstance(self.server, _Server)
        status, document = 404, dict[str, Any]()
        if urlsplit(self.path).path == "/token":
            fields = parse_qs(text, keep_blank_values=True)
            status, document = self.server.service.answer(self.command, fields, self.headers.get("Authorization", ""))
        raw = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        """Nothing: `asked` tells."""


def _granted(account: Account, scopes: tuple[str, ...]) -> tuple[list[dict[str, Any]], bool]:
    """The `access` of a token, and whether it is all that was asked for."""
    access, is_whole = [], True
    for scope in scopes:
        kind, _, rest = scope.partition(":")
        name, _, text = rest.rpartition(":")
        wanted = set(text.split(","))
        actions = wanted & account.allows(name) if kind == "repository" else set()
        is_whole = is_whole and actions == wanted
        if actions:
            access.append({"type": kind, "name": name, "actions": sorted(actions)})
    return access, is_whole


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
