"""What registries say, and what is made of it: challenges, origins, waits, ranges, answers."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
import requests

from ocibuild.errors import AuthError, DocumentError, NotFoundError, OcibuildError, RegistryError
from ocibuild.oci import Reference
from ocibuild.registry import Credential, RegistryClient, RegistryStore, retry
from ocibuild.registry.auth import Challenge, parse_challenges
from ocibuild.registry.download import BlobReader
from ocibuild.registry.origin import Origin, check_target, join, redacted
from ocibuild.registry.retry import Patience, is_temporary, wanted_wait
from ocibuild.registry.upload import Upload, _received
from tests.property.fuzz import (
    BLOB,
    CREDENTIAL,
    DONE,
    PASSWORD,
    REGISTRY,
    SUBJECT,
    WiredClient,
    answer,
    check_visits,
    is_inner,
    reached,
    wire,
    wired_store,
)

PUBLIC = f"https://{REGISTRY}"
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


# Origins

SAME = [
    PUBLIC,
    f"{PUBLIC}/",
    f"{PUBLIC}:443/a?b#c",
    f"{PUBLIC}:0443/",
    f"{PUBLIC}:/",
    f"HTTPS://{REGISTRY.upper()}/",
    f"{PUBLIC}?a@b",
    f"{PUBLIC}#@other.example",
    f"{PUBLIC}/@other.example/",
]
OTHERS = [
    f"http://{REGISTRY}",
    f"{PUBLIC}:444",
    f"{PUBLIC}.other.example",
    f"https://a.{REGISTRY}",
    f"https://{REGISTRY[:-1]}",
    "https://[::1]/",
]
NONE = [
    "",
    "/v2/",
    "registry.example",
    "//registry.example/",
    "ftp://registry.example/",
    "file:///etc/passwd",
    "https:///x",
    "https:registry.example",
    "https://:443/",
    "https://registry.example:x/",
    "https://registry.example:99999/",
    "https://registry.example:-1/",
    "https://registry.example:٤٤٣/",
    "https://[::1/",
    "https://me@registry.example/",
    "https://@registry.example/",
    "https://me:pw@registry.example/",
    "https://registry.example@other.example/",
    "https://registry.example:443@other.example/",
    "https://registry.example\\@other.example/",
    "https://other.example\\@registry.example/",
    "https://registry.example%40other.example@third.example/",
    "https://a／b.example/",  # noqa: RUF001 - a full-width slash
]


@pytest.mark.parametrize("url", SAME)
def test_the_same_origin(url: str) -> None:
    assert Origin.of(url) == Origin("https", REGISTRY, 443)


@pytest.mark.parametrize("url", OTHERS)
def test_another_origin(url: str) -> None:
    assert Origin.of(url) != Origin.of(PUBLIC)


@pytest.mark.parametrize("url", NONE)
def test_no_origin(url: str) -> None:
    with pytest.raises(RegistryError):
        Origin.of(url)


TRICKS = [
    *SAME,
    *OTHERS,
    *NONE,
    "https://registry.example./",
    "https://REGISTRY.EXAMPLE.:443/",
    "https://registry.example../",
    f"https://{REGISTRY.replace('e', 'е')}",  # noqa: RUF001 - a Cyrillic letter
    "https://b\u00fccher.example/",
    "https://xn--bcher-kva.example/",
    "https://stra\u00dfe.example/",
    "https://\u212aube.example/",
    "https://127\u30020\u30020\u30021/",
    "https://\uff11\uff12\uff17.0.0.1/",
    "https://l\u00adocalhost/",
    "https://localhost\u200d/",
    "https://[::1]registry.example/",
    "https://registry.example[::1]/",
    "https://[v1.registry.example]/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[::FFFF:127.0.0.1]/",
    "https://0X7F.1/",
    "https://registry.example:0/",
    "https://regis\ttry.example/",
    "https://registry\r\n\t.example/",
    " https://registry.example/",
    "\x00https://registry.example/",
    "https://registry.example\x00.other.example/",
    "https://registry.example\xa0/",
    "https://registry.example\x85/",
    "https://registry.example other.example/",
    "https://registry.example%20other.example/",
    "https://registry.example%00.other.example/",
    "https://registry.example%2f.other.example/",
    "https://registry%2Eexample/",
    "https://%72egistry.example/",
    "https://registry.example%252eother.example/",
    "https://*.registry.example/",
    "https://.registry.example/",
    "https://registry..example/",
    "https://registry.example,other.example/",
    "https://registry.example;other.example/",
    "https://registry_1.example/",
    "https://-.example/",
    "https://" + "a" * 64 + ".example/",
    "https://registry.example\\.other.example/",
    "https://registry.example\\/other.example/",
    "https://127.0.0.1\\.other.example/",
    "https://127.0.0.1:443\\.other.example/",
    "https://169.254.169.254\\.other.example/latest/",
    "https://127%2e0%2e0%2e1.other.example/",
    "https://169.254.169%2e254/",
    "https://%31%32%37.0.0.1/",
    "https://%6cocalhost/",
]


@pytest.mark.parametrize("url", TRICKS)
def test_the_origin_is_where_requests_connects(url: str) -> None:
    place = reached(url)
    try:
        origin = Origin.of(url)
    except RegistryError:
        return  # nothing is sent there
    if place is not None:
        assert Origin(place.scheme, place.host.removesuffix("."), place.port) == origin
        assert place.address is None or origin.is_inner


ADDRESSES = [
    "https://localhost/",
    "https://LOCALHOST./",
    "https://a.localhost/",
    "https://127.0.0.1/",
    "https://127.0.0.1./",
    "https://127.1/",
    "https://127.0.1/",
    "https://0x7f.1/",
    "https://0X7F.0.0.1/",
    "https://0x7f000001/",
    "https://2130706433/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://0/",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.0.1:8443/",
    "https://100.64.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://8.8.8.8/",
    "https://[::]/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[2001:4860:4860::8888]/",
    "https://metadata/",
    "https://metadata.google.internal/",
    "https://host.docker.internal/",
    "https://instance-data.ec2.internal/",
    "https://printer.local/",
    "https://kubernetes.default.svc.cluster.local/",
]
EVASIONS = [
    "https://127.0.0.1\\.storage.example/",
    "https://localhost\\.storage.example/",
    "https://169.254.169.254\\.storage.example/",
    "https://169.254.169%2e254/",
    "https://%31%32%37.0.0.1/",
    "https://127.0.0%2E1/",
    "https://metadata.google.intern%61l/",
]


@pytest.mark.parametrize(
    ("registry", "allowed"),
    [
        (
            PUBLIC,
            [
                PUBLIC,
                f"{PUBLIC}:443/v2/",
                f"{PUBLIC}:5001/",
                "https://storage.example/a?b",
                "https://cdn.example:8443/",
            ],
        ),
        (
            "https://10.0.0.5:5000",
            ["https://10.0.0.5:5000/", "https://10.0.0.5:5001/", "https://10.0.0.6/", "https://storage.example/"],
        ),
        ("https://registry", ["https://registry/", "https://minio/", "https://10.0.0.6/", "https://storage.example/"]),
        (
            "http://127.0.0.1:5000",
            ["http://127.0.0.1:5000/", "http://127.0.0.1:5001/", "http://localhost:5001/", "http://[::1]/"],
        ),
        ("http://127.0.0.1:5000", ["https://storage.example/", "https://10.0.0.6/"]),
        (f"http://{REGISTRY}", [f"http://{REGISTRY}/", f"https://{REGISTRY}/", "https://storage.example/"]),
    ],
)
def test_where_a_registry_may_send_us(registry: str, allowed: list[str]) -> None:
    for url in allowed:
        assert check_target(url, Origin.of(registry), what="a test") == Origin.of(url)


@pytest.mark.parametrize(
    ("registry", "url"),
    [
        *((PUBLIC, url) for url in [*ADDRESSES, *EVASIONS]),
        (PUBLIC, f"http://{REGISTRY}/"),
        (PUBLIC, f"http://{REGISTRY}:443/"),
        (PUBLIC, "http://storage.example/"),
        (PUBLIC, "http://127.0.0.1/"),
        (PUBLIC, "ftp://storage.example/"),
        (PUBLIC, "https://me:pw@storage.example/"),
        (PUBLIC, "/relative"),
        (f"http://{REGISTRY}", "http://storage.example/"),
        (f"http://{REGISTRY}", "http://127.0.0.1/"),
        (f"http://{REGISTRY}", "http://localhost:5000/"),
        (f"http://{REGISTRY}", "https://10.0.0.1/"),
        ("https://10.0.0.5:5000", "http://10.0.0.5:5000/"),
        ("https://10.0.0.5:5000", "http://169.254.169.254/"),
        ("http://10.0.0.5:5000", "http://10.0.0.6:5000/"),
        ("http://10.0.0.5:5000", "http://169.254.169.254/"),
        ("http://127.0.0.1:5000", "http://10.0.0.6/"),
        ("http://127.0.0.1:5000", "http://169.254.169.254/"),
        ("http://127.0.0.1:5000", "http://storage.example/"),
    ],
)
def test_where_it_may_not(registry: str, url: str) -> None:
    with pytest.raises(RegistryError, match=r"a test|the URL"):
        check_target(url, Origin.of(registry), what="a test")


def test_the_tests_own_idea_of_an_inner_host() -> None:
    for url in ADDRESSES[:-5]:
        place = reached(url)
        assert place is not None
        assert is_inner(place.host), url
    assert not is_inner("storage.example")


def answers_that_lead(url: str) -> list[WiredClient]:
    """Clients whose registry names a URL, and what they then do."""
    link = url.encode("latin-1", "ignore").replace(b"\n", b"").replace(b"\r", b"")
    refused = answer(b"", b'WWW-Authenticate: Basic realm="x"', status=b"401 Unauthorized")
    realm = b'WWW-Authenticate: Bearer realm="%s"' % link.replace(b"\\", b"\\\\")
    clients = [
        WiredClient(refused, answer(b"", b"Location: " + link, status=b"307 Moved"), DONE, credential=CREDENTIAL),
        WiredClient(refused, answer(b"", b"Location: " + link, status=b"202 Accepted"), DONE, credential=CREDENTIAL),
        WiredClient(answer(b'{"tags":["a"]}', b'Link: <%s>; rel="next"' % link), DONE, credential=CREDENTIAL),
        WiredClient(
            answer(b"", realm, status=b"401 Unauthorized"), answer(b'{"token":"t"}'), DONE, credential=CREDENTIAL
        ),
    ]
    steps: list[Callable[[WiredClient], object]] = [
        lambda client: client.send("GET", f"{PUBLIC}/v2/o/x/blobs/y", scope=PULL),
        lambda client: Upload(client, "o/x", BLOB, io.BytesIO(b"hello, world")).run(),
        lambda client: RegistryStore(Reference.parse(f"{REGISTRY}/o/x"), client=client).tag_names(),
        lambda client: client.ping(),
    ]
    for client, step in zip(clients, steps, strict=True):
        try:
            step(client)
        except OcibuildError as error:
            assert PASSWORD not in str(error)
    return clients


@pytest.mark.parametrize("url", [*TRICKS, *ADDRESSES, *EVASIONS])
def test_wherever_a_registry_leads_the_end_is_an_answer_or_an_error_of_ours(url: str) -> None:
    for client in answers_that_lead(url)[:3]:
        check_visits(client.visits)


@pytest.mark.parametrize("url", [*ADDRESSES, "http://token.example/t", "/token", "https://me@token.example/"])
def test_no_realm_where_no_secret_may_go(url: str) -> None:
    client = answers_that_lead(url)[3]
    assert [visit.host for visit in client.visits] == [REGISTRY]
    assert b"uthorization:" not in client.visits[0].said


@pytest.mark.parametrize(
    "host",
    ["", "https://ghcr.io", "ghcr.io/o", "ghcr.io?x", "ghcr.io#", "a b", "me:pw@ghcr.io", "[::1", "ghcr.io\\.x", "x:y"],
)
def test_a_client_is_of_a_host_and_nothing_else(host: str) -> None:
    with pytest.raises(OcibuildError):
        RegistryClient(host)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("ghcr.io", Origin("https", "ghcr.io", 443)),
        ("registry:5000", Origin("https", "registry", 5000)),
        ("localhost:5000", Origin("http", "localhost", 5000)),
        ("127.0.0.1", Origin("http", "127.0.0.1", 80)),
        ("[::1]:5000", Origin("http", "::1", 5000)),
        ("10.0.0.1:5000", Origin("https", "10.0.0.1", 5000)),
        ("localhost.example", Origin("https", "localhost.example", 443)),
    ],
)
def test_only_loopback_is_spoken_to_without_tls(host: str, expected: Origin) -> None:
    assert RegistryClient(host).origin == expected
    assert RegistryClient(host, plain_http=False).origin.scheme == "https"
    assert RegistryClient(host, plain_http=True).origin.scheme == "http"


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("/v2/o/x/blobs/uploads/1", f"{PUBLIC}/v2/o/x/blobs/uploads/1"),
        ("?last=b", f"{PUBLIC}/v2/o/x/tags/list?last=b"),
        ("list?n=2", f"{PUBLIC}/v2/o/x/tags/list?n=2"),
        ("//storage.example/a", "https://storage.example/a"),
        ("http://storage.example/a", "http://storage.example/a"),
        ("../../../../../a", f"{PUBLIC}/a"),
    ],
)
def test_a_link_is_joined(link: str, expected: str) -> None:
    assert join(f"{PUBLIC}/v2/o/x/tags/list?n=1", link) == expected


@pytest.mark.parametrize("link", ["//[x", "https://[", "//a\u2100b/", "https://[::1]x]/"])
def test_a_link_that_is_none_is_an_error_of_ours(link: str) -> None:
    with pytest.raises(RegistryError):
        Origin.of(join(f"{PUBLIC}/v2/", link))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://registry.example/v2/?a=b#c", "https://registry.example/v2/"),
        ("https://me:pw@registry.example:5000/v2/", "https://registry.example:5000/v2/"),
        ("https://me@a:b@registry.example/", "https://registry.example/"),
        ("https://[::1]:5000/a?b", "https://[::1]:5000/a"),
        ("https://[::1", "(an unreadable URL)"),
        ("https://h/" + "a" * 1000, "https://h/" + "a" * 490),
        ("", ""),
    ],
)
def test_redacted(url: str, expected: str) -> None:
    assert redacted(url) == expected


# Waits

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "body", "expected"),
    [
        (None, b"", 0.0),
        ("", b"retry-after: 5s", 5.0),
        ("3", b"retry-after: 5s", 3.0),
        (" 3 ", b"", 3.0),
        ("0", b"", 0.0),
        ("-3", b"", 0.0),
        ("3.5", b"", 0.0),
        ("1e3", b"", 0.0),
        ("nan", b"", 0.0),
        ("inf", b"", 0.0),
        ("soon", b"", 0.0),
        ("Thu, 01 Jan 2026 00:01:00 GMT", b"", 60.0),
        ("Thu, 01 Jan 2026 01:01:00 +0100", b"", 60.0),
        ("Wed, 31 Dec 2025 23:59:00 GMT", b"", 0.0),
        ("Thu, 01 Jan 2026 00:01:00", b"", 0.0),
        ("Thu, 99 Jan 2026 00:01:00 GMT", b"", 0.0),
        (None, b"retry-after: 1.889377ms, allowed: 2000/minute", 0.001889377),
        (None, b"Retry-After:2m", 120.0),
        (None, "retry-after: 7\u00b5s".encode(), 7e-6),
        (None, b"retry-after: 1.2.3s", 0.0),
        (None, b"retry-after: 5", 0.0),
        (None, b"\xff\xferetry-after: 5s", 5.0),
        ("\u00b2", b"", 0.0),
        ("1 Jan 99999999999999999999 0:0:0 GMT", b"", 0.0),
        ("1 Jan 2026 0:0:0 +99999999999999", b"", 0.0),
        (None, "retry-after: 7\u03bcs".encode(), 7e-6),
        (None, "retry-after: 5\u017f".encode(), 0.0),
    ],
)
def test_the_wait_that_a_registry_asks_for(header: str | None, body: bytes, expected: float) -> None:
    assert wanted_wait(header, body, now=NOW) == pytest.approx(expected)


def test_a_date_far_away_is_a_number() -> None:
    far = format_datetime(datetime(9999, 12, 31, tzinfo=UTC), usegmt=True)
    assert 2.5e11 < wanted_wait(far, b"", now=NOW) < 2.6e11


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (408, b"", True),
        (429, b"", True),
        (500, b"", True),
        (502, b"", True),
        (503, b"", True),
        (504, b"", True),
        (403, b'{"message":"You have exceeded a secondary rate limit"}', True),
        (403, b"denied", False),
        (401, b"secondary rate limit", False),
        (400, b"", False),
        (404, b"", False),
        (501, b"", False),
    ],
)
def test_what_may_pass(status: int, body: bytes, expected: bool) -> None:
    assert is_temporary(status, body) is expected


class Clock:
    """A clock that only sleep moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(retry, "time", SimpleNamespace(monotonic=found.monotonic, sleep=found.sleep))
    return found


def test_patience_ends_with_its_budget(clock: Clock) -> None:
    patience = Patience(60.0, sleep=clock.sleep)
    while patience.wait():
        pass
    assert 60 - 16 <= sum(clock.slept) <= 60
    assert all(0.125 <= pause <= 16 for pause in clock.slept)
    assert sum(clock.slept[3:6]) > sum(clock.slept[:3])


def test_patience_waits_as_long_as_is_asked_or_not_at_all(clock: Clock) -> None:
    patience = Patience(60.0, sleep=clock.sleep)
    assert patience.wait(50.0)
    assert clock.slept == [50.0]
    assert not patience.wait(50.0)
    assert not Patience(60.0, sleep=clock.sleep).wait(float("inf"))
    assert not Patience(0.0, sleep=clock.sleep).wait()
    assert clock.slept == [50.0]


def test_patience_counts_from_the_first_failure(clock: Clock) -> None:
    patience = Patience(10.0, sleep=clock.sleep)
    clock.now += 3600
    assert patience.wait()
    clock.now += 3600
    assert not patience.wait()


def test_patience_without_end(clock: Clock) -> None:
    patience = Patience(float("inf"), sleep=clock.sleep)
    for _ in range(1500):
        assert patience.wait()


# Ranges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("0-0", None),
        ("0-1", 2),
        ("bytes=0-11", 12),
        (" 0-11 ", 12),
        ("1-11", None),
        ("0-", None),
        ("0--1", None),
        ("0-\u0661", None),
        ("0-1, 5-6", None),
        ("0-" + "9" * 16, None),
    ],
)
def test_how_far_an_upload_has_come(header: str | None, expected: int | None) -> None:
    response = requests.Response()
    if header is not None:
        response.headers["Range"] = header
    assert _received(response) == expected


@pytest.mark.parametrize(
    ("status", "content_range"),
    [
        (b"206 Partial Content", b""),
        (b"206 Partial Content", b"bytes 0-11/12"),
        (b"206 Partial Content", b"bytes 7-11/12"),
        (b"206 Partial Content", b"bytes 6-/12"),
        (b"206 Partial Content", b"bytes */12"),
        (b"206 Partial Content", b"items 6-11/12"),
        (b"206 Partial Content", "bytes \u00b2-11/12".encode("latin-1")),
        (b"416 Range Not Satisfiable", b"bytes */12"),
        (b"204 No Content", b"bytes 6-11/12"),
    ],
)
def test_the_rest_of_a_blob_is_what_was_asked_for(status: bytes, content_range: bytes) -> None:
    client = WiredClient(answer(b"hello, world"), answer(b" world", b"Content-Range: " + content_range, status=status))
    with BlobReader(client, f"{PUBLIC}/v2/o/x/blobs/y", PULL, 12) as reader:
        reader.seek(6)
        with pytest.raises(RegistryError):
            reader.read(6)


def test_a_registry_that_knows_no_ranges_and_breaks_again() -> None:
    client = WiredClient(answer(b"hello, world"), answer(b"hel"))
    with BlobReader(client, f"{PUBLIC}/v2/o/x/blobs/y", PULL, 12) as reader:
        reader.seek(6)
        with pytest.raises(RegistryError):
            reader.read(6)


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


# Errors


def refusal(body: bytes, status: bytes = b"400 Bad Request") -> str:
    """What is said of a registry's refusal."""
    with pytest.raises(RegistryError) as caught:
        WiredClient(answer(body, status=status), credential=CREDENTIAL).ping()
    return str(caught.value)


def errors(*messages: object) -> bytes:
    return json.dumps({"errors": [{"code": "DENIED", "message": message} for message in messages]}).encode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (errors("no"), ": DENIED no"),
        (errors("no", "never"), ": DENIED no; DENIED never"),
        (errors(""), ": DENIED"),
        (errors(None), ": DENIED None"),
        (errors("a\x1b[31mb\nc"), ": DENIED a [31mb c"),
        (b'{"errors":[{"message":"\\ud800"}]}', ""),
        (b'{"errors":[]}', ""),
        (b'{"errors":["x",1,null]}', ""),
        (b'{"errors":{"code":"x"}}', ""),
        (b'{"errors":5}', ': {"errors":5}'),
        (b"<html>down</html>", ": <html>down</html>"),
        (b"", ""),
    ],
)
def test_what_a_registry_says_of_a_refusal(body: bytes, expected: str) -> None:
    assert refusal(body).removeprefix(f"GET {PUBLIC}/v2/: 400 Bad Request").rstrip(": ") == expected


def test_what_a_registry_says_is_short_and_harmless() -> None:
    said = refusal(errors("x" * 10_000, "y" * 10_000))
    assert len(said) < 500
    for body in (b"\x1b[31m\x07\xff" * 10_000, b"[" * 60_000, b"a" * 10**7):
        shown = refusal(body)
        assert shown.isprintable()
        assert len(shown) < 500


@pytest.mark.parametrize(
    "said",
    [
        errors(f"bad: {PASSWORD}"),
        PASSWORD.encode(),
        errors(f"bad: {CREDENTIAL.basic}"),
        errors("y" * 285 + PASSWORD),
    ],
)
def test_a_secret_that_a_registry_repeats_is_not_shown(said: bytes) -> None:
    shown = refusal(said)
    for secret in (PASSWORD, CREDENTIAL.basic.removeprefix("Basic "), PASSWORD[:6]):
        assert secret not in shown


def test_the_reason_phrase_is_as_harmless_as_the_body() -> None:
    shown = refusal(b"", status=b"400 " + PASSWORD.encode() + b"\x1b[31m" + b"x" * 10_000)
    assert PASSWORD not in shown
    assert len(shown) < 1000
    assert shown.isprintable()


# Lists


def listed(*answers: bytes) -> list[str]:
    return wired_store(*answers)[0].tag_names()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"tags":["b","a","b"]}', ["a", "b"]),
        (b'{"tags":[]}', []),
        (b'{"tags":null}', []),
        (b"{}", []),
        (b'{"tags":["a",1,null,["b"]]}', ["a"]),
    ],
)
def test_a_list_of_tags(body: bytes, expected: list[str]) -> None:
    assert listed(answer(body)) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'"a"',
        b'{"tags":5}',
        b"\xff",
        b'{"tags":"abc"}',
        b'{"tags":{"a":1}}',
        b"[" * 100_000,
        b'{"tags":[' * 100_000,
    ],
)
def test_a_list_of_tags_that_is_none(body: bytes) -> None:
    with pytest.raises(RegistryError):
        listed(answer(body, b"Content-Type: application/json"))


def test_a_list_is_read_as_utf_8_whatever_it_says() -> None:
    """Of the codecs that a header can name some, such as punycode, take hours for a few megabytes."""
    for charset in (b"punycode", b"utf-16", b"idna", b"none-such"):
        assert listed(answer(b'{"tags":["a"]}', b"Content-Type: application/json; charset=" + charset)) == ["a"]


def test_pages_of_tags_have_an_end() -> None:
    page = answer(b'{"tags":["a"]}', b'Link: <more/list>; rel="next"')
    with pytest.raises(RegistryError, match="more than 1000 pages of tags"):
        listed(page)
    assert listed(answer(b'{"tags":["a"]}', b'Link: </v2/o/x/tags/list>; rel="next"')) == ["a"]
    assert listed(answer(b'{"tags":["a"]}', b'Link: <?last=a>; rel="next"'), answer(b'{"tags":["b"]}')) == ["a", "b"]
    assert listed(answer(b'{"tags":["a"]}', b"Link: <?last=a>; rel=prev")) == ["a"]


def test_a_tag_that_is_none_does_not_hide_the_others() -> None:
    manifest = b'{"schemaVersion":2}'
    kind = b"Content-Type: application/vnd.oci.image.manifest.v1+json"
    store, _ = wired_store(answer(b'{"tags":["../x","a b","ok","\\u001b[31m",""]}'), answer(manifest, kind))
    assert list(store.tags()) == ["ok"]


def test_a_list_that_breaks_off_is_no_shorter_list() -> None:
    page = answer(b'{"tags":["a"]}', b'Link: <?last=a>; rel="next"')
    with pytest.raises((RegistryError, NotFoundError)):
        listed(page, answer(status=b"404 Not Found"))


@pytest.mark.parametrize(
    "link",
    [b"https://other.example/", f"http://{REGISTRY}/".encode(), f"{PUBLIC}:444/".encode(), b"//other.example/v2/"],
)
def test_pages_go_on_nowhere_else(link: bytes) -> None:
    store, client = wired_store(answer(b'{"tags":["a"]}', b'Link: <%s>; rel="next"' % link))
    with pytest.raises(RegistryError, match="a list that goes on at"):
        store.tag_names()
    page = answer(b'{"manifests":[]}', b'Link: <%s>; rel="next"' % link, b"Content-Type: " + INDEX)
    client.visits = wire(client, page)
    with pytest.raises(RegistryError, match="a list that goes on at"):
        store.referrers(SUBJECT)
    assert [visit.host for visit in client.visits] == [REGISTRY]


INDEX = b"application/vnd.oci.image.index.v1+json"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}x",
        b"[]",
        b"null",
        b'{"manifests":{}}',
        b'{"manifests":[{}]}',
        b'{"manifests":[null]}',
        b'{"manifests":[{"mediaType":"a/b","digest":"sha256:../x","size":1}]}',
        b'{"manifests":[{"mediaType":"a/b","digest":"sha256:%s","size":-1}]}' % (b"0" * 64),
        b'{"manifests":[],"layers":[]}',
        b"[" * 100_000,
    ],
)
def test_referrers_that_are_no_index(body: bytes) -> None:
    for answers in (
        [answer(body, b"Content-Type: " + INDEX)],
        [answer(status=b"404 Not Found"), answer(body, b"Content-Type: " + INDEX)],
    ):
        store, _ = wired_store(*answers)
        with pytest.raises(DocumentError):
            store.referrers(SUBJECT)


def test_referrers_where_there_is_neither_api_nor_tag() -> None:
    for status in (b"400 Bad", b"404 Not Found", b"405 No"):
        answers = [answer(status=status), answer(status=b"404 Not Found")]
        store, _ = wired_store(*answers)
        assert store.referrers(SUBJECT) == []
    with pytest.raises(NotFoundError):
        WiredClient(answer(status=b"404 Not Found")).ping()
