"""What the client inherits from oras: every request through `send`, with our authorization, or refused.

The registry is Debian's. In front of it stands a gate that wants tokens, sends readers of blobs to another origin when
told to, and writes down what it was asked.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import importlib.metadata
import inspect
import io
import itertools
import json
import re
import ssl
import tarfile
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import oras.auth.base
import oras.provider
import pytest
import requests

from ocibuild import Platform, build_image, copy
from ocibuild.errors import NotFoundError, OcibuildError
from ocibuild.layer import File, build_layer
from ocibuild.oci import Descriptor, Digest, Reference
from ocibuild.registry import Credential, RegistryClient, RegistryStore
from tests.support.certificates import Certificates, make_certificates
from tests.support.tools import ROOT
from tests.support.wire import REGISTRY, WiredClient, answer

PASSWORD = "s3cret-passw0rd"
REPOSITORY = "grove/hello"
BASIC = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()


@dataclass
class Gate:
    """What was asked, and how to behave."""

    upstream: str
    address: str = ""
    storage: str = ""
    redirects: bool = False
    corrupts: bool = False
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    tokens: list[dict[str, str]] = field(default_factory=list)

    def scope(self, token: str) -> tuple[str, set[str]]:
        """The repository and actions that a token is for."""
        _, repository, actions = base64.urlsafe_b64decode(token).decode().split(":")
        return repository, set(actions.split(","))


def handler(gate: Gate, *, is_storage: bool) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            with suppress(ConnectionError):
                super().handle_one_request()

        def log_message(self, *_: object) -> None:
            pass

        def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def forward(self, body: bytes) -> None:
            connection = http.client.HTTPConnection(gate.upstream, timeout=10)
            kept = {key: value for key, value in self.headers.items() if key.lower() != "authorization"}
            connection.request(self.command, self.path, body or None, kept)
            answer = connection.getresponse()
            content = answer.read()
            if gate.corrupts and self.command == "GET" and content:
                content = bytes([content[0], content[1] ^ 1]) + content[2:]
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "date", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Set-Cookie", "session=1; Path=/")
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            authorization = self.headers.get("Authorization", "")
            parts = urlsplit(self.path)
            if parts.path == "/token":
                scope = parse_qs(parts.query)["scope"][0]
                gate.tokens.append({"scope": scope, "authorization": authorization})
                token = base64.urlsafe_b64encode(scope.encode()).decode()
                self.reply(200, json.dumps({"token": token, "expires_in": 300}).encode())
                return
            gate.asked.append(("storage" if is_storage else self.command, self.path, dict(self.headers.items())))
            if is_storage:
                self.forward(body)
                return
            wanted = "pull" if self.command in ("GET", "HEAD") else "push"
            repository, actions = "", set[str]()
            if authorization.startswith("Bearer "):
                repository, actions = gate.scope(authorization[7:])
            if wanted not in actions or not self.path.startswith(f"/v2/{repository}/"):
                challenge = (
                    f'Bearer realm="http://{gate.address}/token",service="gate",scope="repository:placeholder:pull"'
                )
                self.reply(401, WWW_Authenticate=challenge)
            elif gate.redirects and self.command == "GET" and "/blobs/sha256:" in self.path:
                self.reply(307, Location=f"http://{gate.storage}{self.path}?signature={PASSWORD}")
            else:
                self.forward(body)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = serve

    return Handler


@contextmanager
def served(kind: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on loopback; its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def gate(upstream: str) -> Iterator[Gate]:
    found = Gate(upstream)
    with served(handler(found, is_storage=False)) as address, served(handler(found, is_storage=True)) as storage:
        found.address, found.storage = address, storage
        yield found


@pytest.fixture
def client(gate: Gate) -> Iterator[RegistryClient]:
    found = RegistryClient(gate.address, credential=Credential(username="me", password=PASSWORD), patience=1.0)
    yield found
    found.session.close()


@dataclass(frozen=True)
class Image:
    root: Descriptor
    layer: Descriptor


@pytest.fixture
def image(upstream: str) -> Image:
    """An image that is there, with two tags."""
    reference = Reference.parse(f"{upstream}/{REPOSITORY}")
    with RegistryStore(reference, client=RegistryClient(upstream)) as store:
        layer = build_layer([File(path="lib/x.so", content=b"x" * 3000)], into=store)
        made = build_image([layer], platform=Platform.parse("amd64"), into=store)
        copy(made, store, tags=["1.0", "latest"])
    return Image(made.root, layer.descriptor)


def name(gate: Gate, tag: str = "") -> str:
    return f"{gate.address}/{REPOSITORY}" + (f":{tag}" if tag else "")


def there(upstream: str, descriptor: Descriptor) -> bytes:
    """A blob of the repository, read by other means."""
    answer = requests.get(f"http://{upstream}/v2/{REPOSITORY}/blobs/{descriptor.digest}", timeout=10)
    assert answer.status_code == 200
    return answer.content


def check(gate: Gate, client: RegistryClient) -> None:
    """Every request was `send`'s, every token asked for with our scope, and no secret left the registry."""
    assert len(gate.asked) == client.requests_sent
    for token in gate.tokens:
        assert token["authorization"] == BASIC
        assert re.fullmatch(rf"repository:{REPOSITORY}:pull(,push)?", token["scope"])
    for place, _, headers in gate.asked:
        assert "Cookie" not in headers
        assert headers["User-Agent"] == "ocibuild"
        assert place != "storage" or "Authorization" not in headers
        assert BASIC not in headers.values()


def blob(folder: Path, data: bytes = b"hello, world") -> tuple[str, dict[str, Any], Descriptor]:
    """A file, and what oras and what we call its description."""
    path = folder / "blob"
    path.write_bytes(data)
    descriptor = Descriptor.of(data, "application/octet-stream")
    layer = {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}
    return str(path), layer, descriptor


# What the base class looks like

WORKS = {"blob_exists", "chunked_upload", "get_blob", "get_tags", "put_upload", "upload_blob"}
"""What the inherited methods do over our requests, and may."""

REFUSED = {
    "delete_tag": "it deletes the manifest, and with it every other tag that names it",
    "delete_tags": "the same",
    "download_blob": "it writes a file without verifying it",
    "get_manifest": "it hands on what is not verified",
    "login": "it writes the password into a file that everyone may read",
    "logout": "it says that it did, and does nothing",
    "pull": "it verifies nothing, and unpacks with extractall",
    "push": "it writes manifests as JSON of its own",
    "set_header": "what it sets would be sent to every origin",
    "upload_manifest": "it writes JSON of its own, which has another digest than what was signed",
}
"""What must not work, and why."""

LOCAL = {"get_container", "version", "do_request"}
PRIVATE = {
    "_check_200_response",
    "_chunked_upload",
    "_do_paginated_request",
    "_download_blob",
    "_get_location",
    "_parse_manifest_ref",
    "_parse_response_errors",
    "_put_upload",
    "_upload_blob",
    "_upload_manifest",
    "_validate_path",
}
CHANGED = "oras has changed: see what the new version does with our requests, then put it into this file"


def test_oras_is_the_one_that_was_read() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [pinned] = [item for item in project["dependencies"] if item.startswith("oras")]
    assert pinned == f"oras=={importlib.metadata.version('oras')}" == "oras==0.2.43", CHANGED


def test_the_base_class_has_the_methods_that_are_known() -> None:
    methods = {key for key, _ in inspect.getmembers(oras.provider.Registry, callable) if not key.startswith("__")}
    assert methods == WORKS | set(REFUSED) | LOCAL | PRIVATE, CHANGED
    backend = {key for key, _ in inspect.getmembers(oras.auth.base.AuthBackend, callable) if not key.startswith("__")}
    assert backend == {
        "_get_auth_from_creds_store",
        "_load_auth",
        "_logout",
        "get_auth_header",
        "get_container",
        "load_configs",
        "logout",
        "request_anonymous_token",
        "set_basic_auth",
        "set_token_auth",
    }, CHANGED


def parameters(function: Callable[..., object]) -> list[tuple[str, object]]:
    found = inspect.signature(function).parameters.values()
    return [(item.name, item.default) for item in found if item.name != "self"]


def test_what_we_call_and_override_has_the_signature_that_is_known() -> None:
    assert parameters(oras.provider.Registry.__init__) == [
        ("hostname", None),
        ("insecure", False),
        ("tls_verify", True),
        ("auth_backend", "token"),
    ], CHANGED
    requested = [("url", inspect.Parameter.empty), ("method", "GET"), ("data", None), ("headers", None)]
    requested += [("json", None), ("stream", False)]
    assert parameters(oras.provider.Registry.do_request) == requested, CHANGED
    assert parameters(RegistryClient.do_request) == requested
    loaded = [("container", inspect.Parameter.empty), ("configs", None)]
    assert parameters(oras.auth.base.AuthBackend.load_configs) == loaded, CHANGED
    assert parameters(type(RegistryClient("localhost").auth).load_configs) == loaded


def test_the_base_class_makes_the_attributes_that_are_known() -> None:
    made = oras.provider.Registry("localhost:5000", insecure=True, tls_verify="ca.pem")
    assert set(vars(made)) == {"hostname", "headers", "session", "prefix", "_tls_verify", "auth"}, CHANGED
    assert (made.hostname, made.prefix, made._tls_verify) == ("localhost:5000", "http", "ca.pem"), CHANGED
    assert isinstance(made.session, requests.Session), CHANGED
    assert made.session.cookies.get_policy().is_blocked("localhost") is False, CHANGED  # type: ignore[attr-defined]
    assert made.session.cookies.get_policy().allowed_domains() == (), CHANGED  # type: ignore[attr-defined]
    client = RegistryClient("localhost:5000")
    assert client.auth.session is client.session
    assert client.session.auth is not None  # else ~/.netrc takes the place of our header
    assert set(vars(made)) <= set(vars(client))


def test_inherited_methods_do_request_by_ours_only() -> None:
    """Nothing in the base class reaches the session but `do_request` and the backends that we replace."""
    for key, function in inspect.getmembers(oras.provider.Registry, inspect.isfunction):
        if key not in ("do_request", "__init__"):
            assert "self.session" not in inspect.getsource(function), f"{key}: {CHANGED}"
            assert "requests.request(" not in inspect.getsource(function), f"{key}: {CHANGED}"


# What works


def test_get_tags(gate: Gate, client: RegistryClient, image: Image) -> None:
    assert sorted(client.get_tags(name(gate))) == ["1.0", "latest"]
    assert len(client.get_tags(name(gate), N=1)) == 1
    with pytest.raises(NotFoundError):
        client.get_tags(f"{gate.address}/{REPOSITORY}/none")
    assert len(gate.tokens) == 2
    gate.tokens.pop()
    check(gate, client)


@pytest.mark.parametrize("link", [b"</v2/o/x/tags/list>", b"<more/list>", b"<https://other.example/v2/>"])
def test_get_tags_of_a_list_that_does_not_end_or_goes_elsewhere(link: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    client = WiredClient(answer(b'{"tags":["a"]}', b"Link: " + link + b'; rel="next"'))
    send, count = client.send, itertools.count()
    monkeypatch.setattr("ocibuild.registry.client._PAGES", 20)

    def counted(*arguments: Any, **keywords: Any) -> Any:
        assert next(count) < 40
        return send(*arguments, **keywords)

    monkeypatch.setattr(client, "send", counted)
    with suppress(OcibuildError):
        client.get_tags(f"{REGISTRY}/o/x")
    assert {visit.host for visit in client.visits} <= {REGISTRY}


def test_blob_exists(gate: Gate, client: RegistryClient, image: Image) -> None:
    container = client.get_container(name(gate))
    assert client.blob_exists({"digest": str(image.layer.digest)}, container) is True
    assert client.blob_exists({"digest": str(Digest.of(b"another"))}, container) is False
    check(gate, client)


@pytest.mark.parametrize("redirects", [False, True])
def test_get_blob(gate: Gate, client: RegistryClient, image: Image, upstream: str, redirects: bool) -> None:
    gate.redirects = redirects
    expected = there(upstream, image.layer)
    digest = str(image.layer.digest)
    assert client.get_blob(name(gate), digest).content == expected
    with client.get_blob(name(gate), digest, stream=True) as answer:
        assert b"".join(answer.iter_content(100)) == expected
    assert client.get_blob(name(gate), digest, head=True).headers["Content-Length"] == str(len(expected))
    with pytest.raises(NotFoundError):
        client.get_blob(name(gate), str(Digest.of(b"another")))
    assert [place for place, _, _ in gate.asked].count("storage") == (3 if redirects else 0)
    check(gate, client)


def test_get_blob_of_what_is_too_long_to_hold_gives_all_or_an_error(
    gate: Gate, client: RegistryClient, upstream: str
) -> None:
    data = bytes(9 * 2**20)
    with RegistryStore(Reference.parse(f"{upstream}/{REPOSITORY}"), client=RegistryClient(upstream)) as store:
        descriptor = Descriptor.of(data, "application/octet-stream")
        store.push(descriptor, io.BytesIO(data))
    try:
        content = client.get_blob(name(gate), str(descriptor.digest)).content
    except OcibuildError:
        return
    assert len(content) == len(data)


@pytest.mark.parametrize("method", ["upload_blob", "upload_blob in chunks", "put_upload", "chunked_upload"])
def test_uploads(gate: Gate, client: RegistryClient, tmp_path: Path, upstream: str, method: str) -> None:
    path, layer, descriptor = blob(tmp_path, f"for {method}".encode())
    container = client.get_container(name(gate))
    options: dict[str, Any] = {"do_chunked": True} if "in chunks" in method else {}
    if "chunk" in method:
        options["chunk_size"] = 5
    answer = getattr(client, method.partition(" ")[0])(path, container, layer, **options)
    assert answer.status_code == 201
    assert there(upstream, descriptor) == f"for {method}".encode()
    check(gate, client)
    scopes = [token["scope"].rpartition(":")[2] for token in gate.tokens]
    assert scopes == (["pull", "pull,push"] if method.startswith("upload_blob") else ["pull,push"])


def test_an_upload_of_what_is_there_sends_nothing(
    gate: Gate, client: RegistryClient, image: Image, tmp_path: Path
) -> None:
    path, layer, _ = blob(tmp_path)
    container = client.get_container(name(gate))
    for _ in range(2):
        client.upload_blob(path, container, layer)
    assert [method for method, _, _ in gate.asked].count("PUT") == 1
    check(gate, client)


def test_another_registry_gets_no_secret(gate: Gate, client: RegistryClient, upstream: str, image: Image) -> None:
    for call in (
        lambda: client.get_tags(f"{gate.storage}/{REPOSITORY}"),
        lambda: client.get_blob(f"{gate.storage}/{REPOSITORY}", str(image.layer.digest)),
        lambda: client.get_tags(f"http://{gate.storage}/{REPOSITORY}"),
        lambda: client.do_request(f"http://{gate.storage}/v2/", headers={"Authorization": BASIC}),
    ):
        with suppress(OcibuildError, ValueError):
            call()
    client.get_tags(name(gate))
    for place, _, headers in gate.asked:
        assert place != "storage" or "Authorization" not in headers


def test_a_header_of_the_callers_is_not_sent_elsewhere(gate: Gate, client: RegistryClient, image: Image) -> None:
    gate.redirects = True
    for key in ("Authorization", "authorization", "X-Token", "Private-Token"):
        with suppress(OcibuildError):
            client.set_header(key, PASSWORD)
    client.get_blob(name(gate), str(image.layer.digest))
    assert gate.asked[-1][0] == "storage"
    for place, _, headers in gate.asked:
        assert headers.get("Authorization") != PASSWORD
        assert place != "storage" or PASSWORD not in headers.values()


def test_nothing_is_read_from_dockers_configuration(
    gate: Gate, client: RegistryClient, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """oras loads it, helpers and all, at every call for a manifest."""
    program = tmp_path / "docker-credential-x"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    (tmp_path / ".docker").mkdir()
    config = {"auths": {gate.address: {"auth": "b3RoZXI6b3RoZXI="}}, "credsStore": "x"}
    (tmp_path / ".docker" / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for method in ("get_manifest", "get_tags"):
        with suppress(OcibuildError):
            getattr(client, method)(name(gate, "1.0"))
    assert not (tmp_path / "ran").exists()
    assert gate.asked
    check(gate, client)


# What is refused


def test_refused_methods_say_so(gate: Gate, client: RegistryClient, image: Image, tmp_path: Path) -> None:
    _, layer, _ = blob(tmp_path)
    container = client.get_container(name(gate, "1.0"))
    calls: dict[str, tuple[object, ...]] = {
        "delete_tag": (name(gate), "1.0"),
        "delete_tags": (name(gate), ["1.0"]),
        "download_blob": (name(gate), str(image.layer.digest), str(tmp_path / "out")),
        "get_manifest": (name(gate, "1.0"),),
        "login": ("me", PASSWORD),
        "logout": (gate.address,),
        "pull": (name(gate, "1.0"),),
        "push": (name(gate, "2.0"),),
        "set_header": ("X-Token", PASSWORD),
        "upload_manifest": ({"schemaVersion": 2, "config": layer, "layers": []}, container),
    }
    assert set(calls) == set(REFUSED)
    allowed = []
    for method, arguments in calls.items():
        try:
            getattr(client, method)(*arguments, **({"config_path": str(tmp_path / "c")} if method == "login" else {}))
        except OcibuildError:
            continue
        allowed.append(f"{method}: {REFUSED[method]}")
    assert not allowed


def test_no_inherited_method_hands_on_what_is_not_verified(
    gate: Gate, client: RegistryClient, image: Image, tmp_path: Path
) -> None:
    gate.corrupts = True
    by_digest = f"{name(gate)}@{image.root.digest}"
    handed_on = []
    for method, arguments in (
        ("download_blob", (name(gate), str(image.layer.digest), str(tmp_path / "out"))),
        ("pull", (by_digest,)),
        ("get_manifest", (by_digest,)),
    ):
        try:
            getattr(client, method)(*arguments, **({"outdir": str(tmp_path)} if method == "pull" else {}))
        except OcibuildError:
            continue
        except ValueError:  # the damage shows in the JSON: not found, but stumbled over
            continue
        handed_on.append(method)
    assert not handed_on
    written = tmp_path / "out"
    assert not written.exists() or Digest.of(written.read_bytes()) == image.layer.digest


def test_login_writes_no_file_of_its_own(
    client: RegistryClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(OcibuildError):
        client.login("me", PASSWORD)
    assert list(tmp_path.rglob("*.json")) == []


def test_pull_unpacks_nothing_outside(
    gate: Gate, client: RegistryClient, image: Image, upstream: str, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        link = tarfile.TarInfo("dir/link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "elsewhere")
        archive.addfile(link)
        member = tarfile.TarInfo("dir/link/evil")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    (tmp_path / "elsewhere").mkdir()
    raw = buffer.getvalue()
    config = b"{}"
    with RegistryStore(Reference.parse(f"{upstream}/{REPOSITORY}"), client=RegistryClient(upstream)) as store:
        for data in (raw, config):
            store.push(Descriptor.of(data, "application/octet-stream"), io.BytesIO(data))
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": described(config, "application/vnd.oci.image.config.v1+json"),
                "layers": [
                    {
                        **described(raw, "application/vnd.oci.image.layer.v1.tar+gzip"),
                        "annotations": {"org.opencontainers.image.title": "dir"},
                    }
                ],
            }
        ).encode()
        descriptor = Descriptor.of(manifest, "application/vnd.oci.image.manifest.v1+json")
        store.push(descriptor, io.BytesIO(manifest))
        store.tag(descriptor, "evil")
    with suppress(OcibuildError):
        client.pull(name(gate, "evil"), outdir=str(tmp_path / "out"))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def described(data: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": "sha256:" + hashlib.sha256(data).hexdigest(), "size": len(data)}


def test_a_tag_beside_the_deleted_one_stays(gate: Gate, client: RegistryClient, image: Image) -> None:
    with suppress(OcibuildError):
        client.delete_tag(name(gate), "1.0")
    with RegistryStore(Reference.parse(f"{gate.upstream}/{REPOSITORY}"), client=RegistryClient(gate.upstream)) as store:
        assert store.resolve("latest").digest == image.root.digest


def test_the_backends_own_ways_to_a_secret_are_closed(gate: Gate, client: RegistryClient, image: Image) -> None:
    """`set_basic_auth` and the like change nothing; what would ask a realm without looking at it does not."""
    with suppress(OcibuildError):
        client.auth.set_basic_auth("other", "other")
    with suppress(OcibuildError, AttributeError):
        client.auth.set_token_auth("other")
    with suppress(OcibuildError, NotImplementedError):
        client.auth.get_auth_header()
    client.get_tags(name(gate))
    check(gate, client)
    header = oras.auth.utils.authHeader({"realm": f"http://{gate.storage}/token?scope=x", "service": "s", "scope": "x"})
    before = len(gate.tokens)
    with suppress(OcibuildError):
        client.auth.request_anonymous_token(header, {})
    assert len(gate.tokens) == before


# What the session beneath shows, and to whom


@contextmanager
def tls_server(certificates: Certificates, redirect: str = "") -> Iterator[tuple[str, list[bool]]]:
    """A server that asks for a client certificate and takes none too; its address, and who showed one."""
    shown: list[bool] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            connection: Any = self.connection
            shown.append(bool(connection.getpeercert()))
            self.send_response(307 if redirect else 200)
            if redirect:
                self.send_header("Location", redirect)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    context.load_verify_locations(certificates.authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", shown
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("is_named", [True, False])
def test_a_client_certificate_is_shown_to_the_registry_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_named: bool
) -> None:
    certificates = make_certificates(tmp_path)
    if not is_named:  # the system trusts the authority
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    with (
        tls_server(certificates) as (storage, at_storage),
        tls_server(certificates, f"https://{storage}/blob") as (address, at_registry),
    ):
        client = RegistryClient(
            address,
            ca_file=str(certificates.authority) if is_named else None,
            client_certificate=(str(certificates.client), str(certificates.client_key)),
            patience=0.0,
        )
        for _ in range(2):
            client.send("GET", f"{client.base}/v2/o/x/blobs/y", scope="")
        client.session.close()
    assert at_registry == [True, True]
    assert at_storage == [False, False]
