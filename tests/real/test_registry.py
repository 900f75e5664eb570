"""Pushing to a real registry and back, by the command line."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ocibuild.errors import AuthError, NotFoundError, RegistryError
from ocibuild.oci import Reference
from ocibuild.registry import Credential, RegistryClient, RegistryStore
from tests.conftest import Result
from tests.support.registry import registry
from tests.support.tools import TREES

Cli = Callable[..., Result]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with registry(tmp_path) as found:
        yield found


@pytest.fixture
def layout(cli: Cli, tmp_path: Path) -> str:
    assert cli("build", *TREES, "-o", f"oci:{tmp_path}/hello", "--label", "source=https://example.org").code == 0
    return f"oci:{tmp_path}/hello"


def test_push_and_what_follows(cli: Cli, address: str, layout: str, tmp_path: Path) -> None:
    name = f"{address}/grove/hello-ext"
    tags = ("--tag", "latest", "--tag", "{version}", "--tag", "{major}.{minor}")
    first = json.loads(cli("push", layout, name, *tags, "--json").out)
    assert first["tags"] == ["0.2.0", "latest", "0.2"]
    assert (len(first["sent"]), first["there"], first["mounted"]) == (7, [], [])
    again = json.loads(cli("push", layout, name, *tags, "--json").out)
    assert (again["sent"], len(again["there"])) == ([], 7)
    for reference in (f"{name}:0.2.0", f"docker://{name}", f"{name}@{first['digest']}"):
        shown = cli("inspect", reference, "--json")
        assert shown.code == 0, shown.err
        assert json.loads(shown.out)["digest"] == first["digest"]
    assert cli("copy", f"{name}:0.2.0", f"oci-archive:{tmp_path}/back.tar").code == 0
    assert json.loads(cli("inspect", f"oci-archive:{tmp_path}/back.tar", "--json").out)["digest"] == first["digest"]
    assert cli("unpack", f"{name}:0.2.0", tmp_path / "files", "--platform", "linux/arm64").code == 0
    assert (tmp_path / "files/lib/pgrx_hello.so").is_file()
    other = cli("push", layout, f"{address}/other/x", "--mount-from", "grove/hello-ext", "--json")
    assert len(json.loads(other.out)["mounted"]) == 4
    assert cli("copy", f"{name}:0.2.0", f"{address}/third/x:1").code == 0


def test_an_exact_version_is_not_moved(cli: Cli, address: str, layout: str, tmp_path: Path) -> None:
    name = f"{address}/grove/hello-ext"
    assert cli("push", layout, name, "--tag", "{version}", "--tag", "latest").code == 0
    assert cli("build", *TREES, "-o", f"oci:{tmp_path}/two", "--label", "vendor=Elm").code == 0
    refused = cli("push", f"oci:{tmp_path}/two", name, "--tag", "{version}", "--tag", "latest")
    assert refused.code == 2
    assert "Raise the version, or say --replace." in refused.err
    before = json.loads(cli("inspect", f"{name}:latest", "--json").out)["digest"]
    assert json.loads(cli("inspect", layout, "--json").out)["digest"] == before
    # Nor is one that looks like a version, of this image or of another.
    assert cli("push", layout, name, "--tag", "v9.8.7-pg18").code == 0
    assert cli("push", f"oci:{tmp_path}/two", name, "--tag", "v9.8.7-pg18").code == 2
    assert cli("push", f"oci:{tmp_path}/two", name, "--tag", "latest").code == 0
    assert cli("push", f"oci:{tmp_path}/two", name, "--replace").code == 0


def test_what_goes_wrong(cli: Cli, address: str, layout: str) -> None:
    for wrong, said in (("dist/x", "names no registry"), (f"{address}/X", "lower-case"), ("oci:x", "ocibuild copy")):
        refused = cli("push", layout, wrong)
        assert (refused.code, said in refused.err) == (2, True), refused.err
    assert cli("push", layout, f"{address}/x@sha256:{'0' * 64}").code == 2
    assert cli("inspect", f"{address}/no/such:1").code == 6
    assert cli("push", layout, f"{address}/x", "--username", "me").code == 2
    client = RegistryClient("127.0.0.1:1", patience=0.1)
    with pytest.raises(RegistryError, match="no connection to it"):
        RegistryStore(Reference.parse("127.0.0.1:1/o/x"), client=client).resolve("1")


def test_login_writes_what_docker_reads(
    cli: Cli, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").write_text('{"credHelpers": {"x": "y"}, "auths": {"other": {"auth": "YTpi"}}}')
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))
    result = cli("login", address, "--username", "me", "--password-stdin")
    assert result.code == 0, result.err
    assert "secret" not in result.out + result.err
    path = tmp_path / "docker/config.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = json.loads(path.read_text())
    assert written["credHelpers"] == {"x": "y"}
    assert written["auths"] == {"other": {"auth": "YTpi"}, address: {"auth": "bWU6c2VjcmV0"}}


def test_a_missing_image_is_not_found(address: str) -> None:
    store = RegistryStore(
        Reference.parse(f"{address}/o/x"),
        client=RegistryClient(address, credential=Credential(username="a", password="b")),
    )
    with pytest.raises(NotFoundError):
        store.resolve("1")
    assert store.tags() == {}
    assert issubclass(AuthError, RegistryError)
