"""What is printed, to what: terminals, full disks, narrow encodings, hostile text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ocibuild import LayoutStore, MemoryStore, build_image, build_index, copy
from ocibuild.errors import UsageError
from ocibuild.oci import Descriptor, Platform
from ocibuild.postgres import build_extension, open_source
from ocibuild.store import Artifact
from tests.conftest import Result
from tests.support.tools import ROOT, TREES

Cli = Callable[..., Result]


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command.replace("ocibuild", f"{sys.executable} -m ocibuild")],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}, check=False,
    )  # fmt: skip


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """An index whose platform and labels would steer a terminal."""
    steer = "\x1b]0;pwned\x07\x1b[2J\x9b31m\u202e"
    with LayoutStore(tmp_path / "hostile") as store:
        image = build_image([], platform=Platform.parse("amd64"), labels={"a": steer}, into=store)
        odd = Descriptor(
            media_type=image.root.media_type, digest=image.digest, size=image.root.size,
            platform=Platform(os=f"linux{steer}", architecture="amd64"),
        )  # fmt: skip
        index = build_index([Artifact(odd, store)], into=store, annotations={steer: steer})
        copy(index, store, tags=["1"])
    return tmp_path / "hostile"


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_no_text_of_an_image_steers_the_terminal(cli: Cli, hostile: Path, flags: list[str]) -> None:
    result = cli("inspect", hostile, *flags)
    assert result.code == 0, result.err
    # Lines are drawn with four characters beyond ASCII; nothing else may be, and no control character.
    assert all(character.isprintable() or character == "\n" for character in result.out)
    assert set(filter(lambda character: ord(character) > 126, result.out)) <= set("├└│─")
    if flags:
        assert json.loads(result.out)["annotations"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("flags", ["", "--json"])
def test_output_that_cannot_be_written(hello: Path, flags: str) -> None:
    result = shell(f"ocibuild inspect {hello} {flags} >/dev/full")
    assert (result.returncode, result.stderr) == (7, "ocibuild: output: No space left on device\n")


def test_no_output_at_all(hello: Path) -> None:
    result = shell(f"ocibuild inspect {hello} >&-")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_encodings_without_lines(hello: Path, encoding: str) -> None:
    result = shell(f"ocibuild inspect {hello}", PYTHONIOENCODING=encoding)
    assert result.returncode == 0, result.stderr
    assert "\\u251c" in result.stdout


def test_colours_on_a_terminal_only(hello: Path) -> None:
    code = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    command = [sys.executable, "-c", code, sys.executable, "-m", "ocibuild", "inspect", str(hello)]
    plain = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    for environment, flags, coloured in (({}, [], True), ({"NO_COLOR": "1"}, [], False), ({}, ["--no-color"], False)):
        out = subprocess.run(
            [*command, *flags],
            capture_output=True,
            cwd=ROOT,
            env=plain | environment,
            check=True,
            stdin=subprocess.DEVNULL,
        ).stdout
        assert (b"\x1b[" in out) is coloured
    assert "\x1b[" not in shell(f"ocibuild inspect {hello}").stdout


def test_progress_is_shown_on_a_terminal_for_long_work(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/big").write_bytes(os.urandom(1 << 20) * 64)
    code = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    for arguments in (
        ["build", f"linux/amd64={tmp_path}/tree", "-o", f"oci:{tmp_path}/x"],
        ["copy", f"oci:{tmp_path}/x", f"oci-archive:{tmp_path}/x.tar"],
        ["unpack", f"oci:{tmp_path}/x", f"{tmp_path}/files"],
    ):
        command = [sys.executable, "-c", code, sys.executable, "-m", "ocibuild", *arguments]
        out = subprocess.run(command, capture_output=True, cwd=ROOT, check=True, stdin=subprocess.DEVNULL).stdout
        assert b"MB" in out
        assert b"\x1b[" in out


def test_labels_of_the_library_are_text() -> None:
    for bad in ("a\x1bb", "a\x9bb", "\ud800"):
        for kind in ("labels", "annotations"):
            with pytest.raises(UsageError):
                build_extension([open_source(TREES[0])], **{kind: {"k": bad}})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="JSON cannot hold"):
        build_image([], platform=Platform.parse("amd64"), labels={"a": "\ud800"}, into=MemoryStore())


def test_an_attestation_in_an_index(cli: Cli, tmp_path: Path) -> None:
    """As BuildKit leaves it: an image manifest for unknown/unknown whose layers are statements."""
    from ocibuild.layer.build import Layer
    from ocibuild.oci import Digest

    with LayoutStore(tmp_path / "x") as store:
        image = build_image([], platform=Platform.parse("amd64"), into=store)
        with store.ingest() as blob:
            blob.write(b"{}")
            statement = blob.commit("application/vnd.in-toto+json")
        layer = Layer(descriptor=statement, diff_id=Digest(statement.digest), uncompressed_size=2)
        attestation = build_image([layer], platform=Platform(os="unknown", architecture="unknown"), into=store)
        copy(build_index([image, attestation], into=store), store, tags=["1"])
    assert "unknown/unknown" in cli("inspect", tmp_path / "x").out
    assert cli("unpack", tmp_path / "x", tmp_path / "files").code == 0


def test_copy_moves_the_tag_that_was_named(cli: Cli, tmp_path: Path) -> None:
    with LayoutStore(tmp_path / "x") as store:
        copy(build_image([], platform=Platform.parse("amd64"), into=store), store, tags=["1.0", "new"])
    assert cli("copy", f"oci:{tmp_path}/x:new", f"oci:{tmp_path}/y").code == 0
    assert list(LayoutStore(tmp_path / "y").tags()) == ["new"]
    assert cli("copy", f"oci:{tmp_path}/x", f"oci:{tmp_path}/z").code == 0
    assert list(LayoutStore(tmp_path / "z").tags()) == ["1.0", "new"]


def test_a_docker_archive_is_named_as_docker_would(cli: Cli, hello: Path, tmp_path: Path) -> None:
    image = json.loads(cli("inspect", hello, "--json").out)["manifests"][0]["digest"]
    for name, full in (
        ("x:1", "docker.io/library/x:1"), ("grove/x", "docker.io/grove/x:latest"), ("ghcr.io/o/x:1", "ghcr.io/o/x:1"),
    ):  # fmt: skip
        result = cli("copy", hello, f"docker-archive:{tmp_path}/d.tar:{name}", "--platform", "amd64", "--json")
        assert json.loads(result.out)["digest"] == image
        assert full in (tmp_path / "d.tar").read_bytes().decode("latin-1")
    for name in ("Foo:1", "Foo Bar:../x", "x:a b"):
        assert cli("copy", hello, f"docker-archive:{tmp_path}/e.tar:{name}", "--platform", "amd64").code == 2
    assert not (tmp_path / "e.tar").exists()
