"""What went wrong with a request, in words: what a registry said, or why it could not be reached."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable

import requests
import urllib3.exceptions

from ocibuild.errors import AuthError, RegistryError

from .origin import redacted
from .retry import is_temporary, wanted_wait

__all__ = ["BROKEN", "refused", "unreachable"]

BROKEN = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.TimeoutError,
)
"""What requests and urllib3 raise when no whole answer comes."""

_LENGTH = 300
_NO_TLS = ("VERSION", "PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER", "HANDSHAKE_FAILURE")


def refused(
    method: str, url: str, answer: requests.Response, raw: bytes, *, scrub: Callable[[str], str], hint: str
) -> RegistryError:
    """The error of an answer that is none of those wanted.

    Args:
        method: What was asked,
        url: and where.
        answer: The answer.
        raw: The beginning of its content.
        scrub: Takes secrets out of a text.
        hint: What to do where it wants other credentials.
    """
    status = answer.status_code
    texts = [f"{status} {_printable(scrub(answer.reason or ''))}".strip(), _printable(scrub(_said(raw)))]
    wait = wanted_wait(answer.headers.get("Retry-After"), raw)
    is_passing = is_temporary(status, raw) or (status == 403 and wait > 0)  # noqa: PLR2004
    is_denied = status in (401, 403) and not is_passing
    return (AuthError if is_denied else RegistryError)(
        ": ".join(filter(None, texts)),
        where=f"{method} {redacted(url)}",
        hint=hint if is_denied else "",
        status=status,
        retry_after=wait,
        is_temporary=is_passing,
    )


def unreachable(method: str, url: str, error: Exception) -> RegistryError:
    """The error of a request without a whole answer."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    found, hint, is_passing = "the connection broke", "", True
    if isinstance(error, requests.exceptions.SSLError):
        found, hint, is_passing = _tls_failure(error)
    elif isinstance(error, requests.Timeout):
        found = "no answer in time"
    elif isinstance(reason, urllib3.exceptions.NameResolutionError):
        found = "the name of its host is not known"
    elif isinstance(reason, urllib3.exceptions.NewConnectionError):
        found = "no connection to it"
    found += f" ({type(reason or error).__name__})"
    return RegistryError(found, where=f"{method} {redacted(url)}", hint=hint, is_temporary=is_passing)


def _tls_failure(error: BaseException) -> tuple[str, str, bool]:
    """What is wrong with TLS, what to do, and whether it may pass: a connection can break inside of it too."""
    cause: object = error
    for _ in range(5):
        if isinstance(cause, ssl.SSLError):
            break
        cause = getattr(cause, "reason", None) or next(iter(getattr(cause, "args", ())), None)
    if isinstance(cause, ssl.SSLCertVerificationError):
        said = cause.verify_message.rstrip(".")
        return f"its certificate is not trusted: {said}", "Name the certificates to trust with --ca-file.", False
    reason = getattr(cause, "reason", None) or ""
    if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason:
        return "it wants a client certificate, or another", "Name one with --cert and --key.", False
    if any(word in reason for word in _NO_TLS):
        return "no TLS that we speak", "Say --plain-http where there is none.", False
    return "the TLS connection broke", "", True


def _said(raw: bytes) -> str:
    """The codes and messages of a registry's error document (distribution-spec, "Error Codes"); else its words."""
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
    return "".join(character if character.isprintable() else " " for character in text[:_LENGTH]).strip()
