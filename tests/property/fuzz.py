"""A fuzz campaign over every parser: mutated real input must end in a value or an `OcibuildError`.

    python -m tests.property.fuzz [--count 100000] [--seed 1] [--parser NAME]

The count is for each parser. It prints the slowest case of each and stops at the first escape, naming its seed.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import socket
import ssl
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import requests
import urllib3
from elftools.elf.elffile import ELFFile
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import LocationParseError

from ocibuild import (
    ArchiveStore,
    Compression,
    MemoryStore,
    Platform,
    Reference,
    build_image,
    build_layer,
    copy,
    postgres,
)
from ocibuild.elf import read_shared_object
from ocibuild.errors import OcibuildError
from ocibuild.layer import open_layer, read_members
from ocibuild.locations import parse_location
from ocibuild.oci import Descriptor, Digest, ImageConfig, Index, Manifest
from ocibuild.oci.canonical import decode, encode
from ocibuild.oci.media_types import IMAGE_CONFIG, IMAGE_INDEX, IMAGE_MANIFEST
from ocibuild.postgres import find_project, parse_control, read_magic, read_recipe
from ocibuild.postgres.checks.sql import c_functions
from ocibuild.postgres.project import find_crates
from ocibuild.postgres.sources.alternatives import alternatives
from ocibuild.postgres.tag import expand_tag, tag_fields
from ocibuild.registry import Credential, RegistryClient, RegistryStore, find_credential
from ocibuild.registry.auth import parse_challenges
from ocibuild.registry.download import BlobReader
from ocibuild.registry.origin import Origin, check_target, join, redacted
from ocibuild.registry.retry import wanted_wait
from ocibuild.registry.upload import Upload, _received
from ocibuild.store import walk
from ocibuild.store.graph import read_blob
from tests.support.packages import deb, tar, zipped
from tests.support.tools import TREES
from tests.support.trees import mutate

POSTINST = """#!/bin/sh
set -e
VERSION="18"
DIR=/usr/share/postgresql/${VERSION}/extension
update-alternatives --install $DIR/hello.control hello \\
  $DIR/hello-3.control 30 --slave $DIR/a.control a "$DIR/hello-3.control"
"""
SQL = b"""-- a comment
CREATE OR REPLACE FUNCTION s."F"(int, text DEFAULT 'it''s') RETURNS int AS 'MODULE_PATHNAME', 'f' LANGUAGE C STRICT;
/* and */ DO $body$ BEGIN PERFORM 1; END $body$;
COPY t FROM '/usr/share/x'; LOAD '$libdir/x';
"""


def _source(raw: bytes) -> None:
    def read(path: Path) -> None:
        sources = postgres.open_sources(path)
        postgres.check(sources, platforms=["linux/amd64"])

    _file(raw, read)


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")


def _members(raw: bytes) -> None:
    for _, content in read_members(io.BytesIO(raw)):
        content.read(100)


def _layer(compression: Compression) -> Callable[[bytes], None]:
    def read(raw: bytes) -> None:
        with open_layer(io.BytesIO(raw), compression.media_type) as stream:
            _members(stream.read())

    return read


def _file(raw: bytes, read: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input"
        path.write_bytes(raw)
        read(path)


def _archive(raw: bytes) -> None:
    def read(path: Path) -> None:
        store = ArchiveStore(path)
        for descriptor in store.tags().values():
            for item in walk(store, descriptor):
                with store.fetch(item) as stream:
                    stream.read()

    _file(raw, read)


def _recipe(raw: bytes) -> None:
    _file(raw, read_recipe)


def _project(raw: bytes) -> None:
    def read(path: Path) -> None:
        path.rename(path.parent / "Cargo.toml")
        find_project(path.parent, "x")
        find_crates(path.parent)

    _file(raw, read)


def other_tars() -> list[bytes]:
    """Archives as others write them: GNU and pax names, links, global headers."""
    found = []
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form, pax_headers={"comment": "x"}) as archive:
            for name, kind in (
                ("n" * 150, tarfile.REGTYPE),
                ("é", tarfile.SYMTYPE),
                ("h", tarfile.LNKTYPE),
                ("d", tarfile.DIRTYPE),
            ):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, "n" * 150 if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
                info.mtime = -1 if form == tarfile.GNU_FORMAT else 1.5
                info.size = 700 if kind == tarfile.REGTYPE else 0
                archive.addfile(info, io.BytesIO(bytes(700)))
        found.append(buffer.getvalue())
    return found


def mend_tar(raw: bytes) -> bytes:
    """Checksums made right again after a mutation, so that it is not all that the reader sees."""
    found = bytearray(raw)
    for start in range(0, len(found) - 511, 512):
        block = found[start : start + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            found[start + 148 : start + 156] = b"%06o\0 " % (sum(block) & 0o777777)
    return bytes(found)


ODD: list[object] = [
    None,
    True,
    -1,
    2**70,
    1.5,
    "",
    "x" * 300,
    "\x00",
    [],
    {},
    [[]],
    "sha256:" + "0" * 64,
    "sha256:../x",
    2,
    "application/x",
]


def mutate_json(raw: bytes, seed: int) -> bytes:
    """A document with some of its parts removed, repeated, or replaced by odd ones: still JSON, mostly."""
    chance = random.Random(seed)
    document = json.loads(raw)
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = document
        while isinstance(place, dict | list) and place and chance.random() < 0.8:
            key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
            below = place[key]
            if not isinstance(below, dict | list) or chance.random() < 0.3:
                kind = chance.randrange(3)
                if kind == 0:
                    del place[key]
                elif kind == 1:
                    place[key] = deepcopy(chance.choice(ODD))
                elif isinstance(place, list):
                    place.append(deepcopy(below))
                else:
                    place[chance.choice(list(place)) + chance.choice(("", "x"))] = deepcopy(below)
                break
            place = below
    text = json.dumps(document)
    if chance.random() < 0.2:
        text = text.replace('":', '": ', 1).replace("{", '{"schemaVersion":2,', 1)
    return text.encode()


def _platform(raw: bytes) -> None:
    Platform.parse(_text(raw))


def corpus() -> dict[str, tuple[Callable[[bytes], object], list[bytes]]]:
    """Each parser and the real input to mutate."""
    store = MemoryStore()
    image = postgres.build_extension([postgres.open_source(tree) for tree in TREES], into=store)
    documents: dict[str, bytes] = {}
    for descriptor in walk(store, image.root):
        if descriptor.media_type.endswith("json"):
            documents[descriptor.media_type] = read_blob(store, descriptor)
    entries = [entry for entry in postgres.open_source(TREES[0]).entries if not entry.path.endswith(".so")]
    layers = {}
    for compression in Compression:
        layer = build_layer(entries, into=store, compression=compression)
        layers[compression] = store.fetch(layer.descriptor).read()
    with tempfile.TemporaryDirectory() as folder:
        with ArchiveStore(Path(folder) / "a.tar") as archive:
            copy(build_image([], platform=Platform.parse("amd64")), archive, tags=["1"])
        small = (Path(folder) / "a.tar").read_bytes()
    library = (TREES[0] / "usr/lib/postgresql/18/lib/pgrx_hello.so").read_bytes()
    control = (TREES[0] / "usr/share/postgresql/18/extension/pgrx_hello.control").read_bytes()
    small_files: dict[str, bytes | str] = {
        "usr/share/postgresql/18/extension/hello-3.control": control,
        "usr/share/postgresql/18/extension/hello.control": "/etc/alternatives/hello",
        "etc/alternatives/hello": "/usr/share/postgresql/18/extension/hello-3.control",
        "usr/share/postgresql/18/extension/hello--1.sql": SQL,
        "usr/share/postgresql/18/extension/hello--2.sql": "=usr/share/postgresql/18/extension/hello--1.sql",
    }
    return {
        "manifest": (lambda raw: decode(raw, Manifest), [documents[IMAGE_MANIFEST]]),
        "index": (lambda raw: decode(raw, Index), [documents[IMAGE_INDEX]]),
        "config": (lambda raw: decode(raw, ImageConfig), [documents[IMAGE_CONFIG]]),
        "digest": (lambda raw: Digest(_text(raw)), [image.digest.encode()]),
        "platform": (_platform, [b"linux/arm64/v8", b"linux/amd64"]),
        "reference": (
            lambda raw: Reference.parse(_text(raw)),
            [b"ghcr.io/o/r:1@" + image.digest.encode(), b"localhost:5000/a/b"],
        ),
        "location": (
            lambda raw: parse_location(_text(raw)),
            [b"oci:dist/x:1", b"oci-archive:x.tar@" + image.digest.encode(), b"docker://ghcr.io/o/r:1", b"./x:1"],
        ),
        "tar": (_members, [layers[Compression.NONE], *other_tars()]),
        "gzip": (_layer(Compression.GZIP), [layers[Compression.GZIP]]),
        "zstd": (_layer(Compression.ZSTD), [layers[Compression.ZSTD]]),
        "archive": (_archive, [small]),
        "control": (lambda raw: parse_control(raw, name="x"), [control, b"requires = 'a, b'\nschema x # c\n"]),
        "recipe": (_recipe, [b'name = "x"\n[labels]\nlicenses = "MIT"\n']),
        "project": (_project, [b'[workspace]\nmembers = ["a/*", "."]\n[package]\nlicense = {workspace = true}\n']),
        "tag": (
            lambda raw: expand_tag(_text(raw), tag_fields("1.2.3", 18)),
            [b"{version}-{pg}-trixie", b"{major}.{minor}"],
        ),
        "deb": (_source, [deb(small_files, postinst=POSTINST, suffix=suffix) for suffix in ("", ".xz", ".zst")]),
        "sources": (
            _source,
            [tar(small_files), tar(small_files, ".gz"), tar(small_files, ".xz"), zipped(small_files), small],
        ),
        "alternatives": (lambda raw: alternatives(raw.decode(errors="replace")), [POSTINST.encode()]),
        "sql": (lambda raw: list(c_functions(raw.decode(errors="replace"))), [SQL]),
        "magic": (read_magic, [library[0x4D000:0x4D200]]),
        "elf": (read_shared_object, [library]),
        **registry_corpus(),
    }


REGISTRY = "registry.example"
PASSWORD = "s3cret-passw0rd"
CREDENTIAL = Credential(username="me", password=PASSWORD, origin="a test")
BLOB = Descriptor.of(b"hello, world", "text/plain")
SUBJECT = Descriptor.of(b"{}", IMAGE_MANIFEST)
DONE = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Visit:
    """A connection that was made, and what was said on it."""

    scheme: str
    host: str
    port: int
    said: bytes


def answer(body: bytes = b"", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """An HTTP answer as it is on the wire."""
    lines = [b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body), b"", body]
    return b"\r\n".join(lines)


class _Socket:
    def __init__(self, answer: bytes) -> None:
        self.said, self._answer = bytearray(), answer

    def sendall(self, data: bytes) -> None:
        self.said += data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._answer)

    def settimeout(self, seconds: float | None) -> None:
        pass

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        pass


def wire(client: RegistryClient, *answers: bytes) -> list[Visit]:
    """Give a client these answers, the last one again and again; where it went and what it said.

    Only the socket is not real: requests, urllib3 and http.client see bytes, and choose the host themselves.
    """
    visits: list[Visit] = []

    class Connection(HTTPConnection):
        kind = "http"
        # No connection is used twice, so that every request has its own answer.
        is_connected = False

        def _new_conn(self) -> Any:
            host: str = self._dns_host
            try:
                host.encode("idna")
            except UnicodeError:
                raise LocationParseError(f"{host!r}, label empty or too long") from None
            return _Socket(answers[min(len(visits), len(answers) - 1)])

        def getresponse(self) -> Any:
            sock: Any = self.sock
            visits.append(Visit(self.kind, self._dns_host, self.port, bytes(sock.said)))
            return super().getresponse()

    class Secure(Connection):
        kind = "https"
        default_port = 443  # type: ignore[misc]

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(HTTPConnectionPool):
        ConnectionCls = Secure
        scheme = "https"

        def __init__(self, host: str, port: int | None = None, **options: Any) -> None:
            super().__init__(host, port, blocksize=options["blocksize"])

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, blocksize=16384, **options)
            self.poolmanager.pool_classes_by_scheme = {"http": Pool, "https": SecurePool}

    for prefix in list(client.session.adapters):
        client.session.mount(prefix, Adapter())
    return visits


class WiredClient(RegistryClient):
    """A client of a registry that gives these answers, and has no patience."""

    def __init__(self, *answers: bytes, host: str = REGISTRY, credential: Credential | None = None) -> None:
        # What the system trusts takes 20 ms to read, and is not asked here.
        with mock.patch.object(ssl, "create_default_context", return_value=_CONTEXT):
            super().__init__(host, credential=credential, patience=0.0)
        self.visits = wire(self, *answers)


_CONTEXT = ssl.create_default_context()


def reached(url: str) -> Origin | None:
    """Where requests would connect for a URL; None where it refuses."""
    try:
        pool = _ADAPTER.get_connection_with_tls_context(requests.Request("GET", url).prepare(), verify=True)
        assert pool.host is not None
        pool.host.encode("idna")
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError):
        return None
    return Origin(str(pool.scheme), pool.host.removeprefix("[").removesuffix("]"), pool.port or 0)


_ADAPTER = HTTPAdapter()


def check_visits(visits: list[Visit]) -> None:
    """No secret goes to another place than the registry, and no request into the inner network."""
    for visit in visits:
        own = (visit.scheme, visit.host.removesuffix("."), visit.port) == ("https", REGISTRY, 443)
        assert own or b"authorization:" not in visit.said.lower(), visit
        assert visit.scheme == "https", visit
        assert own or not is_inner(visit.host), visit


def is_inner(host: str) -> bool:
    """Whether a host is an address, as the resolver reads it, or a name without a domain."""
    try:
        socket.inet_aton(host.removesuffix("."))
    except (OSError, ValueError):
        labels = host.removesuffix(".").lower().split(".")
        return ":" in host or len(labels) == 1 or labels[-1] in ("localhost", "local", "internal")
    return True


def wired_store(*answers: bytes) -> tuple[RegistryStore, WiredClient]:
    """A repository of such a registry."""
    client = WiredClient(*answers)
    return RegistryStore(Reference.parse(f"{REGISTRY}/o/x"), client=client), client


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
        "location": (_location, URLS),
    }


JSON_PARSERS = {
    "manifest",
    "index",
    "config",
    "token answer",
    "docker config",
    "tags page",
    "referrers page",
    "fallback index",
    "registry error",
}


def tables(library: bytes) -> list[range]:
    """Where an ELF file keeps what its reader reads: headers and the small sections."""
    elf = ELFFile(io.BytesIO(library))
    header = elf.header
    end = header["e_shoff"] + header["e_shnum"] * header["e_shentsize"]
    segments = range(header["e_phoff"], header["e_phoff"] + header["e_phnum"] * header["e_phentsize"])
    kinds = ("DYNAMIC", "DYNSYM", "STRTAB", "HASH", "GNU_HASH", "GNU_verneed", "GNU_verdef", "GNU_versym", "NOTE")
    sections = [section for section in elf.iter_sections() if str(section["sh_type"]).removeprefix("SHT_") in kinds]
    inside = [range(item["sh_offset"], item["sh_offset"] + item["sh_size"]) for item in sections]
    return [range(64), segments, range(header["e_shoff"], end), *inside]


def campaign(name: str, parse: Callable[[bytes], object], seeds: list[bytes], count: int, first: int) -> str:
    """Run one parser's cases; the line to print."""
    spots = tables(seeds[0]) if name == "elf" else ()
    accepted = 0
    slowest = (0.0, 0)
    for seed in range(first, first + count):
        origin = seeds[seed % len(seeds)]
        raw = mutate_json(origin, seed) if name in JSON_PARSERS and seed % 2 else mutate(origin, seed, spots)
        if name in ("tar", "archive", "deb", "sources") and seed % 4:
            raw = mend_tar(raw)
        start = time.perf_counter()
        try:
            parse(raw)
            accepted += 1
        except OcibuildError:
            pass
        except BaseException as error:
            raise AssertionError(f"{name}: seed {seed}: {type(error).__name__}: {error}") from error
        slowest = max(slowest, (time.perf_counter() - start, seed))
    return (
        f"{name:14} {count:>8} cases, {accepted:>7} accepted, slowest {slowest[0] * 1000:6.1f} ms (seed {slowest[1]})"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parser", action="append")
    options = parser.parse_args()
    for name, (parse, seeds) in corpus().items():
        if options.parser is None or name in options.parser:
            print(campaign(name, parse, seeds, options.count, options.seed), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
