"""Pushing to and pulling from a registry that behaves as GHCR does, and with what goes wrong on the way."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import itertools
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocibuild import Artifact, MemoryStore, Platform, build_image, build_index, copy
from ocibuild.errors import AuthError, DigestMismatchError, NotFoundError, OcibuildError, RegistryError
from ocibuild.layer import File, build_layer
from ocibuild.oci import Descriptor, Manifest, Reference, media_types
from ocibuild.oci.canonical import encode
from ocibuild.registry import Credential, RegistryClient, RegistryStore
from ocibuild.store import walk
from ocibuild.store.attached import attached_tag
from ocibuild.store.graph import read_blob
from tests.conftest import Result
from tests.support.certificates import Certificates, make_certificates
from tests.support.ghcr import CHUNK_LIMIT, KINDS, NAMES, Fault, Plan, Site, ghcr
from tests.support.tools import TREES, require, run

Cli = Callable[..., Result]
MIB = 1024 * 1024
BIG = 10 * MIB

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first waits are for busy registries; tests have none."""
    monkeypatch.setattr("ocibuild.registry.retry._FIRST_WAIT", 0.02)


@pytest.fixture
def name() -> str:
    """A repository that no other test uses."""
    return f"grove/r{next(_numbers)}"


@pytest.fixture(scope="module")
def big() -> tuple[Descriptor, bytes]:
    data = os.urandom(BIG)
    return Descriptor.of(data, media_types.LAYER_GZIP), data


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), names=NAMES)


@pytest.fixture
def docker_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Site], None]:
    """Have the command line find a site's credential, and no other."""
    for variable in ("GITHUB_TOKEN", "GITHUB_ACTOR", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("HOME", "DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    (tmp_path / "home").mkdir()

    def write(site: Site) -> None:
        auth = base64.b64encode(f"{site.user}:{site.secret}".encode()).decode()
        (tmp_path / "home/config.json").write_text(json.dumps({"auths": {site.address: {"auth": auth}}}))

    return write


def credential(site: Site) -> Credential:
    return Credential(username=site.user, password=site.secret)


def store(site: Site, name: str, *, patience: float = 8.0, **options: Any) -> RegistryStore:
    client = RegistryClient(site.address, credential=credential(site), patience=patience)
    return RegistryStore(Reference.parse(f"{site.address}/{name}"), client=client, **options)


def image(label: str = "one") -> Artifact:
    made = MemoryStore()
    layers = [build_layer([File(path="lib/x.so", content=label.encode() * 3000)], into=made)]
    images = [
        build_image(layers, platform=Platform.parse(name), labels={"l": label}, into=made)
        for name in ("amd64", "arm64")
    ]
    return build_index(images, into=made)


def signature(subject: Descriptor, number: int) -> tuple[Descriptor, bytes]:
    empty = Descriptor.of(b"{}", media_types.EMPTY)
    raw = encode(
        Manifest(
            media_type=media_types.IMAGE_MANIFEST,
            config=empty,
            layers=(empty,),
            artifact_type="application/vnd.example+json",
            subject=subject.bare,
            annotations={"number": str(number), "org.example.note": "kept"},
        )
    )
    return Descriptor.of(raw, media_types.IMAGE_MANIFEST), raw


def ask(
    site: Site, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """A request with a token that may do anything in the path's repository."""
    repository = path.removeprefix("/v2/").partition("/blobs/")[0].partition("/manifests/")[0]
    token = site.tokens.issue(site.user, {repository: frozenset({"pull", "push"})})
    connection = http.client.HTTPConnection(site.address, timeout=30)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {token.value}", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def assert_pushed(site: Site, name: str, artifact: Artifact, tag: str = "1") -> None:
    """The tag names the image, all of it is there, it came last, and nobody learnt a secret."""
    assert site.named(name, tag) == artifact.digest
    assert site.lacks(name, tag) == []
    kinds = [kind for kind, _ in site.record.order(name)]
    assert kinds == sorted(kinds)  # blobs, manifests, tags
    assert site.record.leaks(site.secrets) == []


# Access


def lead(monkeypatch: pytest.MonkeyPatch, names: dict[str, int]) -> None:
    """Let names lead to ports of loopback, whatever port was asked for."""
    real = socket.getaddrinfo

    def found(host: Any, *arguments: Any, **keywords: Any) -> Any:
        if host in names:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", names[host]))]
        return real(host, *arguments, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", found)


def test_a_github_token_is_enough(
    cli: Cli,
    upstream: object,
    name: str,
    tls: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    docker_config: Callable[[Site], None],
) -> None:
    """As in a workflow: ghcr.io with TLS, and nothing but GITHUB_TOKEN."""
    assert cli("build", *TREES, "-o", f"oci:{tmp_path}/hello", "--label", "source=https://example.org").code == 0
    with ghcr(upstream, tls=tls) as site:
        lead(monkeypatch, site.names)
        monkeypatch.setenv("GITHUB_TOKEN", site.secret)
        access = ("--ca-file", tls.authority)
        result = cli("push", f"oci:{tmp_path}/hello", f"ghcr.io/{name}", "--tag", "{version}", "--json", *access)
        assert result.code == 0, result.err
        said = json.loads(result.out)
        assert site.named(name, "0.2.0") == said["digest"]
        assert len(said["sent"]) == 7
        assert "private" in result.err  # as every new package is
        assert site.lacks(name, "0.2.0") == []
        asked = [item.values["scope"] for item in site.record.at("ghcr", part="/token")]
        assert {scope for [scope] in asked} == {f"repository:{name}:pull", f"repository:{name}:pull,push"}
        assert not [secret for secret in site.secrets if secret in result.out + result.err]
        # And back, by way of the storage.
        assert cli("copy", f"ghcr.io/{name}:0.2.0", f"oci:{tmp_path}/back:1", *access).code == 0
        back = json.loads(cli("inspect", f"oci:{tmp_path}/back:1", "--json").out)
        assert back["digest"] == said["digest"]
        assert site.record.at("storage", "GET")
        assert site.record.leaks(site.secrets) == []


def test_new_packages_are_private(upstream: object, name: str) -> None:
    artifact = image()
    with ghcr(upstream) as site:
        with store(site, name) as own:
            copy(artifact, own, tags=["1"])
        anyone = RegistryStore(
            Reference.parse(f"{site.address}/{name}"), client=RegistryClient(site.address, patience=1)
        )
        with anyone:
            with pytest.raises(AuthError, match="Log in"):
                anyone.resolve("1")
            site.make_public(name)
            assert copy(Artifact(anyone.resolve("1"), anyone), MemoryStore()).digest == artifact.digest
            with pytest.raises(AuthError):
                copy(image("two"), anyone, tags=["1"])
        assert site.named(name, "1") == artifact.digest


def test_a_wrong_secret(cli: Cli, upstream: object, name: str, docker_config: Callable[[Site], None]) -> None:
    with ghcr(upstream) as site:
        docker_config(site)
        secret, site.tokens.secret = site.secret, "ghs_another"
        result = cli("inspect", f"{site.address}/{name}:1")
        assert result.code == 9
        assert secret not in result.out + result.err
        assert len(site.record.at("ghcr", part="/token")) == 1  # asked once: it does not pass


def test_no_right_to_write(upstream: object, name: str) -> None:
    with ghcr(upstream) as site, store(site, name, patience=1) as target:
        site.tokens.read_only.add(name)
        with pytest.raises(AuthError, match="write_package") as caught:
            copy(image(), target, tags=["1"])
        assert caught.value.status == 403
        assert site.named(name, "1") is None


def test_tokens_that_end_on_the_way(upstream: object, name: str) -> None:
    one, two = image(), image("two")
    with ghcr(upstream, token_uses=3) as site, store(site, name) as target:
        target.transfers = 1  # else the others may use up the new token before it is shown
        copy(one, target, tags=["1"])
        assert_pushed(site, name, one)
        assert len(site.tokens.issued) > 3
        for token in site.tokens.issued:
            site.tokens.end(token)
        copy(two, target, tags=["1"])
        assert site.named(name, "1") == two.digest


def test_tokens_that_are_never_good(upstream: object, name: str) -> None:
    with ghcr(upstream, token_life=0) as site, store(site, name, patience=0.4) as target:
        with pytest.raises(AuthError):
            copy(image(), target, tags=["1"])
        assert len(site.tokens.issued) < 5


def test_a_token_is_for_one_repository(upstream: object, name: str) -> None:
    with ghcr(upstream) as site:
        client = RegistryClient(site.address, credential=credential(site), patience=2)
        one = RegistryStore(Reference.parse(f"{site.address}/{name}"), client=client)
        other = RegistryStore(Reference.parse(f"{site.address}/{name}-b"), client=client)
        with one, other:
            for target in (one, other):
                copy(image(), target, tags=["1"])
        assert_pushed(site, name, image())
        assert_pushed(site, f"{name}-b", image())
        token = site.tokens.issue(site.user, {name: frozenset({"pull"})})
        shown = {"Authorization": f"Bearer {token.value}"}
        assert (
            ask(site, "GET", f"/v2/{name}/manifests/1", headers=shown | {"Accept": media_types.IMAGE_INDEX})[0] == 200
        )
        assert ask(site, "GET", f"/v2/{name}-b/manifests/1", headers=shown)[0] == 401
        assert ask(site, "POST", f"/v2/{name}/blobs/uploads/", headers=shown)[0] == 401


def test_tags_that_moved_before_it_failed(
    cli: Cli, upstream: object, name: str, hello: Path, docker_config: Callable[[Site], None]
) -> None:
    with ghcr(upstream, faults=Plan(Fault("denied", path="/manifests/latest"))) as site:
        docker_config(site)
        tags = ("--tag", "latest", "--tag", "{version}")
        result = cli("push", f"oci:{hello}", f"{site.address}/{name}", *tags)
        assert result.code == 9
        assert "write_package" in result.err
        assert "0.2.0" in result.err
        assert site.named(name, "0.2.0") is not None
        assert site.named(name, "latest") is None
        assert not [secret for secret in site.secrets if secret in result.out + result.err]


def test_another_client_gets_along_with_it(upstream: object, name: str, hello: Path, tmp_path: Path) -> None:
    """What plays the registry is honest enough for a client that is not ours."""
    skopeo = require("skopeo")
    with ghcr(upstream) as site:
        who = f"{site.user}:{site.secret}"
        there, back = f"docker://{site.address}/{name}:1", f"oci:{tmp_path}/back:1"
        run(
            [skopeo, "copy", "-q", "--all", "--dest-tls-verify=false", "--dest-creds", who, f"oci:{hello}:0.2.0", there]
        )
        run([skopeo, "copy", "-q", "--all", "--src-tls-verify=false", "--src-creds", who, there, back])
        assert site.lacks(name, "1") == []
        [entry] = json.loads((tmp_path / "back/index.json").read_text())["manifests"]
        assert entry["digest"] == site.named(name, "1")
        assert site.record.at("storage", "GET")
        assert site.record.leaks(site.secrets) == []


# Uploads


def test_what_came_of_a_client_that_went_away(upstream: object, name: str) -> None:
    """The proxy itself: the bytes are kept, and it says so."""
    with ghcr(upstream) as site:
        _, begun, _ = ask(site, "POST", f"/v2/{name}/blobs/uploads/")
        location = begun["Location"].removeprefix(f"http://{site.address}")
        token = site.tokens.issue(site.user, {name: frozenset({"pull", "push"})})
        host, _, port = site.address.partition(":")
        with socket.create_connection((host, int(port))) as connection:
            head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token.value}\r\n"
            connection.sendall(f"{head}Content-Length: 100\r\n\r\n".encode() + bytes(40))
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                assert connection.recv(1) == b""  # it noticed
        status, state, _ = ask(site, "GET", location)
        assert (status, state["Range"]) == (204, "0-39")
        assert state["Location"] != begun["Location"]


def test_the_storage_takes_signatures_and_no_credentials(upstream: object, name: str) -> None:
    """The proxy itself."""
    with ghcr(upstream, signature_uses=1) as site:
        with store(site, name) as target:
            target.push(Descriptor.of(b"hello", "text/plain"), io.BytesIO(b"hello"))
        path = f"/v2/{name}/blobs/{Descriptor.of(b'hello', 'text/plain').digest}"

        def follow(headers: dict[str, str], again: str = "") -> tuple[int, bytes, str]:
            location = again or ask(site, "GET", path)[1]["Location"]
            connection = http.client.HTTPConnection(site.storage_base.removeprefix("http://"), timeout=30)
            try:
                connection.request("GET", location.removeprefix(site.storage_base), headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.read(), location
            finally:
                connection.close()

        status, body, location = follow({})
        assert (status, body) == (200, b"hello")
        assert follow({"Range": "bytes=2-"})[:2] == (206, b"llo")
        assert follow({}, location)[0] == 403
        assert follow({"Authorization": "Bearer x"})[0] == 400
        assert len(site.record.leaks([])) == 1


def test_the_cap_is_on_chunks_only(upstream: object, name: str) -> None:
    """The proxy itself: 4 MiB with a Content-Range, any size without."""
    with ghcr(upstream) as site:

        def patch(size: int, headers: dict[str, str], state: str = "_state=") -> int:
            _, begun, _ = ask(site, "POST", f"/v2/{name}/blobs/uploads/")
            location = begun["Location"].removeprefix(f"http://{site.address}").replace("_state=", state)
            return ask(site, "PATCH", location, bytes(size), headers)[0]

        assert patch(CHUNK_LIMIT, {"Content-Range": f"0-{CHUNK_LIMIT - 1}"}) == 202
        assert patch(CHUNK_LIMIT + 1, {"Content-Range": f"0-{CHUNK_LIMIT}"}) == 416
        assert patch(CHUNK_LIMIT + 1, {}) == 202
        assert patch(10, {"Content-Range": "5-14"}) == 416  # nothing came before
        assert patch(10, {}, state="_state=0") == 400  # not the newest location


def test_a_blob_goes_whole_in_one_request(upstream: object, name: str, big: tuple[Descriptor, bytes]) -> None:
    descriptor, data = big
    with ghcr(upstream) as site, store(site, name) as target:
        target.push(descriptor, io.BytesIO(data))
        [body] = site.record.bodies(descriptor.digest)
        assert (body.method, body.body_size, body.status) == ("PUT", BIG, 201)


@pytest.mark.parametrize("at", [0, 2, 7_000_000, BIG - 1])
def test_a_broken_upload_goes_on_where_it_broke(
    upstream: object, name: str, big: tuple[Descriptor, bytes], at: int
) -> None:
    descriptor, data = big
    # The whole breaks, and then a chunk.
    plan = Plan(Fault("reset_upload", method="PUT", at=at), Fault("reset_upload", method="PATCH", at=MIB))
    with ghcr(upstream, faults=plan) as site, store(site, name) as target:
        target.push(descriptor, io.BytesIO(data))
        assert plan.count("reset_upload") == 2
        assert site.record.sent_again(descriptor.digest, BIG) <= CHUNK_LIMIT
        assert site.record.completed_again() == {}
        assert target.fetch(descriptor).read() == data
        locations = {item.raw.startswith("http") for item in site.record.at("ghcr", "PATCH")}
        assert locations == {False}  # however they were given
        assert site.record.leaks(site.secrets) == []


@pytest.mark.parametrize("size", [1000, BIG])
def test_one_byte_came(upstream: object, name: str, big: tuple[Descriptor, bytes], size: int) -> None:
    """`Range: 0-0` is what registries say for one byte, and for none."""
    data = big[1][:size]
    descriptor = Descriptor.of(data, media_types.LAYER_GZIP)
    with ghcr(upstream, faults=Plan(Fault("reset_upload", at=1))) as site, store(site, name, patience=2) as target:
        target.push(descriptor, io.BytesIO(data))
        assert site.record.sent_again(descriptor.digest, size) <= CHUNK_LIMIT + 1
        assert target.fetch(descriptor).read() == data


def test_a_broken_upload_that_is_not_kept(upstream: object, name: str, big: tuple[Descriptor, bytes]) -> None:
    descriptor, data = big
    plan = Plan(Fault("reset_upload", at=7_000_000))
    with ghcr(upstream, keeps=False, faults=plan) as site, store(site, name) as target:
        target.push(descriptor, io.BytesIO(data))
        assert site.record.sent_again(descriptor.digest, BIG) == 7_000_000
        assert target.exists(descriptor)


def test_a_blob_that_is_done_is_not_sent_again(upstream: object, name: str, big: tuple[Descriptor, bytes]) -> None:
    """The answer to the last byte was lost."""
    descriptor, data = big
    plan = Plan(Fault("lost_answer", method="PUT", path="/blobs/"))
    with ghcr(upstream, faults=plan) as site, store(site, name) as target:
        target.push(descriptor, io.BytesIO(data))
        assert plan.count("lost_answer") == 1
        assert site.record.sent_again(descriptor.digest, BIG) == 0
        assert site.record.completed_again() == {}


PUSH_MEETS = [
    *(Fault(kind) for kind, what in KINDS.items() if what.recoverable and "push" in what.ways and what.times == 1),
    *(Fault(kind, times=3) for kind in ("error_once", "throttled_in_body", "reset_upload")),
    Fault("throttled", seconds=1, method="POST"),
    Fault("lost_answer", method="POST"),
    Fault("lost_answer", method="PUT", path="/manifests/"),
    Fault("lost_answer", method="PUT", path="/manifests/1"),
    Fault("reset", method="PUT", path="/manifests/"),
    Fault("secondary_limit", method="PUT", path="/blobs/"),
    Fault("unavailable", method="PUT", path="/blobs/", times=2),
    Fault("token_expired", method="PUT", path="/blobs/"),
    Fault("token_expired", method="PUT", path="/manifests/1"),
    Fault("error_once", path="^/token"),
    Fault("bad_gateway", path="^/token"),
    Fault("throttled_in_body", path="^/token"),
    Fault("reset", path="^/token"),
]


@pytest.mark.parametrize("fault", PUSH_MEETS, ids=lambda item: f"{item.kind}-{item.method}{item.path}-{item.times}")
def test_a_push_succeeds_in_spite_of(upstream: object, name: str, fault: Fault) -> None:
    artifact, plan = image(), Plan(fault)
    with ghcr(upstream, faults=plan) as site:
        if fault.kind == "wrong_size":  # of what is there
            layer = next(
                item for item in walk(artifact.source, artifact.root) if item.media_type == media_types.LAYER_GZIP
            )
            with store(site, name) as target, artifact.source.fetch(layer) as content:
                target.push(layer, content)
        with store(site, name) as target:
            copy(artifact, target, tags=["1"])
        assert plan.count(fault.kind) == (KINDS[fault.kind].times if fault.times == -1 else fault.times)
        assert_pushed(site, name, artifact)
        assert (site.record.completed_again() == {}) == (fault.kind != "wrong_size")


@pytest.mark.parametrize("seed", range(3))
def test_a_push_succeeds_in_spite_of_several(upstream: object, name: str, seed: int) -> None:
    artifact, plan = image(), Plan.random(seed, 5, size=4096)
    with ghcr(upstream, faults=plan, keeps=seed % 2 == 0) as site, store(site, name, patience=20) as target:
        copy(artifact, target, tags=["1"])
        assert_pushed(site, name, artifact)
        assert plan.fallen


PUSH_FAILS = [
    Fault("error_always"),
    Fault("error_always", method="PUT", path="/blobs/"),
    Fault("error_always", method="PUT", path="/manifests/"),
    Fault("error_always", method="PUT", path="/manifests/1"),
    Fault("error_always", path="^/token"),
    Fault("reset", times=None),
    Fault("reset_upload", times=None),
    Fault("throttled", seconds=3600, times=None),
    Fault("refused_for_ever"),
    Fault("denied"),
    Fault("denied", method="PUT", path="/manifests/1"),
    Fault("hostile_realm", where="http://169.254.169.254/token"),
    Fault("foreign_upload"),
    Fault("foreign_upload", lies=True),
    Fault("wrong_digest", method="PUT", path="/manifests/sha"),
]


@pytest.mark.parametrize(
    ("fault", "keeps"),
    [*((fault, True) for fault in PUSH_FAILS), (Fault("reset_upload", times=None), False)],
    ids=lambda item: f"{item.kind}-{item.method}{item.path}-{item.lies}" if isinstance(item, Fault) else str(item),
)
def test_a_push_fails_in_order(upstream: object, name: str, fault: Fault, keeps: bool) -> None:
    """With the right error, in its time, without a secret, and the tag names what it named."""
    old, new, patience = image(), image("two"), 0.4
    wanted = KINDS[fault.kind].error or RegistryError
    with ghcr(upstream, keeps=keeps) as site:
        with store(site, name) as target:
            copy(old, target, tags=["1"])
        site.plan.add(fault)
        began = time.monotonic()
        with store(site, name, patience=patience) as target, pytest.raises(wanted) as caught:
            copy(new, target, tags=["1"])
        assert time.monotonic() - began < 10 * patience
        assert site.plan.fallen
        assert site.named(name, "1") == old.digest
        assert site.lacks(name, "1") == []
        assert_no_secret(site, caught.value)


def assert_no_secret(site: Site, error: BaseException) -> None:
    texts = [str(error), repr(error)]
    if isinstance(error, OcibuildError):
        texts.append(repr(error.__dict__))
    assert not [secret for secret in site.secrets if any(secret in text for text in texts)]
    assert site.record.leaks(site.secrets) == []


INNER = ("internal", "metadata.google.internal", "169.254.169.254", "2130706433", "::1")
"""Hosts that lead to the evil one, should anybody ask for them."""


def secure(site: Site, name: str, tls: Certificates, *, patience: float = 0.4) -> RegistryStore:
    """The site under its own name, by TLS: where no address of a private network may be named."""
    authority = str(tls.authority)
    client = RegistryClient(site.address, credential=credential(site), ca_file=authority, patience=patience)
    return RegistryStore(Reference.parse(f"{site.address}/{name}"), client=client)


@pytest.mark.parametrize(
    "realm",
    [
        "http://ghcr.io/token",
        "http://evil.example/token",
        "https://internal/token",
        "https://169.254.169.254/token",
        "https://2130706433/token",
        "https://[::1]/token",
        "https://metadata.google.internal/token",
        "https://ghcr.io@evil.example/token",
        "file:///etc/passwd",
    ],
)
def test_a_realm_where_no_secret_goes(
    upstream: object, name: str, tls: Certificates, realm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ghcr(upstream, tls=tls, faults=Plan(Fault("hostile_realm", where=realm))) as site:
        lead(monkeypatch, {**site.names, **dict.fromkeys(INNER, site.names["evil.example"])})
        with secure(site, name, tls) as target, pytest.raises(AuthError) as caught:
            copy(image(), target, tags=["1"])
        assert site.accepted("evil") == 0
        assert (site.plain, site.record.at("ghcr", part="/token")) == ([], [])
        assert_no_secret(site, caught.value)


@pytest.mark.parametrize("where", ["http://ghcr.io/x", "https://internal/x", "https://169.254.169.254/x", "evil"])
@pytest.mark.parametrize("kind", ["foreign_upload", "foreign_blob"])
def test_a_place_where_nothing_goes(
    upstream: object, name: str, tls: Certificates, kind: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob from a public host is a blob; all others are not even asked. None of them sees a credential."""
    artifact = image()
    with ghcr(upstream, tls=tls) as site:
        lead(monkeypatch, {**site.names, **dict.fromkeys(INNER, site.names["evil.example"])})
        with secure(site, name, tls) as target:
            if kind == "foreign_blob":
                copy(artifact, target, tags=["1"])
            site.plan.add(Fault(kind, where=where))
            with pytest.raises(RegistryError) as caught:
                if kind == "foreign_blob":
                    copy(Artifact(target.resolve("1"), target), MemoryStore())
                else:
                    copy(artifact, target, tags=["1"])
        assert site.plan.count(kind)
        assert bool(site.record.at("evil")) == bool(site.accepted("evil")) == (where == "evil")
        assert site.plain == []
        assert_no_secret(site, caught.value)


def test_blobs_go_at_a_time(upstream: object, name: str) -> None:
    with ghcr(upstream, latency=0.05) as site, store(site, name) as target:
        copy(image(), target, tags=["1"])
        assert 2 <= site.record.overlap() <= target.transfers


def test_what_is_there_is_not_sent(upstream: object, name: str) -> None:
    artifact = image()
    with ghcr(upstream) as site:
        with store(site, name) as target:
            copy(artifact, target, tags=["1"])
        before = len(site.record.requests)
        with store(site, name) as target:
            copy(artifact, target, tags=["1", "2"])
        after = site.record.requests[before:]
        assert not [item for item in after if "/blobs/" in item.path]
        assert [item.name for item in after if item.method == "PUT"][-2:] == ["1", "2"]
        assert site.named(name, "2") == artifact.digest


# Pulls


PULL_MEETS = [
    *(Fault(kind) for kind, what in KINDS.items() if what.recoverable and "pull" in what.ways and "mount" not in kind),
    Fault("truncated", path="/blobs/", at=20, times=3),
    Fault("truncated", path="/manifests/", at=20),
    Fault("error_once", path="^/ghcr1/"),
    Fault("reset", path="^/ghcr1/"),
    Fault("token_expired", path="/blobs/"),
]


@pytest.mark.parametrize("fault", PULL_MEETS, ids=lambda item: f"{item.kind}-{item.path}-{item.at}")
def test_a_pull_succeeds_in_spite_of(upstream: object, name: str, fault: Fault) -> None:
    artifact = image()
    with ghcr(upstream, signature_uses=1) as site:
        with store(site, name) as target:
            copy(artifact, target, tags=["1"])
        site.plan.add(fault)
        into = MemoryStore()
        with store(site, name) as source:
            copy(Artifact(source.resolve("1"), source), into, tags=["1"])
        assert site.plan.count(fault.kind) == (KINDS[fault.kind].times if fault.times == -1 else fault.times)
        assert into.resolve("1").digest == artifact.digest
        assert site.record.leaks(site.secrets) == []


def test_a_broken_download_goes_on_by_the_registry(upstream: object, name: str, big: tuple[Descriptor, bytes]) -> None:
    """The storage's URL may have ended: the registry is asked for another one."""
    descriptor, data = big
    plan = Plan(Fault("truncated", server="storage", at=6 * MIB), Fault("truncated", server="storage", at=MIB))
    with ghcr(upstream, faults=plan, signature_uses=1) as site:
        with store(site, name) as target:
            target.push(descriptor, io.BytesIO(data))
            assert target.fetch(descriptor).read() == data
        asked = site.record.at("storage", "GET")
        assert [item.status for item in asked] == [200, 206, 206]
        assert [item.headers.get("range") for item in asked] == [None, f"bytes={6 * MIB}-", f"bytes={7 * MIB}-"]
        assert len(site.record.at("ghcr", "GET", "/blobs/sha")) == 3
        assert site.record.leaks(site.secrets) == []


PULL_FAILS = [
    Fault("flipped", path="/blobs/", at=30),
    Fault("flipped", path="/manifests/sha", at=30),
    Fault("wrong_digest"),
    Fault("other_manifest", path="/manifests/sha"),
    Fault("error_always", path="/blobs/"),
    Fault("refused_for_ever", path="/blobs/"),
    Fault("foreign_blob"),
    Fault("foreign_blob", lies=True),
    Fault("truncated", path="/blobs/", at=0, times=None),
]


@pytest.mark.parametrize("fault", PULL_FAILS, ids=lambda item: f"{item.kind}-{item.path}-{item.lies}")
def test_a_pull_fails_in_order(upstream: object, name: str, fault: Fault) -> None:
    wanted: Any = KINDS[fault.kind].error or RegistryError
    if fault.lies:
        wanted = (RegistryError, DigestMismatchError)
    into, patience = MemoryStore(), 0.4
    with ghcr(upstream) as site:
        with store(site, name) as target:
            copy(image(), target, tags=["1"])
        site.plan.add(fault)
        began = time.monotonic()
        with store(site, name, patience=patience) as source, pytest.raises(wanted) as caught:
            copy(Artifact(source.resolve("1"), source), into, tags=["1"])
        assert time.monotonic() - began < 10 * patience
        assert site.plan.fallen
        assert into.tags() == {}
        assert_no_secret(site, caught.value)


def test_a_flipped_byte_ends_a_command_with_5(
    cli: Cli, upstream: object, name: str, tmp_path: Path, docker_config: Callable[[Site], None]
) -> None:
    with ghcr(upstream) as site:
        docker_config(site)
        with store(site, name) as target:
            copy(image(), target, tags=["1"])
        site.plan.add(Fault("flipped", path="/blobs/", at=30, times=1))
        result = cli("copy", f"{site.address}/{name}:1", f"oci:{tmp_path}/out:1")
        assert result.code == 5, result.err
        assert cli("inspect", f"oci:{tmp_path}/out:1").code != 0
        assert cli("copy", f"{site.address}/{name}:1", f"oci:{tmp_path}/out:1").code == 0


def test_a_manifest_by_digest_is_what_was_asked_for(upstream: object, name: str) -> None:
    """Another image's manifest, with a header that is true of it."""
    one, two = image(), image("two")
    with ghcr(upstream) as site:
        with store(site, name) as target:
            for artifact in (one, two):
                copy(artifact, target)
        site.plan.add(Fault("other_manifest", path="/manifests/", body=read_blob(two.source, two.root)))
        with store(site, name, patience=1) as source:
            with pytest.raises(DigestMismatchError):
                source.resolve(one.digest)
            with pytest.raises(DigestMismatchError):
                source.tag(one.root, "1")
        assert site.named(name, "1") is None


# Mounts


@pytest.mark.parametrize("kind", ["mount_201", "mount_202", "mount_401", "mount_404", ""])
def test_mounts(upstream: object, name: str, kind: str) -> None:
    """Only 201 is a mounted blob; whatever else it is, the blob is sent."""
    artifact, plan = image(), Plan()
    with ghcr(upstream, faults=plan) as site:
        with store(site, f"{name}-a") as first:
            copy(artifact, first, tags=["1"])
        if kind:
            plan.add(Fault(kind))
        with store(site, name, mount_from=(f"{name}-a",), patience=2) as second:
            copy(artifact, second, tags=["1"])
            hows = set(second.outcome.values())
        assert_pushed(site, name, artifact)
        tried = site.record.at("ghcr", "POST", "?mount")
        assert len([item for item in tried if item.status == 201 or item.faults or not kind]) >= 3
        bodies = [item for item in site.record.requests if item.is_upload_body and item.repository == name]
        # Without a fault the token decides: it must be good for reading the other repository too.
        assert (hows, len(bodies)) == (({"mounted", "sent"}, 0) if kind in ("mount_201", "") else ({"sent"}, 3))


def test_a_mount_from_a_repository_that_has_it_not(upstream: object, name: str) -> None:
    artifact = image()
    with ghcr(upstream) as site:
        with store(site, name, mount_from=("grove/nothing", f"{name}-no")) as target:
            copy(artifact, target, tags=["1"])
        assert_pushed(site, name, artifact)


# Referrers


def push_signatures(target: RegistryStore, subject: Descriptor, count: int) -> list[Descriptor]:
    target.push(Descriptor.of(b"{}", media_types.EMPTY), io.BytesIO(b"{}"))
    made = [signature(subject, number) for number in range(count)]
    for descriptor, raw in made:
        target.push(descriptor, io.BytesIO(raw))
    return [descriptor for descriptor, _ in made]


def test_referrers_by_the_attached_tag(upstream: object, name: str) -> None:
    artifact = image()
    with ghcr(upstream) as site, store(site, name) as target:
        copy(artifact, target, tags=["1"])
        made = push_signatures(target, artifact.root, 3)
        accept = {"Accept": media_types.IMAGE_INDEX}
        status, headers, raw = ask(site, "GET", f"/v2/{name}/manifests/{attached_tag(artifact.digest)}", headers=accept)
        listed = json.loads(raw)
        assert (status, headers["Content-Type"], listed["mediaType"]) == (200, *[media_types.IMAGE_INDEX] * 2)
        assert [item["digest"] for item in listed["manifests"]] == [item.digest for item in made]
        assert [item["annotations"] for item in listed["manifests"]] == [
            {"number": str(number), "org.example.note": "kept"} for number in range(3)
        ]
        assert {item["artifactType"] for item in listed["manifests"]} == {"application/vnd.example+json"}
        assert [item.digest for item in target.referrers(artifact.root)] == [item.digest for item in made]
        # Again: nothing is listed twice.
        push_signatures(target, artifact.root, 3)
        assert len(target.referrers(artifact.root)) == 3
        # A copy brings them along.
        into = MemoryStore()
        copy(Artifact(target.resolve("1"), target), into, referrers=True)
        assert {item.digest for item in into.referrers(artifact.root)} == {item.digest for item in made}


def test_referrers_by_the_api(upstream: object, name: str) -> None:
    artifact = image()
    with ghcr(upstream, has_referrers=True, page=2) as site, store(site, name, patience=1) as target:
        copy(artifact, target, tags=["1"])
        made = push_signatures(target, artifact.root, 5)
        assert [item.digest for item in target.referrers(artifact.root)] == [item.digest for item in made]
        assert site.named(name, attached_tag(artifact.digest)) is None
        for fault in (Fault("referrers_loop"), Fault("foreign_link", path="/referrers/")):
            site.plan.add(fault)
            with pytest.raises(RegistryError):
                target.referrers(artifact.root)
            site.plan.clear()
        assert site.record.at("evil") == []


def test_a_fallback_tag_that_names_the_subject_itself(upstream: object, name: str) -> None:
    artifact = image()
    with ghcr(upstream) as site, store(site, name) as target:
        copy(artifact, target, tags=["1", attached_tag(artifact.digest)])
        assert target.referrers(artifact.root) == []
        made = push_signatures(target, artifact.root, 1)
        assert [item.digest for item in target.referrers(artifact.root)] == [item.digest for item in made]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("error_once", method="PUT", path="/manifests/sha256-"),
        Fault("lost_answer", method="PUT", path="/manifests/sha256-"),
        Fault("reset", method="GET", path="/manifests/sha256-"),
        Fault("throttled_in_body", method="GET", path="/manifests/sha256-"),
    ],
    ids=lambda item: f"{item.kind}-{item.method}",
)
def test_referrers_in_spite_of(upstream: object, name: str, fault: Fault) -> None:
    artifact = image()
    with ghcr(upstream, faults=Plan(fault)) as site, store(site, name) as target:
        copy(artifact, target, tags=["1"])
        made = push_signatures(target, artifact.root, 2)
        assert site.plan.count(fault.kind) == 1
        assert [item.digest for item in target.referrers(artifact.root)] == [item.digest for item in made]


# Lists, and what is not there


def test_tags_in_pages(upstream: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocibuild.registry.store._PAGES", 20)  # a loop of a thousand pages takes its time
    names = [f"t{number}" for number in range(7)]
    with ghcr(upstream, page=3) as site, store(site, name, patience=1) as target:
        copy(image(), target, tags=names)
        assert target.tag_names() == names
        assert len(site.record.at("ghcr", "GET", "/tags/list")) == 3
        for fault in (Fault("tags_loop"), Fault("foreign_link", path="/tags/")):
            site.plan.add(fault)
            with pytest.raises(RegistryError):
                target.tag_names()
            site.plan.clear()
        assert site.record.at("evil") == []


def test_nothing_can_be_deleted(upstream: object, name: str) -> None:
    with ghcr(upstream) as site:
        with store(site, name) as target:
            copy(image(), target, tags=["1"])
        status, _, raw = ask(site, "DELETE", f"/v2/{name}/manifests/1")
        assert (status, json.loads(raw)["errors"][0]["code"]) == (405, "UNSUPPORTED")
        assert site.named(name, "1") is not None


def test_what_is_not_there(upstream: object, name: str) -> None:
    with ghcr(upstream) as site, store(site, name, patience=1) as target:
        with pytest.raises(NotFoundError):
            target.resolve("1")
        with pytest.raises(NotFoundError):
            target.fetch(Descriptor.of(b"x", media_types.LAYER))
        assert target.tag_names() == []
