"""Requests to one registry: authorised, retried, redirected only where that is safe. The one module that stands on oras."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import oras.provider
import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from ocibuild.errors import AuthError, NotFoundError, RegistryError

from .auth import Authorizer
from .closed import closed
from .credentials import Credential
from .origin import Origin, check_target, join, redacted
from .retry import Patience, is_temporary, wanted_wait

__all__ = ["Answer", "RegistryClient"]

TIMEOUT = (10, 60)
"""Seconds to connect, and between two bytes."""

PATIENCE = 120.0
"""Seconds for which failures of one request are borne."""

FIRST_PATIENCE = 10.0
"""The same, as long as the registry has never answered: its name may be wrong."""

_REDIRECTS = 5
ANSWER_LIMIT = 8 * 1024 * 1024
_ERROR_LIMIT = 64 * 1024
_BLOCK = 256 * 1024
_REDIRECTED = frozenset({301, 302, 303, 307, 308})
_BROKEN = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.TimeoutError,
)

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
        is_plain = Origin.of_host(host).is_loopback if plain_http is None else plain_http
        scheme = "http" if is_plain else "https"
        super().__init__(host, insecure=scheme == "http", tls_verify=ca_file or True)
        self.origin = Origin.of_host(host, scheme)
        self.base = f"{scheme}://{host}"
        self.patience = patience
        self.requests_sent = 0
        self._has_answered = False
        self._count_lock = threading.Lock()
        # Without an `auth` of its own a session takes what ~/.netrc says, in place of any header.
        self.session.auth = _unchanged
        # Redirects are followed by `_redirected` alone; requests would look at them even so.
        self.session.get_redirect_target = _nowhere
        # Not the session's: it would be shown to every origin.
        self._certificate = client_certificate
        self.session.headers.update({"User-Agent": "ocibuild", "Accept-Encoding": "identity"})
        # What the system trusts counts besides what requests brings along: private registries live by it.
        context = ssl.create_default_context() if scheme == "https" and ca_file is None else None
        adapter = _Adapter(context, connections)
        self.session.mount("https://", adapter)
        self.session.mount("http://", adapter)
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
                answer = self._authorised(method, url, scope, body, length, dict(headers or {}))
                self._has_answered = True
                is_wanted = answer.status_code < 300 or answer.status_code in accept  # noqa: PLR2004
                if is_wanted and stream:
                    return answer
                raw = _consume(answer, must_be_whole=is_wanted)
            except _BROKEN as error:
                if not patience.wait():
                    raise self._unreachable(method, url, error) from None
                continue
            if is_wanted:
                return answer
            refused = self._refused(method, url, answer, raw[:_ERROR_LIMIT])
            if refused.status == 404:  # noqa: PLR2004
                raise NotFoundError(refused.found, where=refused.where)
            if not (is_temporary(answer.status_code, raw[:_ERROR_LIMIT]) and patience.wait(refused.retry_after)):
                raise refused

    def _authorised(
        self, method: str, url: str, scope: str, body: Body, length: int | None, headers: dict[str, str]
    ) -> Answer:
        """One try: with what is known of authorization, and again with what a challenge asks for."""
        header = self.auth.header(scope)
        answer = self._redirected(method, url, header, body, length, headers)
        if answer.status_code != 401 or Origin.of(answer.url) != self.origin:  # noqa: PLR2004
            return answer
        challenge = answer.headers.get("WWW-Authenticate", "")
        fresh = self.auth.answer(challenge, scope, header)
        if fresh is None or fresh == header:
            return answer
        answer.close()
        return self._redirected(method, url, fresh, body, length, headers)

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
            answer: Answer = self.session.request(
                method,
                url,
                data=_Sized(data, length) if callable(body) and length is not None else data,
                headers=headers,
                stream=True,
                timeout=TIMEOUT,
                allow_redirects=False,
                **self.reach(url),
            )
        return answer

    def reach(self, url: str) -> dict[str, Any]:
        """How a URL is reached: what to trust there and, at the registry's own origin only, the client certificate."""
        is_own = Origin.of(url) == self.origin
        return {"verify": self._tls_verify, "cert": self._certificate if is_own else None}

    def _refused(self, method: str, url: str, answer: Answer, raw: bytes) -> RegistryError:
        status = answer.status_code
        wait = wanted_wait(answer.headers.get("Retry-After"), raw)
        said = _printable(self.scrubbed(_said(raw)))
        found = f"{status} {_printable(self.scrubbed(answer.reason or ''))}".strip() + (f": {said}" if said else "")
        where = f"{method} {redacted(url)}"
        if status in (401, 403):
            is_limit = is_temporary(status, raw)
            hint = "Try again later." if is_limit else self._auth_hint(status)
            error = RegistryError if is_limit else AuthError
            return error(found, where=where, hint=hint, status=status, retry_after=wait)
        return RegistryError(found, where=where, status=status, retry_after=wait)

    def _auth_hint(self, status: int) -> str:
        credential = self.auth.credential
        if credential is None:
            return "Log in: ocibuild login."
        if self.origin.host == "ghcr.io" and status == 403:  # noqa: PLR2004
            return "Give the workflow `packages: write`, and the repository the Write role on the package."
        return f"The credentials came from {credential.origin or 'the caller'}."

    def _unreachable(self, method: str, url: str, error: Exception) -> RegistryError:
        reason = getattr(error.args[0], "reason", None) if error.args else None
        kind, hint = "the connection broke", ""
        if isinstance(error, requests.exceptions.SSLError):
            kind = "a certificate that is not trusted" if "CERTIFICATE_VERIFY" in str(error) else "no TLS that we speak"
            hint = "Name the certificates to trust with --ca-file, or say --plain-http where there is no TLS."
        elif isinstance(error, requests.Timeout):
            kind = "no answer in time"
        elif isinstance(reason, urllib3.exceptions.NameResolutionError):
            kind = "the name of its host is not known"
        elif isinstance(reason, urllib3.exceptions.NewConnectionError):
            kind = "no connection to it"
        return RegistryError(f"{kind} ({type(reason or error).__name__})", where=f"{method} {redacted(url)}", hint=hint)

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

    def scrubbed(self, text: str) -> str:
        """A text of the registry's without anything that is a secret."""
        for secret in self.auth.secrets:
            text = text.replace(secret, "***")
        return text


def _consume(answer: Answer, *, must_be_whole: bool) -> bytes:
    """Read an answer's content, as far as a document may be long, and leave it where `content` and `json()` find it."""
    with answer:
        try:
            content: bytes = answer.raw.read(ANSWER_LIMIT + 1, decode_content=False) or b""
        except _BROKEN:
            if must_be_whole:
                raise
            content = b""  # a status that is none of those wanted needs no content
    if len(content) > ANSWER_LIMIT and must_be_whole:
        raise RegistryError(
            f"an answer of more than {ANSWER_LIMIT} bytes", where=redacted(answer.url), status=answer.status_code
        )
    answer._content = content  # noqa: SLF001
    answer._content_consumed = True  # noqa: SLF001
    return content


class _Adapter(HTTPAdapter):
    """A pool that sends files in large blocks, and trusts what a context trusts."""

    def __init__(self, context: ssl.SSLContext | None, connections: int) -> None:
        self._trusted: dict[str, Any] = {} if context is None else {"ssl_context": context}
        super().__init__(pool_connections=4, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **keywords: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, blocksize=_BLOCK, **self._trusted, **keywords)

    def proxy_manager_for(self, proxy: str, **keywords: Any) -> Any:
        return super().proxy_manager_for(proxy, **self._trusted, **keywords)


class _Sized:
    """A stream with a length, so that it is sent as it is and not in chunks."""

    def __init__(self, stream: Any, length: int) -> None:
        self._stream, self._length = stream, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read(_BLOCK):
            yield data

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        return data


def _nowhere(_answer: Answer) -> None:
    return None


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _scope_of(url: str, actions: str) -> str:
    path = url.partition("/v2/")[2]
    for part in ("/blobs/", "/manifests/", "/tags/", "/referrers/"):
        if part in path:
            return f"repository:{path.rpartition(part)[0]}:{actions}"
    return f"repository:{path}:{actions}"


def _said(raw: bytes) -> str:
    """The codes and messages of a registry's error document (distribution-spec, "Error Codes"); else its first words."""
    try:
        errors = json.loads(raw)["errors"]
        texts = [
            f"{item.get('code', '')} {item.get('message', '')}".strip() for item in errors if isinstance(item, dict)
        ]
    except (ValueError, KeyError, TypeError, RecursionError):
        texts = [raw.decode(errors="replace").strip()]
    return "; ".join(text for text in texts if text)


def _printable(text: str) -> str:
    """What a registry says, fit for one line. Cut only once its secrets are out: half of one would not be found."""
    return "".join(character if character.isprintable() else " " for character in text[:300]).strip()
