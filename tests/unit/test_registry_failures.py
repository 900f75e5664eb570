"""Why a registry could not be reached: what may pass, and what to do about the rest."""

from __future__ import annotations

import ssl

import pytest
import requests
import urllib3.exceptions

from ocibuild.registry.failure import unreachable

URL = "https://registry.example/v2/?sig=s3cret"


def tls(reason: str, kind: type[ssl.SSLError] = ssl.SSLError) -> ssl.SSLError:
    error = kind(1, f"[SSL: {reason}] (_ssl.c:1)")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("cause", "is_temporary", "said"),
    [
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol (_ssl.c:1)"), True, "broke"),
        (ssl.SSLZeroReturnError(6, "TLS/SSL connection has been closed (EOF)"), True, "broke"),
        (tls("DECRYPTION_FAILED_OR_BAD_RECORD_MAC"), True, "broke"),
        (tls("UNEXPECTED_EOF_WHILE_READING", ssl.SSLEOFError), True, "broke"),
        (tls("WRONG_VERSION_NUMBER"), False, "--plain-http"),
        (tls("HTTP_REQUEST"), False, "--plain-http"),
        (tls("RECORD_LAYER_FAILURE"), False, "--plain-http"),
        (tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), False, "--cert"),
        (tls("TLSV1_ALERT_UNKNOWN_CA"), False, "--cert"),
    ],
)
@pytest.mark.parametrize("is_nested", [False, True], ids=["under a body", "while connecting"])
def test_what_broken_tls_is(cause: ssl.SSLError, is_temporary: bool, said: str, is_nested: bool) -> None:
    inner: Exception = urllib3.exceptions.SSLError(cause)
    if is_nested:
        inner = urllib3.exceptions.MaxRetryError(None, "/v2/?sig=s3cret", inner)  # type: ignore[arg-type]
    failure = unreachable("PUT", URL, requests.exceptions.SSLError(inner))
    assert failure.is_temporary is is_temporary
    assert said in str(failure)
    assert "s3cret" not in str(failure)


@pytest.mark.parametrize(
    "error", [requests.ConnectionError("x"), requests.Timeout("x"), urllib3.exceptions.ProtocolError("x")]
)
def test_a_break_may_pass(error: Exception) -> None:
    failure = unreachable("GET", URL, error)
    assert failure.is_temporary
    assert "s3cret" not in str(failure)
