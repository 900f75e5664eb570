"""What a registry answers, and what is made of it: ranges, errors, lists of tags and referrers."""

from __future__ import annotations

import json

import pytest
import requests

from ocibuild.errors import DocumentError, NotFoundError, RegistryError
from ocibuild.registry.download import BlobReader
from ocibuild.registry.upload import _received
from tests.support.wire import CREDENTIAL, PASSWORD, REGISTRY, SUBJECT, WiredClient, answer, wire, wired_store

PUBLIC = f"https://{REGISTRY}"
PULL = "repository:o/x:pull"


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
