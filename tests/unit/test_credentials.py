"""Credentials: where they are found, how they are kept, and that they are never shown."""

from __future__ import annotations

import base64
import errno
import json
import logging
import os
import pickle
import pprint
import stat
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import rich.pretty

from ocibuild.errors import AuthError, RegistryError
from ocibuild.locations import RegistryOptions
from ocibuild.registry import Credential, credentials, find_credential
from ocibuild.registry.auth import Authorizer
from ocibuild.registry.credentials import docker_config, store_credential
from tests.support.wire import WiredClient, answer

SECRET = "s3cret-passw0rd"
IDENTITY = "1dentity-token"


def auth(user: str = "me", password: str = SECRET) -> dict[str, Any]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def docker(home: Path, config: object) -> dict[str, str]:
    """An environment with a Docker configuration."""
    path = home / ".docker" / "config.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(config if isinstance(config, bytes) else json.dumps(config).encode())
    return {"HOME": str(home)}


def found(home: Path, config: object, registry: str = "ghcr.io", repository: str = "") -> tuple[str, str] | None:
    """The user and secret that a Docker configuration gives."""
    credential = find_credential(registry, repository, environ=docker(home, config))
    return None if credential is None else (credential.username, credential.password or credential.identity_token)


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on PATH whose `docker-credential-NAME` scripts are found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    yield folder


def program(folder: Path, name: str, script: str) -> None:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def says(fields: object) -> str:
    return f"cat > /dev/null; cat <<'END'\n{json.dumps(fields)}\nEND"


# Where they are found


@pytest.mark.parametrize(
    ("key", "registry", "repository"),
    [
        ("ghcr.io", "ghcr.io", ""),
        ("https://ghcr.io", "ghcr.io", ""),
        ("http://ghcr.io", "ghcr.io", ""),
        ("https://ghcr.io/", "ghcr.io", ""),
        ("https://ghcr.io/v1/", "ghcr.io", ""),
        ("https://ghcr.io/v2/", "ghcr.io", "o/x"),
        ("ghcr.io/v2", "ghcr.io", "o/x"),
        ("https://index.docker.io/v1/", "index.docker.io", "library/x"),
        ("localhost:5000", "localhost:5000", ""),
        ("[::1]:5000", "[::1]:5000", ""),
        ("ghcr.io/o", "ghcr.io", "o/x"),
        ("ghcr.io/o/x", "ghcr.io", "o/x"),
        ("https://ghcr.io/o", "ghcr.io", "o/x/y"),
    ],
)
def test_a_key_in_its_forms(tmp_path: Path, key: str, registry: str, repository: str) -> None:
    assert found(tmp_path, {"auths": {key: auth()}}, registry, repository) == ("me", SECRET)


@pytest.mark.parametrize(
    ("key", "registry", "repository"),
    [
        ("ghcr.io", "ghcr.io:443", ""),
        ("ghcr.io:5000", "ghcr.io", ""),
        ("a.ghcr.io", "ghcr.io", ""),
        ("ghcr.io", "a.ghcr.io", ""),
        ("ghcr.io.example.org", "ghcr.io", ""),
        ("ghcr.io/o", "ghcr.io", ""),
        ("ghcr.io/o", "ghcr.io", "ox/y"),
        ("ghcr.io/o/x", "ghcr.io", "o/xy"),
        ("ghcr.io/o/x", "ghcr.io", "o"),
        ("https://me@ghcr.io", "ghcr.io", ""),
        ("ftp://ghcr.io", "ghcr.io", ""),
        ("", "ghcr.io", ""),
    ],
)
def test_a_key_of_another_place(tmp_path: Path, key: str, registry: str, repository: str) -> None:
    assert found(tmp_path, {"auths": {key: auth()}}, registry, repository) is None


def test_the_most_specific_key_counts(tmp_path: Path) -> None:
    auths = {"ghcr.io": auth("host"), "ghcr.io/o": auth("owner"), "ghcr.io/o/x": auth("image"), "ghcr.io/p": {}}
    expected = {"": "host", "o": "owner", "o/x": "image", "o/x/y": "image", "o/y": "owner", "p/x": "host"}
    for repository, user in expected.items():
        assert found(tmp_path, {"auths": auths}, "ghcr.io", repository) == (user, SECRET)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (auth(), ("me", SECRET)),
        (auth("me", "a:b"), ("me", "a:b")),
        (auth("me", ""), ("me", "")),
        (auth("", SECRET), ("", SECRET)),
        ({"auth": base64.b64encode(b"me:pw\0\0").decode()}, ("me", "pw")),
        ({"username": "me", "password": SECRET}, ("me", SECRET)),
        ({"auth": "", "username": "me", "password": SECRET}, ("me", SECRET)),
        ({**auth(), "username": "other", "password": "other"}, ("me", SECRET)),
        ({"identitytoken": IDENTITY}, ("", IDENTITY)),
        ({"identitytoken": IDENTITY, "username": "me"}, ("me", IDENTITY)),
        ({**auth("me", "x"), "identitytoken": IDENTITY}, ("me", IDENTITY)),
        ({"identitytoken": "", **auth()}, ("me", SECRET)),
        ({}, None),
        ({"email": "me@example.org"}, None),
        ({"username": "me"}, None),
        ({"auth": 5}, None),
        ({"auth": None, "username": 5, "password": []}, None),
        ({"identitytoken": 5}, None),
        ("auth", None),
        (None, None),
        ([auth()], None),
    ],
)
def test_an_entry(tmp_path: Path, entry: object, expected: tuple[str, str] | None) -> None:
    assert found(tmp_path, {"auths": {"ghcr.io": entry}}) == expected


@pytest.mark.parametrize(
    "value",
    ["me:pw", "bWU6cHc", "bWU6cHc==", "!!!!", "b W U 6 c H c =", "/////w==", "é", "日本", "\ud800", "bWU6cHc=\n"],
)
def test_a_damaged_entry_is_an_error_that_does_not_show_it(tmp_path: Path, value: str) -> None:
    with pytest.raises(AuthError, match="a damaged credential") as caught:
        found(tmp_path, {"auths": {"ghcr.io": {"auth": value}}})
    assert value not in str(caught.value)
    assert caught.value.where == str(tmp_path / ".docker/config.json")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("entry", [{"username": "\ud800", "password": "x"}, {"username": "x", "password": "\ud800"}])
def test_what_no_header_can_hold_is_an_error_of_ours(tmp_path: Path, entry: dict[str, str]) -> None:
    with pytest.raises(AuthError):
        credential = find_credential("ghcr.io", environ=docker(tmp_path, {"auths": {"ghcr.io": entry}}))
        assert credential is not None
        client = WiredClient(answer(b"", b"WWW-Authenticate: Basic", status=b"401 No"), credential=credential)
        client.ping()


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"auths": None},
        {"auths": []},
        {"auths": "ghcr.io"},
        {"auths": {"ghcr.io": {}}, "credHelpers": [], "credsStore": 5},
        {"credHelpers": {"ghcr.io": 5}},
        {"credHelpers": {"quay.io": "none-such"}},
        {"credHelpers": None, "credsStore": ""},
        {"credsStore": None},
        {"credsStore": ["pass"]},
    ],
)
def test_a_configuration_without_a_credential(tmp_path: Path, config: object) -> None:
    assert found(tmp_path, config) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"[]",
        b"null",
        b"5",
        b'"auths"',
        b"{",
        b"\x00",
        b"\xff\xfe",
        b'{"auths":{"ghcr.io":{"auth":"' + SECRET.encode() + b'"}',
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"{}" + b" " * credentials.SIZE_LIMIT,
    ],
    ids=lambda raw: str(raw[:12]),
)
def test_a_file_that_is_no_configuration(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(AuthError, match="not a configuration") as caught:
        found(tmp_path, raw)
    assert SECRET not in repr(caught.value) + str(caught.value)


def test_a_configuration_as_large_as_may_be(tmp_path: Path) -> None:
    raw = json.dumps({"auths": {"ghcr.io": auth()}}).encode()
    assert found(tmp_path, raw.ljust(credentials.SIZE_LIMIT)) == ("me", SECRET)


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    assert find_credential("ghcr.io", environ=environ) is None
    path = tmp_path / ".docker" / "config.json"
    path.mkdir(parents=True)
    assert find_credential("ghcr.io", environ=environ) is None
    path.rmdir()
    os.mkfifo(path)  # opening it would wait for ever
    assert find_credential("ghcr.io", environ=environ) is None
    path.unlink()
    path.symlink_to(path)
    assert find_credential("ghcr.io", environ=environ) is None
    path.unlink()
    path.symlink_to("/dev/zero")
    assert find_credential("ghcr.io", environ=environ) is None


def test_the_order_of_places(tmp_path: Path) -> None:
    environ = {
        "HOME": str(tmp_path / "home"),
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "REGISTRY_AUTH_FILE": str(tmp_path / "podman.json"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "GITHUB_TOKEN": SECRET,
        "GITHUB_ACTOR": "actor",
    }
    places = [
        tmp_path / "docker" / "config.json",
        tmp_path / "podman.json",
        tmp_path / "run" / "containers" / "auth.json",
        tmp_path / "config" / "containers" / "auth.json",
    ]
    ignored = [tmp_path / "home" / ".docker" / "config.json", tmp_path / "home" / ".config/containers/auth.json"]
    for path in [*places, *ignored]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"auths": {"ghcr.io": auth(path.parent.name)}}))
    for path in places:
        credential = find_credential("ghcr.io", environ=environ)
        assert credential == Credential(username=path.parent.name, password=SECRET, origin=str(path))
        path.unlink()
    assert find_credential("ghcr.io", environ=environ) == Credential(
        username="actor", password=SECRET, origin="GITHUB_TOKEN"
    )
    assert find_credential("quay.io", environ=environ) is None
    for name in ("DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        del environ[name]
    for path in ignored:
        credential = find_credential("ghcr.io", environ=environ)
        assert credential is not None
        assert credential.origin == str(path)
        path.unlink()


def test_the_token_of_a_workflow(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "GITHUB_TOKEN": SECRET}
    credential = find_credential("ghcr.io", environ=environ)
    assert credential == Credential(username="unset", password=SECRET, origin="GITHUB_TOKEN")
    for registry in ("ghcr.io.example.org", "GHCR.IO.", "aghcr.io", "ghcr.io:444", "docker.io"):
        assert find_credential(registry, environ=environ) is None
    assert find_credential("ghcr.io", environ={**environ, "GITHUB_TOKEN": ""}) is None


def test_netrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text(f"machine registry.example login me password {SECRET}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    client = WiredClient(answer())
    client.ping()
    assert b"uthorization" not in client.visits[0].said


# Helpers


def test_a_helper(tmp_path: Path, helper: Path) -> None:
    program(
        helper,
        "x",
        f"""read host; printf '{{"ServerURL":"%s","Username":"%s","Secret":"{SECRET}"}}' "$host" "$1-$host" """,
    )
    assert found(tmp_path, {"credHelpers": {"ghcr.io": "x"}}) == ("get-ghcr.io", SECRET)
    assert found(tmp_path, {"credsStore": "x"}, "quay.io") == ("get-quay.io", SECRET)
    assert found(tmp_path, {"credHelpers": {"ghcr.io": "x"}, "auths": {"ghcr.io": auth()}}) == ("get-ghcr.io", SECRET)
    assert found(tmp_path, {"credsStore": "x", "auths": {"ghcr.io": {}}}) == ("get-ghcr.io", SECRET)
    assert found(tmp_path, {"credsStore": "none-such", "credHelpers": {"ghcr.io": "x"}}) == ("get-ghcr.io", SECRET)


def test_a_helper_with_an_identity_token(tmp_path: Path, helper: Path) -> None:
    program(helper, "x", says({"Username": "<token>", "Secret": IDENTITY}))
    credential = find_credential("ghcr.io", environ=docker(tmp_path, {"credsStore": "x"}))
    assert credential == Credential(identity_token=IDENTITY, origin="docker-credential-x")


def test_a_helper_that_has_none(tmp_path: Path, helper: Path) -> None:
    program(helper, "x", "cat > /dev/null; echo 'credentials not found in native keychain'; exit 1")
    assert found(tmp_path, {"credsStore": "x"}) is None


@pytest.mark.parametrize(
    "script",
    [
        f"echo {SECRET}; echo {SECRET} >&2; exit 1",
        f"echo {SECRET}",
        "true",
        "cat /dev/zero | head -c 3000000",
        says([SECRET]),
        says(SECRET),
        says(None),
        says({"Username": "me"}),
        says({"Username": "me", "Secret": [SECRET]}),
        says({"Username": None, "Secret": SECRET}),
        "printf '[%.0s' $(seq 100000)",
        "kill -9 $$",
    ],
)
def test_a_helper_that_fails_is_an_error_without_its_words(tmp_path: Path, helper: Path, script: str) -> None:
    program(helper, "x", script)
    with pytest.raises(AuthError, match="docker-credential-x") as caught:
        found(tmp_path, {"credsStore": "x"})
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/b",
        "/bin/true",
        ".",
        "..",
        ".x",
        "-x",
        "x y",
        "x;y",
        "x\n",
        "x\0",
        "$(x)",
        "é",
        "x" + "/.." * 50,
        "a\\b",
    ],
)
def test_a_helper_whose_name_is_a_path_is_not_run(tmp_path: Path, helper: Path, name: str) -> None:
    (helper / "docker-credential-").mkdir()
    program(helper, "x", f"touch {tmp_path}/ran")
    for config in ({"credsStore": name}, {"credHelpers": {"ghcr.io": name}}):
        with pytest.raises(AuthError, match="a plain name"):
            found(tmp_path, config)
    assert not (tmp_path / "ran").exists()


def test_a_helper_that_is_not_there_or_no_program(tmp_path: Path, helper: Path) -> None:
    with pytest.raises(AuthError, match="not found on PATH"):
        found(tmp_path, {"credsStore": "none-such"})
    (helper / "docker-credential-x").write_bytes(b"\x7fELF")
    (helper / "docker-credential-x").chmod(0o755)
    with pytest.raises(AuthError, match="cannot be run"):
        found(tmp_path, {"credsStore": "x"})


def test_a_helper_that_hangs(tmp_path: Path, helper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "HELPER_SECONDS", 0.3)
    program(helper, "x", "exec sleep 60")
    with pytest.raises(AuthError, match="no answer in"):
        found(tmp_path, {"credsStore": "x"})


# Never shown

CREDENTIAL = Credential(username="me", password=SECRET, identity_token=IDENTITY, origin="a test")
HIDDEN = (SECRET, IDENTITY, CREDENTIAL.basic.removeprefix("Basic "))


def assert_hidden(shown: str) -> None:
    for secret in HIDDEN:
        assert secret not in shown


def test_no_way_to_print_a_credential_shows_it() -> None:
    options = RegistryOptions(username="me", password=SECRET)
    client = WiredClient(answer(), credential=CREDENTIAL)
    for item in (CREDENTIAL, options, client, client.auth, [CREDENTIAL], {"a": CREDENTIAL}):
        for shown in (
            repr(item),
            str(item),
            f"{item}",
            f"{item!r:>500}",
            f"{item}",
            pprint.pformat(item),
            rich.pretty.pretty_repr(item),
            logging.LogRecord("x", 10, "x", 1, "%s %r", (item, item), None).getMessage(),
        ):
            assert_hidden(shown)


def test_no_pickle_holds_it() -> None:
    try:
        raw = pickle.dumps(CREDENTIAL)
    except TypeError:
        return
    assert_hidden(repr(raw))


def test_no_traceback_shows_it() -> None:
    def fail(credential: Credential, options: RegistryOptions) -> None:
        raise AuthError(f"no {credential} {options}", where=credential)

    try:
        fail(CREDENTIAL, RegistryOptions(username="me", password=SECRET))
    except AuthError as error:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        assert_hidden("".join(shown.format()))
        assert_hidden(json.dumps(error.to_dict()))
        assert_hidden(repr(pickle.dumps(error)))
        assert_hidden(repr(error.__dict__))


def test_no_log_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    realm = b'WWW-Authenticate: Bearer realm="https://token.example/t"'
    answers = [answer(b"", realm, status=b"401 No"), answer(b'{"token":"t0ken-value"}'), answer()]
    for credential in (CREDENTIAL, Credential(username="me", password=SECRET)):
        client = WiredClient(*answers, credential=credential)
        client.ping()
        assert b"t0ken-value" in client.visits[2].said
    assert caplog.records
    assert_hidden(caplog.text)
    assert "t0ken-value" not in caplog.text


def test_a_token_is_as_hidden_as_a_password() -> None:
    client = WiredClient(answer(b'{"token":"t0ken-value"}'), credential=CREDENTIAL)
    assert client.auth.answer('Bearer realm="https://token.example/t"', "s", None) == "Bearer t0ken-value"
    assert "t0ken-value" in client.auth.secrets
    assert client.scrubbed(f"a t0ken-value b {SECRET}") == "a *** b ***"
    for shown in (repr(client.auth), pprint.pformat(vars(client.auth)), rich.pretty.pretty_repr(vars(client.auth))):
        assert "t0ken-value" not in shown
        assert_hidden(shown)


def test_secrets_may_be_asked_for_while_tokens_come() -> None:
    client = WiredClient(answer(b'{"token":"t"}'), credential=CREDENTIAL)
    authorizer: Authorizer = client.auth
    failures: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        try:
            while not stop.is_set():
                client.scrubbed("text")
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread = threading.Thread(target=read)
        thread.start()
        for number in range(500):
            authorizer.answer('Bearer realm="https://token.example/t"', f"s{number}", None)
            if failures:
                break
        stop.set()
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures


def test_basic() -> None:
    assert Credential(username="Aladdin", password="open sesame").basic == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert Credential(username="é", password="日").basic == "Basic " + base64.b64encode("é:日".encode()).decode()
    assert Credential().secrets == ()


# Kept


def test_storing_keeps_what_is_there(tmp_path: Path) -> None:
    config = {
        "auths": {"other": auth("other"), "ghcr.io": {"auth": "old", "email": "x"}},
        "credHelpers": {"a": "b"},
        "détachKeys": ["ctrl-e", {"日本": None}],
        "big": 10**30,
    }
    environ = docker(tmp_path, config)
    path = docker_config(environ)
    path.chmod(0o644)
    assert store_credential("ghcr.io", Credential(username="me", password=SECRET), environ=environ) == path
    after = json.loads(path.read_text())
    assert after == {**config, "auths": {"other": auth("other"), "ghcr.io": after["auths"]["ghcr.io"]}}
    assert after["auths"]["ghcr.io"]["auth"] == auth()["auth"]
    assert list(after) == list(config)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["config.json"]
    assert found_again(environ) == ("me", SECRET)


def found_again(environ: dict[str, str]) -> tuple[str, str]:
    credential = find_credential("ghcr.io", environ=environ)
    assert credential is not None
    return credential.username, credential.password


def test_storing_makes_the_folder(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "a")}
    old = os.umask(0)
    try:
        path = store_credential("ghcr.io", Credential(username="me", password=SECRET), environ=environ)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert found_again(environ) == ("me", SECRET)


@pytest.mark.parametrize("password", ["", "a:b", "é日", " ", "\n", "x" * 10_000])
def test_what_is_stored_is_found(tmp_path: Path, password: str) -> None:
    environ = {"HOME": str(tmp_path)}
    store_credential("ghcr.io", Credential(username="me", password=password), environ=environ)
    assert found_again(environ) == ("me", password)


def test_an_identity_token_is_stored_too(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    given = Credential(username="me", identity_token=IDENTITY)
    store_credential("ghcr.io", given, environ=environ)
    credential = find_credential("ghcr.io", environ=environ)
    assert credential is not None
    assert (credential.username, credential.identity_token) == ("me", IDENTITY)


def test_storing_follows_a_link(tmp_path: Path) -> None:
    target = tmp_path / "dotfiles" / "docker.json"
    target.parent.mkdir()
    target.write_text(json.dumps({"auths": {"other": auth("other")}}))
    environ = {"HOME": str(tmp_path)}
    (tmp_path / ".docker").mkdir()
    path = docker_config(environ)
    path.symlink_to("../dotfiles/docker.json")
    store_credential("ghcr.io", Credential(username="me", password=SECRET), environ=environ)
    assert path.is_symlink()
    assert set(json.loads(target.read_text())["auths"]) == {"other", "ghcr.io"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert os.listdir(target.parent) == ["docker.json"]
    target.unlink()  # the link now leads to nothing yet
    store_credential("ghcr.io", Credential(username="me", password=SECRET), environ=environ)
    assert path.is_symlink()
    assert list(json.loads(target.read_text())["auths"]) == ["ghcr.io"]


def test_storing_follows_a_link_to_another_file_system(tmp_path: Path) -> None:
    other = next((item for item in ("/dev/shm", "/run") if is_other_device(item, tmp_path)), None)
    if other is None:
        pytest.skip("needs a second file system that can be written")
    with tempfile.TemporaryDirectory(dir=other) as folder:
        environ = {"HOME": str(tmp_path)}
        (tmp_path / ".docker").mkdir()
        docker_config(environ).symlink_to(Path(folder) / "config.json")
        store_credential("ghcr.io", Credential(username="me", password=SECRET), environ=environ)
        assert os.listdir(folder) == ["config.json"]
        assert os.listdir(tmp_path / ".docker") == ["config.json"]
        assert found_again(environ) == ("me", SECRET)


def is_other_device(folder: str, path: Path) -> bool:
    return os.access(folder, os.W_OK) and os.stat(folder).st_dev != path.stat().st_dev


def test_a_break_while_storing_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = docker(tmp_path, {"auths": {"other": auth("other")}})
    path = docker_config(environ)
    before = path.read_bytes()

    def broken(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(AuthError, match="cannot be written: No space left on device") as caught:
        store_credential("ghcr.io", Credential(username="me", password=SECRET), environ=environ)
    assert_hidden("".join(traceback.format_exception(caught.value)))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["config.json"]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store_credential("ghcr.io", Credential(username="me", password=SECRET), environ=environ)
    assert os.listdir(path.parent) == ["config.json"]


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"auths":[]}', b'{"auths":{"ghcr.io":', b"\xff"])
def test_what_is_no_configuration_is_not_written_over(tmp_path: Path, raw: bytes) -> None:
    environ = docker(tmp_path, raw)
    with pytest.raises(AuthError):
        store_credential("ghcr.io", Credential(username="me", password=SECRET), environ=environ)
    assert docker_config(environ).read_bytes() == raw


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    given = Credential(username="me", password=SECRET)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "config.json").mkdir(parents=True)
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "config.json").symlink_to("config.json")
    for name in ("file", "file/below", "folder", "loop"):
        with pytest.raises(AuthError, match="cannot be"):
            store_credential("ghcr.io", given, environ={"DOCKER_CONFIG": str(tmp_path / name)})
    assert os.listdir(tmp_path / "folder") == ["config.json"]
    assert os.listdir(tmp_path / "loop") == ["config.json"]


@contextmanager
def unprivileged() -> Iterator[Path]:
    """As a user whom permissions bind, and a folder of theirs."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid():
            yield Path(name)
            return
        os.chown(name, 65534, 65534)
        os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            os.seteuid(0)


def test_permissions_that_forbid_it() -> None:
    given = Credential(username="me", password=SECRET)
    with unprivileged() as home:
        environ = docker(home, {"auths": {"ghcr.io": auth()}})
        path = docker_config(environ)
        path.parent.chmod(0o500)
        with pytest.raises(AuthError, match="cannot be written: Permission denied"):
            store_credential("ghcr.io", given, environ=environ)
        assert found_again(environ) == ("me", SECRET)
        path.chmod(0)
        for action in (
            lambda: find_credential("ghcr.io", environ=environ),
            lambda: store_credential("ghcr.io", given, environ=environ),
        ):
            with pytest.raises(AuthError, match="cannot be read: Permission denied"):
                action()
        path.parent.chmod(0)
        with pytest.raises(AuthError, match="cannot be read: Permission denied"):
            find_credential("ghcr.io", environ=environ)
        path.parent.chmod(0o700)


def test_two_that_store_at_a_time_leave_a_whole_file(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    failures: list[BaseException] = []

    def store(number: int) -> None:
        try:
            for turn in range(20):
                store_credential(
                    f"r{number}.example:{turn}", Credential(username="me", password=SECRET), environ=environ
                )
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=store, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    path = docker_config(environ)
    assert json.loads(path.read_text())["auths"]
    assert os.listdir(path.parent) == ["config.json"]


def test_where_a_credential_goes(tmp_path: Path) -> None:
    """Only to the registry, and to the token service that it names."""
    credential = find_credential("ghcr.io", environ=docker(tmp_path, {"auths": {"ghcr.io": auth()}}))
    client = WiredClient(
        answer(b"", b'WWW-Authenticate: Basic realm="x"', status=b"401 No"), host="ghcr.io", credential=credential
    )
    with pytest.raises(RegistryError):
        client.ping()
    assert [b"\r\nAuthorization: " in visit.said for visit in client.visits] == [False, True]
    assert {visit.host for visit in client.visits} == {"ghcr.io"}


def test_docker_hub_has_a_name_of_its_own(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    path = store_credential("docker.io", Credential(username="me", password=SECRET), environ=environ)
    assert list(json.loads(path.read_text())["auths"]) == ["https://index.docker.io/v1/"]
    credential = find_credential("docker.io", "grove/x", environ=environ)
    assert credential is not None
    assert credential.username == "me"
    assert find_credential("quay.io", environ=environ) is None
