"""What registries say, of any shape: read back, bounded, and never taken for another place."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import urllib3.util
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ocibuild.errors import AuthError, RegistryError
from ocibuild.registry import Credential, find_credential, retry
from ocibuild.registry.auth import Challenge, parse_challenges
from ocibuild.registry.credentials import store_credential
from ocibuild.registry.origin import Origin, check_target, join, redacted
from ocibuild.registry.retry import Patience, wanted_wait
from tests.support.wire import REGISTRY, answer, is_inner, reached, wired_store

PUBLIC = Origin.of(f"https://{REGISTRY}")
TOKENS = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=8)
LATIN = st.text(st.characters(max_codepoint=0xFF, exclude_characters="\r\n"), max_size=30)
SECONDS = 0.2
"""Of processor time for 64 KiB: some hundred times what a linear reader takes."""


def quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def challenges(draw: st.DrawFn) -> tuple[str, list[Challenge]]:
    """A header and the challenges in it, written in any way that RFC 9110 allows."""
    parts: list[str] = []
    expected: list[Challenge] = []
    for scheme in draw(st.lists(TOKENS, max_size=4)):
        space = draw(st.sampled_from([" ", "  ", "\t"]))
        kind = draw(st.sampled_from(["bare", "token68", "parameters", "parameters"]))
        parameters: dict[str, str] = {}
        if kind == "parameters":
            parameters = draw(st.dictionaries(TOKENS.map(str.lower), LATIN, min_size=1, max_size=4))
        equals = draw(st.sampled_from(["=", " = ", "= "]))
        written = [f"{name}{equals}{quoted(value)}" for name, value in parameters.items()]
        if kind == "token68":
            written = [draw(st.from_regex(r"\A[A-Za-z0-9._~+/-]{1,9}={0,2}\Z"))]
        parts.append(f"{scheme}{space}{written[0]}" if written else scheme)
        parts.extend(written[1:])
        expected.append(Challenge(scheme.lower(), parameters))
    return draw(st.sampled_from([",", ", ", " ,\t", ", ,"])).join(parts), expected


@given(challenges())
def test_challenges_are_read_back(case: tuple[str, list[Challenge]]) -> None:
    header, expected = case
    assert parse_challenges(header) == expected


@given(st.text('aB =,"\\!;\t\xa0', max_size=60))
def test_any_header_gives_challenges(header: str) -> None:
    for challenge in parse_challenges(header):
        assert challenge.scheme == challenge.scheme.lower() != ""


@given(
    st.sampled_from(
        ["", "Bearer ", "Bearer a=b,", 'Bearer a="', "Bearer a=", "https://", "https://a/", "retry-after:"]
    ),
    st.text(" \t,=\"\\aB1!;:@%./[]<>'\xa0", min_size=1, max_size=4),
    st.sampled_from(["", "!", '"', "=", "@", "s", "\x00"]),
)
@example("Bearer a=b,", " ", "!")
def test_nothing_takes_longer_than_its_length(prefix: str, unit: str, end: str) -> None:
    text = (prefix + unit * (65536 // len(unit)))[:65535] + end
    calls: list[Callable[[], object]] = [
        lambda: parse_challenges(text),
        lambda: wanted_wait(text, b""),
        lambda: wanted_wait(None, text.encode()),
        lambda: redacted(text),
        lambda: check_target(text, PUBLIC, what="a test"),
        lambda: check_target(join(f"https://{REGISTRY}/", text), PUBLIC, what="a test"),
        lambda: check_target(f"https://{REGISTRY}/{text}", PUBLIC, what="a test"),
    ]
    for call in calls:
        start = time.process_time()
        with contextlib.suppress(RegistryError):
            call()
        assert time.process_time() - start < SECONDS


# Origins

HOSTS = st.sampled_from(["registry.example", "REGISTRY.example", "other.example", "127.0.0.1", "[::1]", "[::FFFF:1]"])
PORTS = st.sampled_from(["", ":", ":80", ":443", ":0443", ":5000"])
PATHS = st.sampled_from(["", "/", "/v2/", "?a=b", "#c", "/a@b", "/:80"])


@given(st.lists(st.tuples(st.sampled_from(["http", "HTTPS", "https"]), HOSTS, PORTS, PATHS), min_size=2, max_size=2))
def test_origins_are_equal_where_scheme_host_and_port_are(parts: list[tuple[str, str, str, str]]) -> None:
    def known(scheme: str, host: str, port: str) -> tuple[str, str, int]:
        default = {"http": 80, "https": 443}[scheme.lower()]
        return scheme.lower(), host.lower(), int(port[1:] or default) if port else default

    (one, two) = (f"{scheme}://{host}{port}{path}" for scheme, host, port, path in parts)
    (first, second) = (known(*part[:3]) for part in parts)
    assert (Origin.of(one) == Origin.of(two)) == (first == second)


PIECES = [
    *"aeiox01279.-_~:@/\\?#[]%;,!$&'()*+= \t\n\r\x00\x7f\xa0\xad\u200d\u3002\uff0e\uff0f\uff11\u2100\u00fc\u212a\u00df",
    "%2e",
    "%2E",
    "%2f",
    "%40",
    "%5c",
    "%00",
    "%31",
    "%25",
    "..",
    "//",
    "://",
    "127.0.0.1",
    "127.1",
    "0x7f",
    "localhost",
    "169.254.169.254",
    "registry.example",
    ".example",
    "::1",
    "[::1]",
    "[fe80::1%25a]",
    "::ffff:127.0.0.1",
    "user:pw@",
    ":443",
    ":80",
    "xn--",
]
STARTS = st.sampled_from(
    [
        "https://",
        "https://registry.example",
        "HTTPS://",
        "http://",
        "https:/",
        "https:",
        "https:\\\\",
        " https://",
        "//",
    ]
)
URLS = st.builds(lambda start, parts: start + "".join(parts), STARTS, st.lists(st.sampled_from(PIECES), max_size=8))
WILD = st.builds(lambda start, text: start + text, STARTS, st.text(max_size=20))


@settings(max_examples=1000)
@given(URLS | WILD)
@example("https://127.0.0.1\\.registry.example/")
@example("https://169.254.169%2e254/")
@example("https://registry.example\\@127.0.0.1/")
def test_the_origin_is_where_requests_connects(url: str) -> None:
    place = reached(url)
    try:
        origin = check_target(url, PUBLIC, what="a test")
    except RegistryError:
        return
    if place is None:
        return
    assert Origin(place.scheme, place.host.removesuffix("."), place.port) == origin
    assert urllib3.util.parse_url(url).scheme == origin.scheme
    assert str(urllib3.util.parse_url(url).host).strip("[]").removesuffix(".") == origin.host
    assert not is_inner(place.host)
    assert place.scheme == "https"


@settings(max_examples=500)
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(max_size=20))
def test_a_link_of_any_shape(link: str) -> None:
    """Joined, it is a URL whose origin is known, or an error of ours."""
    try:
        url = join(f"https://{REGISTRY}/v2/o/x/tags/list", link)
        origin = Origin.of(url)
    except RegistryError as error:
        assert len(str(error)) < 1000
        return
    place = reached(url)
    assert place is None or Origin(place.scheme, place.host.removesuffix("."), place.port) == origin


MARK = "S3CRET"
PARTS = st.text(st.characters(exclude_characters="/?#", exclude_categories=["Cs"]), max_size=10).map(MARK.__add__)
QUERIES = st.text(st.characters(exclude_characters="#", exclude_categories=["Cs"]), max_size=10).map(MARK.__add__)


@given(
    st.sampled_from(["https", "http", "HTTPS", "ftp", "x-y"]),
    st.none() | PARTS,
    st.none() | PARTS,
    st.sampled_from(["registry.example", "registry.example:5000", "[::1]", "[::1]:5000", "", "a b", "a\\b", "é"]),
    st.sampled_from(["", "/", "/v2/a b/", "/a@b:c"]),
    st.none() | QUERIES,
    st.none() | QUERIES,
)
def test_redacted_hides_user_password_query_and_fragment(
    scheme: str, user: str | None, password: str | None, host: str, path: str, query: str | None, fragment: str | None
) -> None:
    login = "" if user is None else user + ("" if password is None else f":{password}") + "@"
    rest = f"://{login}{host}{path}"
    rest += ("" if query is None else f"?{query}") + ("" if fragment is None else f"#{fragment}")
    shown = redacted(scheme + rest)
    assert MARK not in shown
    assert len(shown) <= 500
    with pytest.raises(RegistryError) as caught:
        check_target("ftp" + rest, PUBLIC, what="a test")
    assert MARK not in str(caught.value)


# Waits


@given(
    st.none()
    | st.text(max_size=40)
    | st.text("0123456789\u00b2\u0661 .-+e", max_size=30)
    | st.builds(
        "{}, {} {} {} {}:{}:{} {}".format,
        st.sampled_from(["Mon", "", "x"]),
        st.integers(-1, 10**20),
        st.sampled_from(["Jan", "Feb", "x", "13"]),
        st.integers(-1, 10**20),
        st.integers(-1, 99),
        st.integers(-1, 99),
        st.integers(-1, 10**20),
        st.sampled_from(["GMT", "-0000", "+0100", "+9999", "-99999999999999999", "EST", "", "x"]),
    ),
    st.binary(max_size=40)
    | st.text("0123456789. nmsuh\u00b5\u03bc\u017f\u212a", max_size=20).map(
        lambda text: b"Retry-After: " + text.encode()
    ),
)
def test_a_wait_is_never_negative_nor_without_end(header: str | None, body: bytes) -> None:
    assert 0 <= wanted_wait(header, body) < float("inf")


@given(
    st.floats(0, 1e5),
    st.lists(
        st.tuples(
            st.floats(0, 100) | st.sampled_from([-1.0, 1e9, float("inf")]),
            st.floats(0, 50),
        ),
        max_size=60,
    ),
)
def test_patience_keeps_its_budget(budget: float, turns: list[tuple[float, float]]) -> None:
    now = [1000.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        assert 0 < seconds < float("inf")
        slept.append(seconds)
        now[0] += seconds

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retry, "time", SimpleNamespace(monotonic=lambda: now[0]))
        patience = Patience(budget, sleep=sleep)
        for wanted, elapsed in turns:
            count = len(slept)
            if patience.wait(wanted):
                assert len(slept) == count + 1
                assert slept[-1] >= wanted
                assert slept[-1] <= max(wanted, 16.0)
                assert now[0] - 1000.0 <= budget + 1e-6
            else:
                assert len(slept) == count
            now[0] += elapsed


# Lists and credentials

NAMES = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9._-]{0,9}\Z")


@given(st.lists(st.lists(NAMES, min_size=1, max_size=4), min_size=1, max_size=5))
def test_pages_of_tags_are_one_list(pages: list[list[str]]) -> None:
    answers = []
    for number, names in enumerate(pages):
        link = b'Link: </v2/o/x/tags/list?page=%d>; rel="next"' % (number + 1)
        last = number == len(pages) - 1
        answers.append(answer(json.dumps({"tags": names}).encode(), *([] if last else [link])))
    store, client = wired_store(*answers)
    assert store.tag_names() == sorted({name for names in pages for name in names})
    assert len(client.visits) == len(pages)


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters=":"), max_size=20),
    ANY_TEXT.map(lambda text: MARK + text.rstrip("\0")),
    st.sampled_from(["ghcr.io", "localhost:5000", "[::1]:5000"]),
)
def test_what_is_stored_is_found_and_not_shown(username: str, password: str, registry: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        environ = {"DOCKER_CONFIG": folder, "HOME": folder}
        given_one = Credential(username=username, password=password)
        store_credential("other.example", Credential(username="x", password="y"), environ=environ)
        store_credential(registry, given_one, environ=environ)
        found = find_credential(registry, environ=environ)
        assert found is not None
        assert (found.username, found.password) == (username, password)
        assert MARK not in repr(found).replace(repr(username), "")
        assert find_credential("other.example", environ=environ) is not None


KEYS = st.sampled_from(
    ["auths", "ghcr.io", "https://ghcr.io/v1/", "ghcr.io/o", "auth", "username", "password", "identitytoken"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.sampled_from(["bWU6cHc=", "bWU=", "/w=="]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=4),
    max_leaves=12,
)
ENTRIES = st.dictionaries(KEYS, VALUES, max_size=4)


@given(VALUES | st.fixed_dictionaries({"auths": st.dictionaries(KEYS, ENTRIES, max_size=4)}))
def test_any_configuration_gives_a_credential_or_an_error_of_ours(config: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/config.json", "w") as stream:
            json.dump(config, stream)
        try:
            found = find_credential("ghcr.io", "o/x", environ={"DOCKER_CONFIG": folder, "HOME": folder})
        except AuthError as error:
            assert error.where == f"{folder}/config.json"
            return
        assert found is None or found.basic.isascii()
