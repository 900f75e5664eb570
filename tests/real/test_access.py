"""Getting in: real registries that ask for a password, a token or a certificate, and what happens without the right one."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import signal
import socket
import stat
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests.utils

from ocibuild import Artifact, MemoryStore, Platform, build_image, copy
from ocibuild.errors import AuthError, OcibuildError, RegistryError
from ocibuild.layer import File, build_layer
from ocibuild.locations import RegistryOptions, open_artifact, open_registry
from ocibuild.oci import Descriptor, Reference
from ocibuild.registry import Credential, RegistryClient, RegistryStore, client, credentials, find_credential
from tests.conftest import Result
from tests.support.certificates import Certificates, make_certificates
from tests.support.registry import PASSWORD, USER, Seen, registry, seen
from tests.support.tokens import Account, TokenService, token_service

WRONG = "wr0ng-passw0rd"
READING = "s3cret-of-the-reader"
ELSEWHERE = "s3cret-of-the-elm"
IDENTITY = "1dentity-of-the-grove"
WORKFLOW = "w0rkflow-token"

WRITER = Account(USER, {"grove/*": "pull,push", "open/*": "pull,push"}, password=PASSWORD, identity_token=IDENTITY)
READER = Account("reader", {"*": "pull"}, password=READING)
STRANGER = Account("elm", {"elm/*": "pull,push"}, password=ELSEWHERE)
OPEN = {"open/*": "pull"}

NAME = "registry.example"
"""A name that is none of loopback's; in these tests it leads there all the same."""

Run = Callable[..., Result]


def encoded(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


SECRETS = frozenset(
    [WRONG, WORKFLOW, IDENTITY]
    + [account.password for account in (WRITER, READER, STRANGER)]
    + [encoded(account.name, word) for account in (WRITER, READER, STRANGER) for word in (account.password, WRONG)]
)


@dataclass
class Said:
    """All that a person or a log could read, and what must not be in it."""

    texts: list[str] = field(default_factory=list)
    services: list[TokenService] = field(default_factory=list)

    def check(self) -> None:
        text = "\n".join(self.texts)
        secrets = SECRETS.union(*(service.issued for service in self.services))
        assert [secret for secret in secrets if secret in text] == []

    @contextmanager
    def refusal(self, kind: type[OcibuildError] = AuthError) -> Iterator[pytest.ExceptionInfo[OcibuildError]]:
        """As `pytest.raises`."""
        with pytest.raises(kind) as caught:
            yield caught
        error = caught.value
        self.texts += [*traceback.format_exception(error), repr(error), json.dumps(error.to_dict())]
        traceback.clear_frames(error.__traceback__)


@dataclass(frozen=True)
class Place:
    """A running registry."""

    address: str
    folder: Path

    @property
    def requests(self) -> list[Seen]:
        return seen(self.folder)

    @property
    def port(self) -> str:
        return self.address.rpartition(":")[2]

    def refused(self) -> list[Seen]:
        return [item for item in self.requests if item.status == 401]


Start = Callable[..., Place]


@pytest.fixture(autouse=True)
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Said]:
    """No secret in what is printed, raised or logged, in any of these tests."""
    caplog.set_level(logging.DEBUG)
    found = Said()
    yield found
    found.texts += [record.getMessage() for record in caplog.get_records("call")]
    found.check()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home: no credentials but those of the test. A registry that cannot be reached is given up at once."""
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    for name in ("GITHUB_TOKEN", "GITHUB_ACTOR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(client, "FIRST_PATIENCE", 0.0)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def run(cli: Run, said: Said, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command line with standard input; what it says is remembered."""

    def call(*arguments: str | Path, stdin: str = "") -> Result:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        result = cli(*arguments)
        said.texts += [result.out, result.err]
        return result

    return call


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start registries that end with the test."""
    with ExitStack() as stack:

        def call(**options: Any) -> Place:
            folder = tmp_path / f"registry-{len(os.listdir(tmp_path))}"
            folder.mkdir()
            return Place(stack.enter_context(registry(folder, **options)), folder)

        yield call


@pytest.fixture
def locked(start: Start) -> Place:
    """A registry with a password."""
    return start(htpasswd=True)


@pytest.fixture
def tokens(tmp_path: Path, said: Said) -> Iterator[TokenService]:
    with token_service(tmp_path, WRITER, READER, STRANGER, anonymous=OPEN) as service:
        said.services.append(service)
        yield service


@pytest.fixture
def guarded(start: Start, tokens: TokenService) -> Place:
    """A registry that wants tokens."""
    return start(token=tokens)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), names=(NAME,))


@pytest.fixture
def _named(monkeypatch: pytest.MonkeyPatch) -> None:
    """`NAME` leads to loopback."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **keywords: Any) -> Any:
        return resolve("127.0.0.1" if host == NAME else host, *arguments, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def image(number: int = 0) -> Artifact:
    store = MemoryStore()
    layer = build_layer([File(path="lib/x.so", content=b"%d" % number * 5000)], into=store)
    return build_image([layer], platform=Platform.parse("amd64"), into=store)


def blob(data: bytes) -> tuple[Descriptor, io.BytesIO]:
    return Descriptor.of(data, "application/octet-stream"), io.BytesIO(data)


def opened(place: Place, repository: str, account: Account | None = WRITER, **options: Any) -> RegistryStore:
    """A repository, as an account; None for what the container tools have stored."""
    if account is not None:
        options |= {"username": account.name, "password": account.password}
    return open_registry(Reference.parse(f"{place.address}/{repository}"), RegistryOptions(**options))


def pushed(place: Place, repository: str, **options: Any) -> Artifact:
    """An image that is there, tag 1."""
    with opened(place, repository, **options) as store:
        return copy(image(), store, tags=["1"])


def docker(home: Path, config: Mapping[str, object]) -> Path:
    path = home / ".docker" / "config.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(config))
    return path


def podman(home: Path, auths: Mapping[str, object]) -> Path:
    path = home / ".config" / "containers" / "auth.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"auths": auths}))
    return path


def entry(user: str, password: str) -> dict[str, str]:
    return {"auth": encoded(user, password)}


def as_user(name: str = USER) -> Sequence[str]:
    return ("--username", name, "--password-stdin")


# Nobody, and a password


def test_everybody_may_pull_and_nobody_may_push(
    run: Run, guarded: Place, tokens: TokenService, hello: Path, tmp_path: Path
) -> None:
    name = f"{guarded.address}/open/x"
    digest = pushed(guarded, "open/x").digest
    tokens.asked.clear()
    shown = run("inspect", f"{name}:1", "--json")
    assert json.loads(shown.out)["digest"] == digest
    assert run("copy", f"{name}:1", f"oci:{tmp_path}/x").code == 0
    assert set(tokens.scopes) == {"repository:open/x:pull"}
    refused = run("push", f"oci:{hello}", name, "--json")
    assert refused.code == 9
    assert "ocibuild login" in refused.err
    assert json.loads(refused.out)["error"] == "AuthError"
    assert tokens.scopes[-1] == "repository:open/x:pull,push"
    assert {item.authorization for item in tokens.asked} == {""}
    hidden = run("inspect", f"{guarded.address}/grove/x:1")
    assert (hidden.code, "ocibuild login" in hidden.err) == (9, True)


def test_a_password(run: Run, locked: Place, hello: Path) -> None:
    name = f"{locked.address}/grove/x"
    nobody = run("push", f"oci:{hello}", name)
    assert (nobody.code, "ocibuild login" in nobody.err) == (9, True)
    wrong = run("push", f"oci:{hello}", name, *as_user(), stdin=WRONG)
    assert wrong.code == 9
    assert "the caller" in wrong.err  # whose credential it was
    assert run("push", f"oci:{hello}", name, *as_user("stranger"), stdin=PASSWORD).code == 9
    # What a wrong password is tried for: each further try may lock the account.
    assert {item.method for item in locked.requests} == {"HEAD"}
    right = run("push", f"oci:{hello}", name, "--tag", "1", "--json", *as_user(), stdin=f"{PASSWORD}\n")
    assert right.code == 0, right.err
    shown = run("inspect", f"{name}:1", "--json", *as_user(), stdin=PASSWORD)
    assert json.loads(shown.out)["digest"] == json.loads(right.out)["digest"]
    assert run("inspect", f"{name}:1", *as_user(), stdin=WRONG).code == 9


def test_a_password_is_asked_for_once(locked: Place) -> None:
    """Basic goes with every request once a challenge has asked for it."""
    with opened(locked, "grove/x") as store:
        store.exists(blob(b"a")[0])
        before = len(locked.requests)
        copy(image(), store, tags=["1"])
    assert [item.status for item in locked.requests[:2]] == [401, 404]
    assert 401 not in {item.status for item in locked.requests[before:]}


# Tokens


def test_a_push_asks_for_what_it_needs(run: Run, guarded: Place, tokens: TokenService, hello: Path) -> None:
    """A token to pull, of the first HEAD, is not tried for the POST; each is fetched once, whoever wants it."""
    pushed_ = run("push", f"oci:{hello}", f"{guarded.address}/grove/x", *as_user(), stdin=PASSWORD)
    assert pushed_.code == 0, pushed_.err
    assert sorted(tokens.scopes) == ["repository:grove/x:pull", "repository:grove/x:pull,push"]
    assert {item.authorization for item in tokens.asked} == {f"Basic {encoded(USER, PASSWORD)}"}
    assert {item.account for item in tokens.asked} == {USER}
    assert {item.method for item in guarded.refused()} == {"HEAD"}


def test_one_token_for_many_threads(guarded: Place, tokens: TokenService) -> None:
    with opened(guarded, "grove/x") as store, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: store.exists(blob(b"%d" % number)[0]), range(24)))
    assert not any(found)
    assert tokens.scopes == ["repository:grove/x:pull"]


def test_one_client_and_two_repositories(guarded: Place, tokens: TokenService) -> None:
    credential = Credential(username=USER, password=PASSWORD)
    shared = RegistryClient(guarded.address, credential=credential)
    stores = [RegistryStore(Reference.parse(f"{guarded.address}/grove/{name}"), client=shared) for name in "ab"]
    for store in (*stores, *stores):
        copy(image(len(tokens.asked)), store, tags=["1"])
        assert list(store.tags()) == ["1"]
    shared.session.close()
    expected = [f"repository:grove/{name}:{actions}" for name in "ab" for actions in ("pull", "pull,push")]
    assert sorted(tokens.scopes) == expected
    assert len(guarded.refused()) == 1  # the very first request


def test_a_pull_asks_for_no_more(run: Run, guarded: Place, tokens: TokenService, tmp_path: Path) -> None:
    digest = pushed(guarded, "grove/x").digest
    tokens.asked.clear()
    arguments = ("copy", f"{guarded.address}/grove/x:1", f"oci:{tmp_path}/x:1", *as_user("reader"))
    copied = run(*arguments, stdin=READING)
    assert copied.code == 0, copied.err
    assert open_artifact(f"oci:{tmp_path}/x:1").digest == digest
    assert tokens.scopes == ["repository:grove/x:pull"]


def test_a_token_that_ends_between_blobs(guarded: Place, tokens: TokenService) -> None:
    """The registry takes it no longer, whatever was said: 401, another token, and on."""
    tokens.life = 0.5
    with opened(guarded, "grove/x") as store:
        store.push(*blob(b"one"))
        first = len(guarded.refused())
        tokens.wait_out()
        tokens.life = 300
        store.push(*blob(b"two"))
        assert len(guarded.refused()) == first + 1
        assert store.fetch(blob(b"two")[0]).read() == b"two"
    assert tokens.scopes[:2] == ["repository:grove/x:pull,push"] * 2


def test_a_token_is_renewed_before_it_ends(guarded: Place, tokens: TokenService) -> None:
    tokens.told_life = 1
    with opened(guarded, "grove/x") as store:
        store.push(*blob(b"one"))
        time.sleep(1.05)  # no token is thrown away sooner
        store.push(*blob(b"two"))
    assert len(guarded.refused()) == 1  # the very first request
    assert tokens.scopes[:2] == ["repository:grove/x:pull,push"] * 2


@pytest.mark.parametrize("size", [100, 4_000_000], ids=["small", "large"])
def test_a_token_that_ends_under_an_upload(guarded: Place, tokens: TokenService, size: int) -> None:
    """The registry may hang up before it has read what it refuses, so that its 401 is lost: the upload goes on."""
    tokens.life = 0.5

    class Held(io.BytesIO):
        """Content that is there only when the token that began its upload has ended."""

        def seekable(self) -> bool:
            if tokens.asked and tokens.life < 1:
                tokens.wait_out()
                tokens.life = 300
            return True

    data = os.urandom(size)
    descriptor = Descriptor.of(data, "application/octet-stream")
    with opened(guarded, "grove/x") as store:
        store.push(descriptor, Held(data))
        assert store.fetch(descriptor).read() == data
    assert "PUT" in {item.method for item in guarded.refused()}
    assert len(tokens.asked) >= 2


@pytest.mark.parametrize("is_strict", [False, True], ids=["lesser token", "no token"])
def test_who_may_only_read(run: Run, guarded: Place, tokens: TokenService, hello: Path, is_strict: bool) -> None:
    tokens.is_strict = is_strict
    name = f"{guarded.address}/grove/x"
    refused = run("push", f"oci:{hello}", name, *as_user("reader"), stdin=READING)
    assert refused.code == 9
    assert "the caller" in refused.err
    assert "repository:grove/x:pull,push" in tokens.scopes
    assert "PUT" not in {item.method for item in guarded.requests}
    assert len(tokens.asked) < 10
    pushed(guarded, "grove/x")
    assert run("inspect", f"{name}:1", *as_user("reader"), stdin=READING).code == 0


def test_a_wrong_password_for_a_token(run: Run, guarded: Place, tokens: TokenService) -> None:
    """The service repeats the password in its answer; the message does not."""
    refused = run("inspect", f"{guarded.address}/open/x:1", *as_user(), stdin=WRONG)
    assert (refused.code, [item.status for item in tokens.asked]) == (9, [401])
    assert "Log in again" in refused.err


def test_a_token_service_that_fails_for_a_moment(
    guarded: Place, tokens: TokenService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FIRST_PATIENCE", 10.0)
    with opened(guarded, "grove/x") as store:
        tokens.failures = 1
        assert not store.exists(blob(b"one")[0])
        tokens.failures = 1
        store.push(*blob(b"one"))
    assert [item.status for item in tokens.asked] == [503, 200, 503, 200]


def test_a_token_service_that_is_not_there(said: Said, start: Start, tmp_path: Path) -> None:
    with token_service(tmp_path) as service:
        place = start(token=service)
    with opened(place, "grove/x") as store, said.refusal() as caught:
        store.resolve("1")
    assert service.realm in str(caught.value)
    assert place.address not in str(caught.value)


# Mounts


def mount(place: Place, account: Account, source: Artifact, *others: str) -> tuple[dict[str, int], list[Seen]]:
    """Push to another repository with a hint; how many blobs were mounted or sent, and the requests for it."""
    before = len(place.requests)
    with opened(place, f"{account.name}/copy", account, mount_from=others) as store:
        copied = copy(source, store, tags=["1"])
        assert store.resolve("1").digest == copied.digest
        found = list(store.outcome.values())
    asked = [item for item in place.requests[before:] if "mount=" in item.query]
    return {kind: found.count(kind) for kind in ("mounted", "sent", "there")}, asked


def test_a_mount_has_the_right_to_its_source(guarded: Place, tokens: TokenService) -> None:
    pushed(guarded, "open/x")
    tokens.asked.clear()
    found, asked = mount(guarded, WRITER, image(), "open/x")
    assert found == {"mounted": 2, "sent": 1, "there": 0}  # a manifest is always sent
    assert {item.status for item in asked} == {201}
    assert tokens.scopes.count("repository:grove/copy:pull,push repository:open/x:pull") == 1
    for item in tokens.asked:
        assert item.scopes == item.granted


@pytest.mark.parametrize("is_strict", [False, True], ids=["lesser token", "no token"])
def test_a_mount_without_the_right_is_an_upload(guarded: Place, tokens: TokenService, is_strict: bool) -> None:
    pushed(guarded, "grove/x")
    tokens.is_strict = is_strict
    found, asked = mount(guarded, STRANGER, image(), "grove/x")
    assert found == {"mounted": 0, "sent": 3, "there": 0}
    assert {item.status for item in asked} <= {401}


def test_a_mount_from_where_the_blob_is_not(guarded: Place) -> None:
    pushed(guarded, "open/x")
    found, asked = mount(guarded, WRITER, image(7), "open/none", "open/x")
    assert found == {"mounted": 0, "sent": 3, "there": 0}
    assert {item.status for item in asked} == {202}
    assert len(asked) == 2  # the first answer began an upload: a second question would leave it behind


def test_a_mount_from_the_second_place(guarded: Place, tokens: TokenService) -> None:
    """The first is one that we may not read."""
    pushed(guarded, "open/x")
    with opened(guarded, "open/y") as store:
        copy(image(), store)
    tokens.accounts = (*tokens.accounts, Account("oak", {"oak/*": "pull,push", "open/y": "pull"}, password=PASSWORD))
    found, _ = mount(guarded, tokens.accounts[-1], image(), "open/x", "open/y")
    assert found == {"mounted": 2, "sent": 1, "there": 0}


# Identity tokens and where credentials come from


@pytest.mark.parametrize("token", [IDENTITY, WRONG])
def test_an_identity_token(run: Run, guarded: Place, tokens: TokenService, home: Path, hello: Path, token: str) -> None:
    path = docker(home, {"auths": {guarded.address: {"auth": encoded(USER, ""), "identitytoken": token}}})
    result = run("push", f"oci:{hello}", f"{guarded.address}/grove/x")
    assert result.code == (0 if token == IDENTITY else 9), result.err
    assert (str(path) in result.err) == (token == WRONG)
    assert {(item.method, item.grant, item.authorization) for item in tokens.asked} == {("POST", "refresh_token", "")}
    assert {item.account for item in tokens.asked} == ({USER} if token == IDENTITY else {None})
    scopes = {"repository:grove/x:pull", "repository:grove/x:pull,push"}
    assert set(tokens.scopes) == (scopes if token == IDENTITY else {"repository:grove/x:pull"})


@pytest.mark.parametrize(
    ("given", "in_docker", "in_podman", "is_let_in"),
    [
        (PASSWORD, WRONG, WRONG, True),
        (WRONG, PASSWORD, PASSWORD, False),
        (None, PASSWORD, WRONG, True),
        (None, WRONG, PASSWORD, False),
        (None, None, PASSWORD, True),
        (None, None, None, False),
    ],
)
def test_whose_credential_counts(
    run: Run,
    locked: Place,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
    in_docker: str | None,
    in_podman: str | None,
    is_let_in: bool,
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", WORKFLOW)  # is for ghcr.io alone
    host = locked.address
    other = {"ghcr.io": entry(USER, WRONG)}
    one = docker(home, {"auths": other | ({host: entry(USER, in_docker)} if in_docker else {})})
    podman(home, other | ({host: entry(USER, in_podman)} if in_podman else {}))
    told = run("inspect", f"{host}/grove/x:1", *(as_user() if given else ()), stdin=given or "")
    assert told.code == (6 if is_let_in else 9), told.err
    if not is_let_in:
        origin = "the caller" if given else str(one) if in_docker else "ocibuild login"
        assert origin in told.err


@pytest.mark.parametrize("variable", ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"])
def test_places_by_the_environment(
    locked: Place, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    podman(home, {locked.address: entry(USER, WRONG)})
    folder = tmp_path / "elsewhere"
    (folder / "containers").mkdir(parents=True)
    name = {"DOCKER_CONFIG": "config.json", "REGISTRY_AUTH_FILE": "mine.json"}.get(variable, "containers/auth.json")
    (folder / name).write_text(json.dumps({"auths": {locked.address: entry(USER, PASSWORD)}}))
    monkeypatch.setenv(variable, str(folder / name) if variable == "REGISTRY_AUTH_FILE" else str(folder))
    with opened(locked, "grove/x", None) as store:
        assert store.tag_names() == []


def test_a_credential_for_one_repository(guarded: Place, tokens: TokenService, home: Path) -> None:
    """Podman keeps them by path; the most specific counts."""
    host = guarded.address
    podman(
        home,
        {host: entry(USER, WRONG), f"{host}/grove": entry("reader", READING), f"{host}/grove/x": entry(USER, PASSWORD)},
    )
    for repository in ("grove/x", "grove/xy"):
        with opened(guarded, repository, None) as store:
            assert store.tag_names() == []
    assert [item.account for item in tokens.asked] == [USER, "reader"]


def test_the_workflow_token_is_for_ghcr(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", WORKFLOW)
    monkeypatch.setenv("GITHUB_ACTOR", "grove")
    assert find_credential("ghcr.io") == Credential(username="grove", password=WORKFLOW, origin="GITHUB_TOKEN")
    assert find_credential("ghcr.io.example") is None
    podman(home, {"ghcr.io": entry("reader", READING)})
    found = find_credential("ghcr.io")
    assert found is not None
    assert found.username == "reader"


def test_a_workflow_token_stays_at_home(
    run: Run, guarded: Place, tokens: TokenService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", WORKFLOW)
    assert run("inspect", f"{guarded.address}/open/x:1").code == 6
    assert {item.authorization for item in tokens.asked} == {""}


# Credential helpers


@pytest.fixture
def helper(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Place, str], None]:
    """Make the helper `grove` a script, and the one that a registry's credential comes from."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def make(place: Place, script: str) -> None:
        path = folder / "docker-credential-grove"
        path.write_text(f"#!/bin/sh\nread -r server\necho \"$1 $server\" >>'{folder}/calls'\n{script}\n")
        path.chmod(0o755)
        docker(home, {"credHelpers": {place.address: "grove"}, "auths": {place.address: entry(USER, WRONG)}})

    return make


Helper = Callable[[Place, str], None]


def test_a_helper(run: Run, locked: Place, helper: Helper, hello: Path, tmp_path: Path) -> None:
    answer = json.dumps({"ServerURL": locked.address, "Username": USER, "Secret": PASSWORD})
    helper(locked, f"echo '{answer}'")
    result = run("push", f"oci:{hello}", f"{locked.address}/grove/x")
    assert result.code == 0, result.err
    assert (tmp_path / "bin/calls").read_text() == f"get {locked.address}\n"


def test_a_helper_with_an_identity_token(guarded: Place, tokens: TokenService, helper: Helper) -> None:
    helper(guarded, f"""echo '{{"Username": "<token>", "Secret": "{IDENTITY}"}}'""")
    with opened(guarded, "grove/x", None) as store:
        store.push(*blob(b"one"))
    assert {(item.method, item.account, item.authorization) for item in tokens.asked} == {("POST", USER, "")}


def test_a_helper_that_fails_is_not_quoted(run: Run, locked: Place, helper: Helper) -> None:
    helper(locked, f"echo '{PASSWORD}'; echo 'no keyring for {PASSWORD}' >&2; exit 3")
    result = run("inspect", f"{locked.address}/grove/x:1")
    assert result.code == 9
    assert "docker-credential-grove" in result.err
    assert "exit code 3" in result.err
    assert locked.requests == []


def test_a_helper_that_has_a_wrong_password(run: Run, locked: Place, helper: Helper) -> None:
    helper(locked, f"""echo '{{"Username": "{USER}", "Secret": "{WRONG}"}}'""")
    result = run("inspect", f"{locked.address}/grove/x:1")
    assert (result.code, "docker-credential-grove" in result.err) == (9, True)


@pytest.mark.parametrize("is_child", [False, True], ids=["itself", "its child"])
def test_a_helper_that_hangs(
    run: Run, locked: Place, helper: Helper, home: Path, monkeypatch: pytest.MonkeyPatch, is_child: bool
) -> None:
    monkeypatch.setattr(credentials, "HELPER_SECONDS", 0.5)
    sleep = "sleep 30 & echo $! >$HOME/child; wait" if is_child else "echo $$ >$HOME/child; exec sleep 30"
    helper(locked, sleep)
    result = run("inspect", f"{locked.address}/grove/x:1")
    child = int((home / "child").read_text())
    assert (result.code, locked.requests) == (9, [])
    assert "docker-credential-grove" in result.err
    assert "no answer" in result.err
    if is_child:  # which holds the pipe, and nobody waits for it
        os.kill(child, signal.SIGKILL)
    else:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


# ~/.netrc


@pytest.mark.parametrize("by", ["HOME", "NETRC"])
def test_netrc_is_not_read(
    guarded: Place, locked: Place, tokens: TokenService, home: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    path = home / (".netrc" if by == "HOME" else "elsewhere")
    path.write_text(f"machine 127.0.0.1 login {USER} password {WRONG}\n")
    path.chmod(0o600)
    if by == "NETRC":
        monkeypatch.setenv("NETRC", str(path))
    for url in (f"http://{locked.address}/v2/", tokens.realm):  # what requests would do by itself
        assert requests.utils.get_netrc_auth(url) == (USER, WRONG)
    with opened(locked, "grove/x") as store:
        copy(image(), store, tags=["1"])
    with opened(guarded, "open/x") as store:
        copy(image(), store, tags=["1"])
    assert {item.authorization for item in tokens.asked} == {f"Basic {encoded(USER, PASSWORD)}"}
    tokens.asked.clear()
    with opened(guarded, "open/x", None) as store:
        assert store.tag_names() == ["1"]
    assert {item.authorization for item in tokens.asked} == {""}


# TLS


@pytest.mark.usefixtures("_named")
def test_an_authority_must_be_known(
    run: Run, start: Start, certificates: Certificates, tmp_path: Path, hello: Path
) -> None:
    place = start(tls=certificates, htpasswd=True)
    name = f"{NAME}:{place.port}/grove/x"
    other = make_certificates(tmp_path / "other")
    for arguments in ((), ("--ca-file", other.authority)):
        refused = run("push", f"oci:{hello}", name, *arguments, *as_user(), stdin=PASSWORD)
        assert refused.code == 8
        assert "not trusted" in refused.err
        assert "--ca-file" in refused.err
    assert place.requests == []
    trusted = ("--ca-file", certificates.authority, *as_user())
    result = run("push", f"oci:{hello}", name, "--tag", "1", *trusted, stdin=PASSWORD)
    assert result.code == 0, result.err
    assert run("inspect", f"{name}:1", *trusted, stdin=PASSWORD).code == 0


@pytest.mark.usefixtures("_named")
def test_a_client_certificate(run: Run, start: Start, certificates: Certificates, tmp_path: Path, hello: Path) -> None:
    place = start(tls=certificates, is_mutual=True)
    name = f"{NAME}:{place.port}/grove/x"
    other = make_certificates(tmp_path / "other")
    for arguments in ((), ("--cert", other.client, "--key", other.client_key)):
        refused = run("push", f"oci:{hello}", name, "--ca-file", certificates.authority, *arguments)
        assert refused.code == 8, refused.err
        assert place.address.rpartition(":")[2] in refused.err
    own = ("--ca-file", certificates.authority, "--cert", certificates.client, "--key", certificates.client_key)
    assert run("push", f"oci:{hello}", name, "--tag", "1", *own).code == 0
    assert run("inspect", f"{name}:1", *own).code == 0


def test_tls_and_tokens(start: Start, certificates: Certificates, said: Said, tmp_path: Path) -> None:
    """The token service's certificate is checked as the registry's is."""
    options: dict[str, Any] = {"plain_http": False, "ca_file": str(certificates.authority)}
    with token_service(tmp_path, WRITER, tls=certificates) as service:
        said.services.append(service)
        place = start(tls=certificates, token=service)
        pushed(place, "grove/x", **options)
        assert len(service.asked) == 2
    other = make_certificates(tmp_path / "other")
    with token_service(tmp_path, WRITER, tls=other) as service:
        place = start(tls=certificates, token=service)
        with said.refusal() as caught, opened(place, "grove/x", **options) as store:
            store.resolve("1")
        assert service.asked == []
        assert service.realm in str(caught.value)


def test_no_password_goes_to_plain_http(
    start: Start, certificates: Certificates, tokens: TokenService, said: Said
) -> None:
    """A registry with TLS must not send its clients to a token service without."""
    place = start(tls=certificates, token=tokens)
    options: dict[str, Any] = {"plain_http": False, "ca_file": str(certificates.authority)}
    with said.refusal() as caught, opened(place, "grove/x", **options) as store:
        store.resolve("1")
    assert tokens.asked == []
    assert "wanted https" in str(caught.value)


@pytest.mark.usefixtures("_named")
def test_plain_http_needs_saying(run: Run, start: Start, hello: Path) -> None:
    place = start()
    name = f"{NAME}:{place.port}/grove/x"
    refused = run("push", f"oci:{hello}", name)
    assert refused.code == 8
    assert "TLS" in refused.err
    assert "--plain-http" in refused.err
    assert place.requests == []
    assert run("push", f"oci:{hello}", name, "--tag", "1", "--plain-http").code == 0
    assert run("inspect", f"{name}:1", "--plain-http").code == 0
    assert run("inspect", f"{name}:1").code == 8
    for loopback in ("127.0.0.1", "localhost"):
        assert run("inspect", f"{loopback}:{place.port}/grove/x:1").code == 0


@pytest.mark.usefixtures("_named")
def test_plain_http_to_a_port_with_tls(run: Run, start: Start, certificates: Certificates) -> None:
    place = start(tls=certificates)
    refused = run("inspect", f"{NAME}:{place.port}/grove/x:1", "--plain-http")
    assert refused.code == 8
    assert "HTTPS server" in refused.err


def test_a_certificate_is_not_tried_again(
    start: Start, certificates: Certificates, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FIRST_PATIENCE", 0.5)
    place = start(tls=certificates)
    with said.refusal(RegistryError), opened(place, "grove/x", None, plain_http=False) as store:
        store.resolve("1")
    assert store.client.requests_sent == 1


@pytest.mark.parametrize("is_mutual", [False, True])
def test_certificates_mean_tls_on_loopback_too(
    run: Run, start: Start, certificates: Certificates, is_mutual: bool
) -> None:
    place = start(tls=certificates, is_mutual=is_mutual)
    own = ("--cert", certificates.client, "--key", certificates.client_key) if is_mutual else ()
    assert run("inspect", f"{place.address}/grove/x:1", "--ca-file", certificates.authority, *own).code == 6


@pytest.mark.usefixtures("_named")
@pytest.mark.parametrize(
    ("names", "is_expired", "is_mutual", "expected"),
    [((NAME,), True, False, "expired"), ((), False, False, NAME + "'"), ((NAME,), False, True, "--cert")],
    ids=["expired", "another name", "no client certificate"],
)
def test_what_is_wrong_with_a_certificate_is_said(
    run: Run, start: Start, tmp_path: Path, names: tuple[str, ...], is_expired: bool, is_mutual: bool, expected: str
) -> None:
    made = make_certificates(tmp_path / "made", names=names, is_expired=is_expired)
    place = start(tls=made, is_mutual=is_mutual)
    refused = run("inspect", f"{NAME}:{place.port}/grove/x:1", "--ca-file", made.authority)
    assert refused.code == 8
    assert expected in refused.err


@pytest.mark.usefixtures("_named")
@pytest.mark.parametrize("content", [None, "no certificate\n"], ids=["missing", "damaged"])
@pytest.mark.parametrize("option", ["--ca-file", "--cert", "--key"])
def test_a_file_that_is_no_certificate_is_named(
    run: Run, start: Start, certificates: Certificates, tmp_path: Path, option: str, content: str | None
) -> None:
    path = tmp_path / "given.pem"
    if content is not None:
        path.write_text(content)
    place = start(tls=certificates)
    files = {"--ca-file": certificates.authority, "--cert": certificates.client, "--key": certificates.client_key}
    arguments = [str(item) for pair in (files | {option: path}).items() for item in pair]
    refused = run("inspect", f"{NAME}:{place.port}/grove/x:1", *arguments)
    assert refused.code != 6
    assert str(path) in refused.err
    assert "output" not in refused.err


# Login


@pytest.mark.parametrize("kind", ["password", "token"])
def test_login_tries_the_credential(
    run: Run, request: pytest.FixtureRequest, home: Path, kind: str, hello: Path
) -> None:
    place: Place = request.getfixturevalue("locked" if kind == "password" else "guarded")
    path = home / ".docker" / "config.json"
    refused = run("login", place.address, *as_user(), stdin=WRONG)
    assert refused.code == 9
    assert os.listdir(home) == []
    result = run("login", place.address, *as_user(), "--json", stdin=f"{PASSWORD}\n")
    assert result.code == 0, result.err
    assert json.loads(result.out) == {"registry": place.address, "username": USER, "file": str(path)}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {"auths": {place.address: entry(USER, PASSWORD)}}
    assert run("push", f"oci:{hello}", f"{place.address}/grove/x").code == 0
    before = path.read_bytes()
    assert run("login", place.address, *as_user(), stdin=WRONG).code == 9
    assert path.read_bytes() == before


def test_login_asks_for_no_scope(run: Run, guarded: Place, tokens: TokenService) -> None:
    assert run("login", guarded.address, *as_user("elm"), stdin=ELSEWHERE).code == 0
    [asked] = tokens.asked
    assert (asked.scopes, asked.account) == ((), "elm")


@pytest.mark.usefixtures("_named")
def test_login_over_tls(run: Run, start: Start, certificates: Certificates, home: Path) -> None:
    place = start(tls=certificates, htpasswd=True)
    host = f"{NAME}:{place.port}"
    assert run("login", host, *as_user(), stdin=PASSWORD).code == 8
    assert run("login", host, *as_user(), "--plain-http", stdin=PASSWORD).code == 8
    assert os.listdir(home) == []
    assert run("login", host, *as_user(), "--ca-file", certificates.authority, stdin=PASSWORD).code == 0
    assert run("inspect", f"{host}/grove/x:1", "--ca-file", certificates.authority).code == 6
