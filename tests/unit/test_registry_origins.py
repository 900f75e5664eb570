"""Origins: which URL is of which, what a client is of, and where a registry may send us."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from ocibuild.errors import OcibuildError, RegistryError
from ocibuild.oci import Reference
from ocibuild.registry import RegistryClient, RegistryStore
from ocibuild.registry.origin import Origin, check_target, join, redacted
from ocibuild.registry.upload import Upload
from tests.support.wire import (
    BLOB,
    CREDENTIAL,
    DONE,
    PASSWORD,
    REGISTRY,
    WiredClient,
    answer,
    check_visits,
    is_inner,
    reached,
)

PUBLIC = f"https://{REGISTRY}"
PULL = "repository:o/x:pull"

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
