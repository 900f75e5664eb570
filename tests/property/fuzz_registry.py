"""The parsers of the fuzz campaign that read what registries, token services and other tools' credentials say."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import requests

from ocibuild.errors import OcibuildError
from ocibuild.oci import Index
from ocibuild.oci.canonical import encode
from ocibuild.oci.media_types import IMAGE_INDEX
from ocibuild.registry import find_credential
from ocibuild.registry.auth import parse_challenges
from ocibuild.registry.download import BlobReader
from ocibuild.registry.origin import Origin, check_target, join, redacted
from ocibuild.registry.retry import wanted_wait
from ocibuild.registry.upload import Upload, _received
from tests.support.wire import (
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
    wired_store,
)

JSON_ANSWERS = {"token answer", "docker config", "tags page", "referrers page", "fallback index", "registry error"}
WIRED = JSON_ANSWERS - {"docker config"} | {"challenge", "link", "content-range", "location header"}
"""What is read by a whole client, which takes a millisecond or more for each case."""


def _token(raw: bytes) -> None:
    client = WiredClient(answer(raw), credential=CREDENTIAL)
    given = client.auth.answer('Bearer realm="https://token.example/t",service="x"', "repository:o/x:pull", None)
    assert given is not None
    assert given.isprintable(), given


def _challenge(raw: bytes) -> None:
    header = raw.decode("latin-1")
    for challenge in parse_challenges(header):
        assert challenge.scheme == challenge.scheme.lower()
    # As a registry says it, with all that follows.
    refused = answer(b"", b"WWW-Authenticate: " + raw, status=b"401 Unauthorized")
    client = WiredClient(refused, answer(b'{"token":"t"}'), credential=CREDENTIAL)
    try:
        client.ping()
    finally:
        for visit in client.visits:
            assert visit.scheme == "https", visit
            assert visit.host == REGISTRY or not is_inner(visit.host), visit


def _tags(raw: bytes) -> None:
    store, _ = wired_store(answer(raw, b"Content-Type: application/json"), answer(b"{}"))
    names = store.tag_names()
    assert names == sorted(set(names)), names


def _link(raw: bytes) -> None:
    page = answer(b'{"tags":["a"]}', b"Link: " + raw)
    store, client = wired_store(page, answer(b'{"tags":["b"]}'))
    try:
        store.tag_names()
    finally:
        check_visits(client.visits)
        assert all(visit.host == REGISTRY for visit in client.visits), client.visits


_INDEX = b"Content-Type: " + IMAGE_INDEX.encode()


def _referrers(raw: bytes) -> None:
    store, _ = wired_store(answer(raw, _INDEX), answer(b'{"schemaVersion":2,"manifests":[]}', _INDEX))
    store.referrers(SUBJECT)


def _fallback(raw: bytes) -> None:
    store, _ = wired_store(answer(status=b"404 Not Found"), answer(raw, _INDEX))
    store.referrers(SUBJECT)


def _error(raw: bytes) -> None:
    client = WiredClient(answer(raw, status=b"400 Bad Request"), credential=CREDENTIAL)
    try:
        client.ping()
    except OcibuildError as error:
        assert PASSWORD not in str(error), error
        assert str(error).isprintable(), error
        raise


def _wait(raw: bytes) -> None:
    for wanted in (wanted_wait(raw.decode("latin-1"), b""), wanted_wait(None, raw)):
        assert 0 <= wanted < float("inf"), wanted


def _content_range(raw: bytes) -> None:
    # The second half of the blob, and where it says that it begins.
    client = WiredClient(
        answer(b"hello, world"), answer(b" world", b"Content-Range: " + raw, status=b"206 Partial Content")
    )
    with BlobReader(client, f"{client.base}/v2/o/x/blobs/y", "", BLOB.size) as reader:
        reader.seek(6)
        found = b""
        while data := reader.read(20):
            found += data
    assert found == b" world", found


def _range(raw: bytes) -> None:
    response = requests.Response()
    response.headers["Range"] = raw.decode("latin-1")
    found = _received(response)
    assert found is None or 0 < found <= 10**15, found


def _origin(raw: bytes) -> None:
    url = raw.decode("latin-1")
    redacted(url)
    refusals = []
    for base in ("", f"https://{REGISTRY}/v2/"):
        try:
            text = join(base, url)
            origin = check_target(text, Origin.of(f"https://{REGISTRY}"), what="a test")
        except OcibuildError as error:
            refusals.append(error)
            continue
        place = reached(text)
        assert place is None or Origin(place.scheme, place.host.removesuffix("."), place.port) == origin, place
        assert place is None or place.host.removesuffix(".") == REGISTRY or not is_inner(place.host), place
    if len(refusals) > 1:
        raise refusals[0]


def _location(raw: bytes) -> None:
    """Where a registry sends a reader, and a writer."""
    refused = answer(b"", b'WWW-Authenticate: Basic realm="x"', status=b"401 Unauthorized")
    for status in (b"307 Temporary Redirect", b"202 Accepted"):
        client = WiredClient(refused, answer(b"", b"Location: " + raw, status=status), DONE, credential=CREDENTIAL)
        try:
            if status == b"202 Accepted":
                Upload(client, "o/x", BLOB, io.BytesIO(b"hello, world")).run()
            else:
                client.send("GET", f"{client.base}/v2/o/x/blobs/y", scope="repository:o/x:pull")
        finally:
            check_visits(client.visits)


def _docker_config(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_bytes(raw)
        found = find_credential("ghcr.io", "o/x", environ={"DOCKER_CONFIG": folder, "HOME": folder})
    if found is not None:
        assert found.basic.isascii()
        assert all(len(secret) < 4 or secret not in repr(found).replace(found.username, "") for secret in found.secrets)


DOCKER_CONFIG = {
    "auths": {
        "ghcr.io": {"auth": "bWU6cGFzc3dvcmQx"},
        "https://ghcr.io/v2/": {"identitytoken": "identity-1", "username": "me"},
        "ghcr.io/o": {"username": "me", "password": "password2"},
        "https://index.docker.io/v1/": {},
    },
    "credHelpers": {"quay.io": "none-such"},
}
URLS = [
    b"https://registry.example/v2/o/x/blobs/uploads/1?_state=a",
    b"/v2/o/x/tags/list?n=2&last=b",
    b"https://REGISTRY.example.:0443/a",
    b"https://storage.example/a?X-Amz-Signature=b#c",
    b"https://me:pw@storage.example/a",
    b"//storage.example/a",
    b"https://127.0.0.1\\.storage.example/a",
    b"https://registry.example\\@storage.example/a",
    b"https://169.254.169%2e254/a",
    b"https://[::ffff:127.0.0.1]/a",
    b"https://[fe80::1%25eth0]:5000/a",
    b"https://0x7f.1:443/a",
    b"https://2130706433/a",
    "https://b\u00fccher.example/a".encode("latin-1"),
    b"http://localhost:5000/a",
]
ERROR = b'{"errors":[{"code":"DENIED","message":"no \\u001b[31m","detail":{"a":[1]}},{"code":"UNKNOWN"}]}'
TOKEN = b'{"token":"abc.def-_","access_token":"abc","expires_in":300,"issued_at":"2026-01-01T00:00:00Z"}'


def registry_corpus() -> dict[str, tuple[Callable[[bytes], object], list[bytes]]]:
    """What is read from registries, token services and the credentials of other tools."""
    listed = {**json.loads(encode(Index(media_type=IMAGE_INDEX, manifests=(SUBJECT, BLOB))))}
    index = json.dumps(listed).encode()
    return {
        "challenge": (
            _challenge,
            [
                b'Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:a/b:pull"',
                b'Basic realm="a \\"b\\"", Bearer realm="https://token.example/t" , error="invalid_token"',
                b"Negotiate, Basic realm=x",
            ],
        ),
        "token answer": (_token, [TOKEN]),
        "docker config": (
            _docker_config,
            [json.dumps(item).encode() for item in (DOCKER_CONFIG, {"auths": {}, "credsStore": "none-such"})],
        ),
        "tags page": (_tags, [b'{"name":"o/x","tags":["1","2","latest"]}']),
        "referrers page": (_referrers, [index]),
        "fallback index": (_fallback, [index]),
        "registry error": (_error, [ERROR]),
        "link": (
            _link,
            [
                b'</v2/o/x/tags/list?n=2&last=b>; rel="next"',
                b'<https://registry.example/v2/o/x/tags/list?last=b>;rel=next, <https://a.example>; rel="prev"',
                b'<//127.0.0.1/v2/>; rel="next"',
            ],
        ),
        "retry-after": (
            _wait,
            [b"120", b"Wed, 21 Oct 2026 07:28:00 GMT", b"retry-after: 1.889377ms, allowed: 2000/minute"],
        ),
        "content-range": (_content_range, [b"bytes 6-11/12", b"bytes 0-11/12", b"bytes 6-11/*"]),
        "range": (_range, [b"0-1023", b"bytes=0-11", b"0-0"]),
        "origin": (_origin, URLS),
        "location header": (_location, URLS),
    }
