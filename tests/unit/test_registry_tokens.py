"""What a registry and its token service want and give: challenges, tokens, refusals."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pytest

from ocibuild.errors import AuthError
from ocibuild.registry import Credential
from ocibuild.registry.auth import Challenge, parse_challenges
from tests.support.wire import CREDENTIAL, PASSWORD, REGISTRY, WiredClient, answer

PULL = "repository:o/x:pull"


# Challenges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Basic", [("basic", {})]),
        ('BASIC realm="Nexus"', [("basic", {"realm": "Nexus"})]),
        ("Basic realm=x", [("basic", {"realm": "x"})]),
        ('Bearer realm="https://a/t",service="s"', [("bearer", {"realm": "https://a/t", "service": "s"})]),
        ('Bearer  realm = "a" ,\tservice="s"', [("bearer", {"realm": "a", "service": "s"})]),
        (r'Basic realm="a \"b\" \\ c"', [("basic", {"realm": 'a "b" \\ c'})]),
        ('Basic realm="a, Bearer realm=b"', [("basic", {"realm": "a, Bearer realm=b"})]),
        ('Basic realm="a", realm="b"', [("basic", {"realm": "a"})]),
        ('Basic REALM="a"', [("basic", {"realm": "a"})]),
        ('Bearer realm="a", Basic realm="b"', [("bearer", {"realm": "a"}), ("basic", {"realm": "b"})]),
        ('Basic realm="b" , Bearer realm="a",x=y', [("basic", {"realm": "b"}), ("bearer", {"realm": "a", "x": "y"})]),
        ('Bearer realm=""', [("bearer", {"realm": ""})]),
        ('Bearer realm="a', [("bearer", {})]),
        ("=====", []),
        ('"', []),
        # What servers with Kerberos say, in one header or, joined, in two.
        (
            'Negotiate, Basic realm="x"',
            [("negotiate", {}), ("basic", {"realm": "x"})],
        ),
        (
            'Negotiate abc==, Bearer realm="x"',
            [("negotiate", {}), ("bearer", {"realm": "x"})],
        ),
        (
            'Negotiate TlRM, Bearer realm="x"',
            [("negotiate", {}), ("bearer", {"realm": "x"})],
        ),
        (
            'SCRAM-SHA-256 realm="y", Bearer realm="x"',
            [("scram-sha-256", {"realm": "y"}), ("bearer", {"realm": "x"})],
        ),
        (
            'Bearer realm="x",,service="y"',
            [("bearer", {"realm": "x", "service": "y"})],
        ),
        (
            'Bearer realm="x",error-uri="z",service="y"',
            [("bearer", {"realm": "x", "error-uri": "z", "service": "y"})],
        ),
    ],
)
def test_challenges(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges(header) == [Challenge(scheme, parameters) for scheme, parameters in expected]


def test_two_challenge_headers_are_both_read() -> None:
    headers = (b'WWW-Authenticate: Basic realm="x"', b'WWW-Authenticate: Bearer realm="https://token.example/t"')
    refused = answer(b"", *headers, status=b"401 Unauthorized")
    client = WiredClient(refused, answer(b'{"token":"t-1"}'), answer(), credential=CREDENTIAL)
    client.ping()
    assert [visit.host for visit in client.visits] == [REGISTRY, "token.example", REGISTRY]
    assert b"\r\nAuthorization: Bearer t-1\r\n" in client.visits[2].said


# Token services


def token(*answers: bytes, credential: Credential | None = CREDENTIAL) -> str | None:
    """The `Authorization` that comes of a token service's answer."""
    header = 'Bearer realm="https://token.example/t",service="s"'
    found: str | None = WiredClient(*answers, credential=credential).auth.answer(header, PULL, None)
    return found


LIVES: list[object] = [
    0,
    -1,
    1,
    10**15,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    True,
    None,
    "300",
    [],
    {},
]


@pytest.mark.parametrize(
    "fields",
    [
        {"token": "t"},
        {"access_token": "t"},
        {"token": "t", "access_token": "other"},
        {"token": "", "access_token": "t"},
        {"token": None, "access_token": "t"},
        *({"token": "t", "expires_in": life} for life in LIVES),
    ],
)
def test_a_token(fields: dict[str, object]) -> None:
    assert token(answer(json.dumps(fields).encode())) == "Bearer t"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"t",
        b"[]",
        b"null",
        b'"t"',
        b"{}",
        b'{"token":1}',
        b'{"token":["t"]}',
        b'{"token":"a b"}',
        b'{"token":"a\\r\\nX: y"}',
        b'{"token":"\\u00e9"}',
        b'{"token":"\\ud800"}',
        b'{"token":"t"}' + b" " * 2**20,
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_no_token(body: bytes) -> None:
    with pytest.raises(AuthError, match="an answer without a token"):
        token(answer(body))


@pytest.mark.parametrize("status", [b"302 Found", b"404 Not Found", b"429 Slow", b"500 Broken"])
def test_a_token_service_that_does_not_give_one(status: bytes) -> None:
    with pytest.raises(AuthError, match=r"https://token\.example/t: "):
        token(answer(b'{"token":"t"}', b"Location: https://other.example/", status=status))


@pytest.mark.parametrize(
    "raw",
    [
        answer(b"zzzz", b"Content-Encoding: gzip"),
        b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"to',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz",
        b"",
        b"SMTP ready\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000,
    ],
)
def test_a_token_service_that_breaks(raw: bytes) -> None:
    with pytest.raises(AuthError):
        token(raw)


def test_a_token_answer_that_is_a_bomb() -> None:
    bomb = answer(gzip.compress(b" " * 200 * 2**20), b"Content-Encoding: gzip")
    tracemalloc.start()
    try:
        with pytest.raises(AuthError):
            token(bomb)
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()


def test_who_was_refused_is_said_without_a_secret() -> None:
    refused = answer(json.dumps({"details": PASSWORD}).encode(), status=b"401 Unauthorized")
    with pytest.raises(AuthError, match="the credentials from a test refused for repository:o/x:pull") as caught:
        token(refused)
    assert PASSWORD not in str(caught.value)
    with pytest.raises(AuthError, match="no credentials refused"):
        token(refused, credential=None)


def test_an_identity_token_is_sent_in_the_body() -> None:
    client = WiredClient(answer(b'{"access_token":"t"}'), credential=Credential(identity_token="i-1", username="me"))
    assert client.auth.answer('Bearer realm="https://token.example/t"', PULL, None) == "Bearer t"
    [visit] = client.visits
    head, _, body = visit.said.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /t HTTP/1.1\r\n")
    assert b"uthorization" not in head
    assert b"i-1" not in head
    assert b"refresh_token=i-1" in body


def test_a_token_is_asked_for_once_a_scope() -> None:
    client = WiredClient(answer(b'{"token":"t","expires_in":300}'), credential=CREDENTIAL)
    header = 'Bearer realm="https://token.example/t"'
    for scope in (PULL, PULL, f"{PULL},push", PULL):
        assert client.auth.answer(header, scope, None) == client.auth.header(scope) == "Bearer t"
    assert len(client.visits) == 2
    client.auth.answer(header, PULL, "Bearer t")  # it was refused
    assert len(client.visits) == 3
