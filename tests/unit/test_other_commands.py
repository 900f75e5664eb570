"""`copy`, `inspect`, `unpack`, `gc`, and what every command does."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ocibuild import ArchiveStore, LayoutStore, MemoryStore, Platform, build_image, copy, open_artifact
from ocibuild.contents import file_tree
from ocibuild.errors import DigestMismatchError, LayerError, OcibuildError, StoreError
from ocibuild.layer.build import Layer
from ocibuild.oci import Digest, media_types
from ocibuild.store import Artifact
from ocibuild.unpack import unpack
from tests.conftest import Result
from tests.support.tools import ROOT, TREES

Cli = Callable[..., Result]


def test_copy_round_trip_keeps_every_byte(cli: Cli, hello: Path, tmp_path: Path) -> None:
    assert cli("copy", f"oci:{hello}", f"oci-archive:{tmp_path}/a.tar").code == 0
    assert cli("copy", f"oci-archive:{tmp_path}/a.tar", f"oci:{tmp_path}/b").code == 0
    files = {path.relative_to(hello): path.read_bytes() for path in hello.rglob("*") if path.is_file()}
    again = {
        path.relative_to(tmp_path / "b"): path.read_bytes() for path in (tmp_path / "b").rglob("*") if path.is_file()
    }
    assert files == again


def test_copy_one_platform_under_another_tag(cli: Cli, hello: Path, tmp_path: Path) -> None:
    result = cli("copy", f"{hello}:0.2.0", f"oci:{tmp_path}/x:arm", "--platform", "arm64", "--json")
    assert result.code == 0
    found = open_artifact(f"oci:{tmp_path}/x:arm")
    assert json.loads(result.out) == {"digest": found.digest, "destination": f"oci:{tmp_path}/x:arm", "tags": ["arm"]}
    assert found.root.media_type == media_types.IMAGE_MANIFEST
    assert len(list((tmp_path / "x/blobs/sha256").iterdir())) == 3


def test_a_docker_archive(cli: Cli, hello: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.tar"
    result = cli("copy", hello, f"docker-archive:{path}:pgrx_hello-ext:0.2.0")
    assert result.code == 2
    assert "linux/amd64, linux/arm64" in result.err
    assert not path.exists()
    assert cli("copy", hello, f"docker-archive:{path}:pgrx_hello-ext:0.2.0", "--platform", "amd64").code == 0
    with tarfile.open(path) as archive:
        [image] = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert image["RepoTags"] == ["pgrx_hello-ext:0.2.0"]
        config = json.load(archive.extractfile(image["Config"]))  # type: ignore[arg-type]
        layer = archive.extractfile(image["Layers"][0]).read()  # type: ignore[union-attr]
    assert config["rootfs"]["diff_ids"] == [Digest.of(layer)]
    assert image["Config"].endswith(Digest(image["Config"].replace("blobs/", "").replace("/", ":")).encoded)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["copy", "oci:nowhere", "oci:x"], 6, "no OCI layout"),
        (["copy", "HELLO:9.9", "oci:x"], 6, "no tag '9.9', wanted one of: 0.2.0"),
        (["copy", "HELLO", "oci:x", "--platform", "s390x"], 6, "no image for linux/s390x, wanted one of: linux/amd64"),
        (["copy", "HELLO", "oci:x", "--platform", "a b"], 2, "platform 'a b'"),
        (["copy", "HELLO", "oci:x@sha256:" + "0" * 64], 2, "a digest in the destination"),
        (["copy", "HELLO", "docker-archive:x.tar", "--referrers"], 2, "--referrers"),
        (["copy", "docker-archive:x.tar", "oci:x"], 2, "only be copied to"),
        (["inspect", "oci:nowhere"], 6, "no OCI layout"),
        (["inspect", "nowhere"], 6, "'nowhere' is not there"),
        (["unpack", "HELLO", "x"], 2, "Add --platform, one of: linux/amd64, linux/arm64"),
        (["unpack", "HELLO", "docs", "--platform", "arm64"], 7, "exists and is not empty"),
        (["gc", "oci:nowhere"], 6, "no OCI layout"),
        (["gc", "HELLO:0.2.0"], 2, "without a tag"),
        (["gc", "oci:docs"], 7, "exists and is not an OCI layout"),
    ],
)
def test_errors(
    cli: Cli, hello: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/x").touch()
    monkeypatch.chdir(tmp_path)
    result = cli(*(item.replace("HELLO", f"oci:{hello}") for item in arguments))
    assert result.code == code, result
    assert words in result.err
    assert "Traceback" not in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]


def test_inspect(cli: Cli, hello: Path) -> None:
    out = cli("inspect", hello).out
    assert out.startswith("index sha256:")
    for words in (
        "tags 0.2.0",
        "linux/amd64  sha256:",
        "labels and annotations: those of the index",
        "user 65532:65532",
        "diff ID sha256:",
        "-0644  328.3 kB  lib/pgrx_hello.so",
    ):
        assert words in out
    found = json.loads(cli("inspect", hello, "--json").out)
    assert found["manifests"][1]["platform"] == "linux/arm64"
    assert found["manifests"][0]["layers"][0]["files"][1] == {
        "path": "lib/pgrx_hello.so", "type": "file", "mode": "0644", "size": 328328, "link": ""
    }  # fmt: skip
    assert "lib/pgrx_hello.so" not in cli("inspect", hello, "--no-files").out


def test_text_of_an_image_cannot_steer_the_terminal(cli: Cli, tmp_path: Path) -> None:
    with LayoutStore(tmp_path / "x") as layout:
        image = build_image(
            [], platform=Platform.parse("amd64"), labels={"a": "\x1b[31mred\u202e\r\n[bold]"}, into=layout
        )
        copy(image, layout, tags=["1"])
    out = cli("inspect", tmp_path / "x").out
    assert "\\x1b[31mred\\u202e\\r\\n[bold]" in out
    assert "\x1b" not in out


def test_unpack(cli: Cli, hello: Path, tmp_path: Path) -> None:
    target = tmp_path / "files"
    result = cli("unpack", hello, target, "--platform", "linux/amd64")
    assert result.code == 0, result.err
    tree = TREES[0]
    for path in target.rglob("*"):
        assert stat.S_IMODE(path.lstat().st_mode) == (0o755 if path.is_dir() else 0o644)
    assert (target / "lib/pgrx_hello.so").read_bytes() == (
        tree / "usr/lib/postgresql/18/lib/pgrx_hello.so"
    ).read_bytes()
    extension = sorted(path.name for path in (target / "share/extension").iterdir())
    assert extension == sorted(path.name for path in (tree / "usr/share/postgresql/18/extension").iterdir())


# Layers that no builder of ours would make


def foreign(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> Artifact:
    """An image of layers written by Python's tarfile; a TarInfo named `---` begins the next one."""
    store = MemoryStore()
    built: list[Layer] = []
    groups: list[list[tuple[tarfile.TarInfo, bytes]]] = [[]]
    for member in members:
        info, data = member if isinstance(member, tuple) else (member, b"")
        if info.name == "---":
            groups.append([])
        else:
            groups[-1].append((info, data))
    for group in groups:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for info, data in group:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        with store.ingest() as writer:
            writer.write(buffer.getvalue())
            descriptor = writer.commit(media_types.LAYER)
        built.append(Layer(descriptor=descriptor, diff_id=descriptor.digest, uncompressed_size=descriptor.size))
    return build_image(built, platform=Platform.parse("amd64"), into=store)


def item(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int | None = None) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.mode = mode if mode is not None else (0o755 if kind == tarfile.DIRTYPE else 0o644)
    return info


NEXT = item("---")
FOLDER, LINK, HARD = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    "members",
    [
        [(item("../evil"), b"x")],
        [(item("a/../../evil"), b"x")],
        [item("l", LINK, "../.."), (item("l/evil"), b"x")],
        [item("l", LINK, "/etc"), (item("l/evil"), b"x")],
        [item("a", FOLDER), item("a/up", LINK, ".."), item("l", LINK, "a/up/.."), (item("l/evil"), b"x")],
        [item("h", HARD, "/etc/passwd")],
        [item("h", HARD, "../../etc/passwd")],
        [item("h", HARD, "nothing")],
        [item("null", tarfile.CHRTYPE)],
        [item("sda", tarfile.BLKTYPE)],
        [item("pipe", tarfile.FIFOTYPE)],
        [item("l", LINK, "l"), (item("l/x"), b"x")],
    ],
)
def test_unsafe_layers_are_refused_and_nothing_is_written(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    (tmp_path / "work").mkdir()
    with pytest.raises(LayerError):
        unpack(foreign(*members), tmp_path / "work/out")
    assert list(tmp_path.rglob("*")) == [tmp_path / "work"]


def test_layers_are_applied_in_order(tmp_path: Path) -> None:
    image = foreign(
        item("./", FOLDER), (item("./keep"), b"1"), (item("gone"), b"1"), (item("d/a"), b"1"), (item("d/b"), b"1"),
        (item("o/old"), b"1"), item("usr/lib", FOLDER), item("lib", LINK, "usr/lib"), (item("was/dir"), b"1"),
        NEXT,
        (item(".wh.gone"), b""), (item("d/.wh.a"), b""), (item("o/.wh..wh..opq"), b""), (item("o/new"), b"2"),
        (item("lib/through"), b"2"), (item("was"), b"2"), item("hard", HARD, "./keep"), item("s", LINK, "keep"),
    )  # fmt: skip
    assert list(file_tree(image)) == [
        "d/b", "hard", "keep", "lib", "o/new", "s", "usr/lib", "usr/lib/through", "was",
    ]  # fmt: skip
    unpack(image, tmp_path / "out")
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    assert found == {
        "keep": b"1", "hard": b"1", "d/b": b"1", "o/new": b"2", "usr/lib/through": b"2", "was": b"2",
    }  # fmt: skip
    assert os.readlink(tmp_path / "out/lib") == "usr/lib"
    assert os.readlink(tmp_path / "out/s") == "keep"


def test_set_id_bits_are_not_unpacked(tmp_path: Path) -> None:
    unpack(foreign((item("su", mode=0o4755), b"x")), tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out/su").stat().st_mode) == 0o755


def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    unpack(foreign(item("d", FOLDER, mode=0o555), (item("d/x"), b"x")), tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out/d").stat().st_mode) == 0o555


def test_names_of_other_archivers(tmp_path: Path) -> None:
    long = "n" * 150 + "/" + "é" * 60
    image = foreign((item(long), b"x"), item("l", LINK, "t" * 200))
    unpack(image, tmp_path / "out")
    assert (tmp_path / "out" / long).read_bytes() == b"x"
    assert os.readlink(tmp_path / "out/l") == "t" * 200


def test_a_layer_that_is_not_its_diff_id(tmp_path: Path) -> None:
    store = MemoryStore()
    good = foreign((item("a"), b"x"))
    layer = Layer(
        descriptor=store.resolve(_put(store, good)).bare, diff_id=Digest("sha256:" + "0" * 64), uncompressed_size=0
    )
    with pytest.raises(DigestMismatchError, match="diff ID"):
        unpack(build_image([layer], platform=Platform.parse("amd64"), into=store), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def _put(store: MemoryStore, image: Artifact) -> str:
    from ocibuild.contents import read_image

    descriptor = read_image(image)[0].layers[0]
    with image.source.fetch(descriptor) as content:
        store.push(descriptor, content)
    store._tags["layer"] = descriptor
    return "layer"


# Every command


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ocibuild", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        check=False,
    )


def test_help_and_version() -> None:
    assert "COMMAND" in run("--help").stdout
    assert run("--version").stdout.startswith("ocibuild 0.")
    assert run().returncode == 2
    assert run("nothing").returncode == 2
    for command in ("build", "copy", "inspect", "unpack", "gc"):
        out = run(command, "--help").stdout
        assert f"ocibuild {command} " in out
        assert "--json" in out


def test_a_mistyped_option() -> None:
    result = run("copy", "a", "b", "--platfrom", "x")
    assert result.returncode == 2
    assert "usage: ocibuild copy" in result.stderr
    assert "unknown argument '--platfrom'; did you mean --platform?" in result.stderr


def test_an_internal_error_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("oops")

    monkeypatch.setattr("ocibuild.cli.inspect.describe", broken)
    monkeypatch.setattr("ocibuild.cli.inspect.open_artifact", broken)
    result = cli("inspect", "x")
    assert result.code == 1
    assert "internal error: RuntimeError: oops" in result.err
    monkeypatch.setenv("OCIBUILD_DEBUG", "1")
    with pytest.raises(RuntimeError):
        cli("inspect", "x")


def test_a_reader_that_goes_away(hello: Path) -> None:
    command = f"{sys.executable} -m ocibuild inspect {hello} --json | head -c 1"
    result = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert result.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_build_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with open(tree / "big", "wb") as stream:
        stream.write(os.urandom(1 << 20) * 400)
    process = subprocess.Popen(
        [sys.executable, "-m", "ocibuild", "build", f"linux/amd64={tree}", "-o", f"oci:{tmp_path}/out/x"],
        cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 30
    while not list(tmp_path.glob("out/x/.tmp*/blob*")) and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate()
    # A Ctrl-C that falls into an import makes CPython end itself by the signal, though it was handled: 130 to a shell.
    assert process.returncode in ((130, -signal.SIGINT) if number == signal.SIGINT else (130,))
    assert err.splitlines()[-1] == "ocibuild: interrupted"
    assert "Traceback" not in err
    # Also the folder that was made for it.
    assert not (tmp_path / "out").exists()


def test_errors_in_json(cli: Cli) -> None:
    result = cli("inspect", "oci:nowhere", "--json")
    assert json.loads(result.out)["error"] == "NotFoundError"
    assert result.err.startswith("ocibuild: nowhere: no OCI layout")


def test_unpacking_where_something_is(hello: Path, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(StoreError):
        unpack(open_artifact(f"oci:{hello}"), tmp_path / "x")


def test_damaged_layouts_and_archives_never_escape_the_error_tree(hello: Path, tmp_path: Path) -> None:
    """Each file of a layout removed, and each blob replaced by another."""
    import shutil

    files = sorted(path.relative_to(hello) for path in hello.rglob("*") if path.is_file())
    for name in files:
        for change in ("remove", "swap"):
            work = tmp_path / "work"
            shutil.copytree(hello, work)
            (work / name).unlink()
            if change == "swap":
                (work / name).write_bytes((hello / files[0]).read_bytes())
            try:
                image = open_artifact(f"oci:{work}")
                with ArchiveStore(tmp_path / "out.tar") as archive:
                    copy(image, archive, tags=["1"])
            except OcibuildError:
                assert not (tmp_path / "out.tar").exists()
            else:
                assert (name, change) == (files[0], "swap")
                (tmp_path / "out.tar").unlink()
            shutil.rmtree(work)
