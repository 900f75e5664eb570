"""Requests to one registry: authorised, retried, redirected only where that is safe. The one module that stands on oras."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import oras.provider
import requests

from ocibuild.errors import NotFoundError, RegistryError

from .auth import Authorizer
from .closed import closed
from .credentials import Credential
from .failure import BROKEN, refused, unreachable
from .origin import Origin, check_target, join, redacted
from .retry import Patience
from .transport import Sized, check_certificates, consume, equip, quiet_urls

__all__ = ["Answer", "RegistryClient"]

TIMEOUT = (10, 60)
"""Seconds to connect, and between two bytes."""

_COMMIT_TIMEOUT = (10, 300)
"""The same, where a registry may hash a whole blob before it answers."""

PATIENCE = 120.0
"""Seconds for which failures of one request are borne."""

FIRST_PATIENCE = 10.0
"""The same, as long as the registry has never answered: its name may be wrong."""

_PLACES = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
"""Registries that are not where their name says."""

_REDIRECTS = 5
_PAGES = 1000
_ERROR_LIMIT = 64 * 1024
_REDIRECTED = frozenset({301, 302, 303, 307, 308})

Body = Callable[[], IO[bytes]] | bytes | None
Answer = requests.Response


class RegistryClient(oras.provider.Registry):
    """A connection pool to one registry. Every request, inherited ones too, goes through `send`."""

    def __init__(
        self,
        host: str,
        *,
        credential: Credential | None = None,
        plain_http: bool | None = None,
        ca_file: str | None = None,
        client_certificate: tuple[str, str] | None = None,
        patience: float = PATIENCE,
        connections: int = 8,
    ) -> None:
        place = _PLACES.get(host, host)
        if plain_http is None:  # who names certificates means TLS
            plain_http = Origin.of_host(place).is_loopback and not (ca_file or client_certificate)
        scheme = "http" if plain_http else "https"
        super().__init__(host, insecure=scheme == "http", tls_verify=ca_file or True)
        self.origin = Origin.of_host(place, scheme)
        self.base = f"{scheme}://{place}"
        self.patience = patience
        self.requests_sent = 0
        self._has_answered = False
        self._count_lock = threading.Lock()
        # Not the session's: it would be shown to every origin.
        self._certificate = client_certificate
        check_certificates(ca_file, client_certificate)
        equip(self.session, self.base, ca_file=ca_file, connections=connections)
        self.auth = Authorizer(self.origin, credential, self.session, self.reach)

    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        stream: bool = False,
    ) -> Answer:
        """What inherited methods call."""
        if json is not None:
            raise RegistryError("a request that writes JSON of its own", wanted="bytes", where=redacted(url))
        kept = {key: value for key, value in (headers or {}).items() if key.lower() != "authorization"}
        scope = _scope_of(url, "pull" if method in ("GET", "HEAD") else "pull,push")
        accept = (404,) if method == "HEAD" else ()
        return self.send(method, url, scope=scope, body=data, headers=kept, stream=stream, accept=accept)

    delete_tag = closed("it deletes the manifest, with every tag that names it", "the registry's own interface")
    delete_tags = delete_tag
    download_blob = closed("it writes a file without verifying it", "RegistryStore.fetch")
    get_manifest = closed("it hands on what is not verified", "RegistryStore.resolve and fetch")
    login = closed("it writes the password where everyone may read it", "store_credential")
    logout = login
    pull = closed("it verifies nothing, and unpacks whatever comes", "copy and unpack")
    push = closed("it writes manifests of its own", "copy")
    set_header = closed("it would be sent to every origin", "credentials")
    upload_manifest = closed("it writes the manifest anew, with another digest", "RegistryStore.push")

    def send(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        body: Body = None,
        length: int | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        accept: tuple[int, ...] = (),
        retry: bool = True,
    ) -> Answer:
        """Send a request and give the answer, once it is one of those wanted.

        Args:
            method: The HTTP method.
            url: Absolute; the registry's own, or where it sent us.
            scope: What the request needs, such as `repository:o/x:pull`.
            body: The content, or what opens it anew for every try.
            length: The content's size, where it is opened.
            headers: More headers.
            stream: Leave the answer's content unread.
            accept: Statuses that are answers besides 2xx, such as 404.
            retry: Try again after what may pass.

        Raises:
            AuthError: The registry wants other credentials.
            NotFoundError: 404, unless accepted.
            RegistryError: It refuses, or does not answer in time.
        """
        patience = self.new_patience() if retry else Patience(0.0)
        while True:
            try:
                answer = self._tried(method, url, scope, body, length, dict(headers or {}), stream, accept)
            except RegistryError as error:
                if not (error.is_temporary and patience.wait(error.retry_after)):
                    raise
            else:
                return answer

    def _tried(
        self,
        method: str,
        url: str,
        scope: str,
        body: Body,
        length: int | None,
        headers: dict[str, str],
        stream: bool,
        accept: tuple[int, ...],
    ) -> Answer:
        """One try: an answer that is wanted, or the error that it is."""
        try:
            answer = self._authorised(method, url, scope, body, length, headers)
            self._has_answered = True
            is_wanted = answer.status_code < 300 or answer.status_code in accept  # noqa: PLR2004
            if is_wanted and stream:
                return answer
            raw = consume(answer, must_be_whole=is_wanted)[:_ERROR_LIMIT]
            if is_wanted:
                return answer
            if answer.status_code == 403 and method == "HEAD":  # noqa: PLR2004
                # Only a body tells a rate limit from a refusal.
                answer = self._authorised("GET", url, scope, body, length, headers)
                with answer:
                    raw = consume(answer, must_be_whole=False)[:_ERROR_LIMIT] if not answer.ok else b""
        except BROKEN as error:
            failure = unreachable(method, url, error)
        else:
            is_own = Origin.of(answer.url) == self.origin  # elsewhere no credential was shown
            hint = self._auth_hint(answer.status_code) if is_own else ""
            failure = refused(method, url, answer, raw, scrub=self.scrubbed, hint=hint)
            failure.is_temporary = failure.is_temporary or answer.ok
        if failure.status == 404:  # noqa: PLR2004
            raise NotFoundError(failure.found, where=failure.where)
        # Not while the other is handled: its text may hold a signature, and would stay in the context of this one.
        raise failure

    def _authorised(
        self, method: str, url: str, scope: str, body: Body, length: int | None, headers: dict[str, str]
    ) -> Answer:
        """One try: with what is known of authorization, and again with what a challenge asks for."""
        header = self.auth.header(scope)
        answer = self._redirected(method, url, header, body, length, headers)
        # Twice: what another thread was given may have ended meanwhile.
        for _ in range(2):
            if answer.status_code != 401 or Origin.of(answer.url) != self.origin:  # noqa: PLR2004
                break
            consume(answer, must_be_whole=False)
            fresh = self.auth.answer(answer.headers.get("WWW-Authenticate", ""), scope, header)
            if fresh is None or fresh == header:
                break
            header = fresh
            answer = self._redirected(method, url, header, body, length, headers)
        return answer

    def _redirected(
        self,
        method: str,
        url: str,
        authorization: str | None,
        body: Body,
        length: int | None,
        headers: dict[str, str],
    ) -> Answer:
        """One request and the redirects it leads to. A secret stays with the registry's own origin."""
        for _ in range(_REDIRECTS):
            target = check_target(url, self.origin, what="it sends us to")
            sent = dict(headers)
            if authorization is not None and target == self.origin:
                sent["Authorization"] = authorization
            answer = self._once(method, url, body, length, sent)
            link = answer.headers.get("Location", "")
            if answer.status_code not in _REDIRECTED or not link:
                return answer
            answer.close()
            following = join(url, link)
            if method not in ("GET", "HEAD") and Origin.of(following) != self.origin:
                raise RegistryError(
                    f"a redirect of {method} to {redacted(following)}", wanted="its own origin", where=self.base
                )
            url = following
        raise RegistryError(f"more than {_REDIRECTS} redirects", where=redacted(url))

    def _once(self, method: str, url: str, body: Body, length: int | None, headers: dict[str, str]) -> Answer:
        with self._count_lock:
            self.requests_sent += 1
        with contextlib.ExitStack() as stack:
            data = stack.enter_context(body()) if callable(body) else body
            if length is not None:
                headers["Content-Length"] = str(length)
            stack.enter_context(quiet_urls())
            answer: Answer = self.session.request(
                method,
                url,
                data=Sized(data, length) if callable(body) and length is not None else data,
                headers=headers,
                stream=True,
                timeout=_COMMIT_TIMEOUT if method in ("PUT", "PATCH") else TIMEOUT,
                allow_redirects=False,
                **self.reach(url),
            )
        return answer

    def reach(self, url: str) -> dict[str, Any]:
        """How a URL is reached: what to trust there and, at the registry's own origin only, the client certificate."""
        is_own = Origin.of(url) == self.origin
        return {"verify": self._tls_verify, "cert": self._certificate if is_own else None}

    def _auth_hint(self, status: int) -> str:
        credential = self.auth.credential
        if credential is None:
            return "Log in: ocibuild login."
        if self.origin.host == "ghcr.io" and status == 403:  # noqa: PLR2004
            return "Give the workflow `packages: write`, and the repository the Write role on the package."
        return f"The credentials came from {credential.origin or 'the caller'}."

    def new_patience(self) -> Patience:
        """How long failures are borne now; less as long as the registry has never answered."""
        return Patience(self.patience if self._has_answered else min(self.patience, FIRST_PATIENCE))

    def ping(self) -> None:
        """Ask whether the registry takes the credential.

        Raises:
            AuthError: It does not.
        """
        self.send("GET", f"{self.base}/v2/", scope="")

    def own(self, url: str) -> str:
        """A URL, once it is known to be the registry's own: a list goes on nowhere else.

        Raises:
            RegistryError: It is another's.
        """
        if Origin.of(url) != self.origin:
            raise RegistryError(f"a list that goes on at {redacted(url)}", wanted="its own origin", where=self.base)
        return url

    def pages(self, url: str, ask: Callable[[str], Answer], *, of: str, limit: int) -> Iterator[Answer]:
        """The answers of a list that goes on with `Link` (RFC 8288): at its own origin, and not for ever.

        Raises:
            RegistryError: It goes on elsewhere or in circles, or is longer than the limit.
        """
        seen: set[str] = set()
        while url and url not in seen:
            if len(seen) == limit:
                raise RegistryError(f"more than {limit} pages of {of}", where=redacted(url))
            seen.add(url)
            answer = ask(url)
            yield answer
            link = answer.links.get("next", {}).get("url")
            following = self.own(join(url, link)) if link else ""
            if following in seen and following != url:
                raise RegistryError(f"pages of {of} that go in circles", where=redacted(url))
            url = following

    def _do_paginated_request(self, url: str, callable: Callable[[Answer], bool]) -> None:  # noqa: A002 - oras's name
        """What inherited methods page with."""
        for answer in self.pages(url, self.do_request, of="a list", limit=_PAGES):
            if not callable(answer):
                return

    def scrubbed(self, text: str) -> str:
        """A text of the registry's without anything that is a secret."""
        for secret in self.auth.secrets:
            text = text.replace(secret, "***")
        return text


def _scope_of(url: str, actions: str) -> str:
    path = url.partition("/v2/")[2]
    for part in ("/blobs/", "/manifests/", "/tags/", "/referrers/"):
        if part in path:
            return f"repository:{path.rpartition(part)[0]}:{actions}"
    return f"repository:{path}:{actions}"
