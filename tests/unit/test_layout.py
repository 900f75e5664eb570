"""Layouts and archives that survive: damage, other processes, other tools' files."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from ocibuild import ArchiveStore, LayoutStore, Platform, build_image, copy
from ocibuild.errors import (
    DigestMismatchError,
    LayoutError,
    NotFoundError,
    OcibuildError,
    StoreError,
    UsageError,
)
from ocibuild.locations import open_artifact, parse_location
from ocibuild.oci import Descriptor
from ocibuild.store import Spool, walk
from ocibuild.store.files import Staging, sweep
from tests.support.tools import ROOT


def new_layout(path: Path, number: int = 0) -> Descriptor:
    with LayoutStore(path) as layout:
        image = build_image([], platform=Platform.parse("amd64"), labels={"n": str(number)}, into=layout)
        copy(image, layout, tags=[f"t{number}"])
    return image.root


def blob(path: Path, descriptor: Descriptor) -> Path:
    return path / "blobs" / "sha256" / descriptor.digest.encoded


def test_nothing_but_the_layout_is_left(tmp_path: Path) -> None:
    new_layout(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["blobs", "index.json", "oci-layout"]


def test_an_empty_folder_becomes_a_layout(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    new_layout(tmp_path / "out")
    assert list(LayoutStore(tmp_path / "out").tags()) == ["t0"]


@pytest.mark.parametrize("kind", ["file", "folder", "version", "garbage"])
def test_an_output_that_is_not_a_layout_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out"
    if kind == "file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / ("mine" if kind == "folder" else "oci-layout")).write_text(
            '{"imageLayoutVersion":"9"}' if kind == "version" else "garbage"
        )
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(LayoutError):
        LayoutStore(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        LayoutStore(tmp_path / "out").resolve("x")
    assert not (tmp_path / "out").exists()
    with pytest.raises(NotFoundError):
        ArchiveStore(tmp_path / "out.tar").resolve("x")


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "remove"])
def test_a_damaged_blob_is_found_on_reading(tmp_path: Path, damage: str) -> None:
    root = new_layout(tmp_path / "out")
    path = blob(tmp_path / "out", root)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[10] ^= 1
    elif damage == "cut":
        del data[-1]
    elif damage == "grow":
        data += b" "
    path.write_bytes(data)
    if damage == "remove":
        path.unlink()
    store = LayoutStore(tmp_path / "out")
    assert not store.exists(root)
    with pytest.raises((DigestMismatchError, NotFoundError)), store.fetch(root) as stream:
        stream.read()
    with pytest.raises((DigestMismatchError, NotFoundError)):
        copy(open_artifact(f"oci:{tmp_path}/out"), Spool())


def test_a_damaged_blob_is_replaced_by_the_next_build(tmp_path: Path) -> None:
    root = new_layout(tmp_path / "out")
    blob(tmp_path / "out", root).write_bytes(b"x" * root.size)
    assert new_layout(tmp_path / "out") == root
    assert LayoutStore(tmp_path / "out").exists(root)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"schemaVersion":2}', '{"schemaVersion":2,"manifests":[{}]}', "\x00" * 100]
)
def test_a_damaged_index(tmp_path: Path, text: str) -> None:
    new_layout(tmp_path / "out")
    (tmp_path / "out/index.json").write_text(text)
    with pytest.raises(LayoutError, match=r"index\.json"):
        LayoutStore(tmp_path / "out").tags()


def test_unknown_entries_of_other_tools_are_kept(tmp_path: Path) -> None:
    root = new_layout(tmp_path / "out")
    path = tmp_path / "out/index.json"
    index = json.loads(path.read_bytes())
    index["manifests"][0]["annotations"]["vendor.example"] = "kept"
    index["annotations"] = {"of": "the index"}
    path.write_text(json.dumps(index))
    new_layout(tmp_path / "out", 1)
    found = json.loads(path.read_bytes())
    assert found["annotations"] == {"of": "the index"}
    assert [item["annotations"].get("vendor.example") for item in found["manifests"]] == ["kept", None]
    assert LayoutStore(tmp_path / "out").resolve(root.digest).digest == root.digest


WRITER = """
import sys
from ocibuild import LayoutStore, Platform, build_image, copy
path, first = sys.argv[1], int(sys.argv[2])
with LayoutStore(path) as layout:
    for number in range(first, first + 25):
        image = build_image([], platform=Platform.parse("amd64"), labels={"n": str(number)}, into=layout)
        copy(image, layout, tags=[f"t{number}"])
"""


def test_processes_that_write_to_one_layout_lose_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "out")]
    running = [subprocess.Popen([*command, str(first)], cwd=ROOT) for first in (0, 25, 50, 75)]
    assert [process.wait() for process in running] == [0, 0, 0, 0]
    store = LayoutStore(tmp_path / "out")
    assert len(store.tags()) == 100
    for descriptor in store.tags().values():
        for item in walk(store, descriptor):
            assert store.exists(item)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_failed_build_leaves_no_new_layout(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), LayoutStore(tmp_path / "out") as layout:
        build_image([], platform=Platform.parse("amd64"), into=layout)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_failed_build_leaves_an_old_layout(tmp_path: Path) -> None:
    root = new_layout(tmp_path / "out")
    with pytest.raises(RuntimeError), LayoutStore(tmp_path / "out") as layout:
        build_image([], platform=Platform.parse("arm64"), into=layout)
        raise RuntimeError
    assert LayoutStore(tmp_path / "out").tags() == {"t0": root.bare}


def test_gc_removes_what_nothing_names(tmp_path: Path) -> None:
    new_layout(tmp_path / "out", 0)
    with LayoutStore(tmp_path / "out") as layout:
        image = build_image([], platform=Platform.parse("arm64"), into=layout)
        copy(image, layout, tags=["t0"])  # the tag moves; the first image has no name any more
    count, size = LayoutStore(tmp_path / "out").gc()
    assert count == 2
    assert size > 0
    with LayoutStore(tmp_path / "out") as store:
        assert all(store.exists(item) for item in walk(store, store.resolve("t0")))
    assert LayoutStore(tmp_path / "out").gc() == (0, 0)


def test_gc_waits_for_nobody_and_harms_nobody(tmp_path: Path) -> None:
    new_layout(tmp_path / "out")
    with LayoutStore(tmp_path / "out") as layout:
        build_image([], platform=Platform.parse("arm64"), into=layout)
        with pytest.raises(StoreError, match="another process"):
            LayoutStore(tmp_path / "out").gc()


def test_gc_of_an_incomplete_layout_removes_nothing(tmp_path: Path) -> None:
    root = new_layout(tmp_path / "out")
    blob(tmp_path / "out", root).unlink()
    (tmp_path / "out/blobs/sha256/stray").write_text("x")
    with pytest.raises(NotFoundError):
        LayoutStore(tmp_path / "out").gc()
    assert (tmp_path / "out/blobs/sha256/stray").exists()


def test_dead_staging_folders_are_swept_and_living_ones_are_not(tmp_path: Path) -> None:
    living = Staging(tmp_path, "tmp")
    dead = tmp_path / ".tmp.ocibuild-dead"
    dead.mkdir()
    (dead / "lock").touch()
    assert sweep(tmp_path) == [living.path]
    assert living.path.exists()
    assert not dead.exists()
    living.close()
    assert list(tmp_path.iterdir()) == []


def test_a_blob_is_never_followed_out_of_the_layout(tmp_path: Path) -> None:
    new_layout(tmp_path / "out")
    path = tmp_path / "out/index.json"
    index = json.loads(path.read_bytes())
    index["manifests"][0]["digest"] = "sha256:../../../../etc/passwd"
    path.write_text(json.dumps(index))
    with pytest.raises(LayoutError):
        LayoutStore(tmp_path / "out").tags()


def test_a_folder_nobody_may_write_to(tmp_path: Path) -> None:
    """In a process of its own, without root's right to write everywhere."""
    (tmp_path / "closed").mkdir(mode=0o500)
    command = [sys.executable, "-c", WRITER, str(tmp_path / "closed/out"), "0"]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("needs setpriv: root writes everywhere")
        command = ["setpriv", "--bounding-set=-dac_override", *command]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "StoreError" in result.stderr
    assert "Check who may read and write there" in result.stderr
    assert list((tmp_path / "closed").iterdir()) == []


# Archives


def new_archive(path: Path, number: int = 0) -> Descriptor:
    with ArchiveStore(path) as archive:
        image = build_image([], platform=Platform.parse("amd64"), labels={"n": str(number)}, into=archive)
        copy(image, archive, tags=[f"t{number}"])
    return image.root


def test_an_archive_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    new_archive(tmp_path / "a.tar")
    new_archive(tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as archive:
        names = [item.name for item in archive]
    assert names == sorted(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "b.tar"]


def test_images_are_added_to_an_archive(tmp_path: Path) -> None:
    new_archive(tmp_path / "a.tar", 0)
    new_archive(tmp_path / "a.tar", 1)
    assert list(ArchiveStore(tmp_path / "a.tar").tags()) == ["t0", "t1"]


def test_a_failed_build_leaves_an_archive_as_it_was(tmp_path: Path) -> None:
    new_archive(tmp_path / "a.tar")
    before = (tmp_path / "a.tar").read_bytes()
    with pytest.raises(RuntimeError), ArchiveStore(tmp_path / "a.tar") as archive:
        build_image([], platform=Platform.parse("arm64"), into=archive)
        raise RuntimeError
    assert (tmp_path / "a.tar").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar"]


def test_the_name_for_containerd(tmp_path: Path) -> None:
    with ArchiveStore(tmp_path / "a.tar", name="ghcr.io/o/r") as archive:
        copy(build_image([], platform=Platform.parse("amd64")), archive, tags=["1"])
    [entry] = ArchiveStore(tmp_path / "a.tar").index().manifests
    assert (entry.annotations or {})["io.containerd.image.name"] == "ghcr.io/o/r:1"


@pytest.mark.parametrize("cut", [0, 100, 512, 1000, 2000, -1520, -600])
def test_a_truncated_archive(tmp_path: Path, cut: int) -> None:
    root = new_archive(tmp_path / "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[:cut])
    with pytest.raises(OcibuildError):
        store = ArchiveStore(tmp_path / "a.tar")
        for item in walk(store, root):
            store.fetch(item).read()


def test_an_altered_archive(tmp_path: Path) -> None:
    root = new_archive(tmp_path / "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data.replace(b"amd64", b"arm64"))
    store = ArchiveStore(tmp_path / "a.tar")
    with pytest.raises(DigestMismatchError):
        for item in walk(store, root):
            store.fetch(item).read()


@pytest.mark.parametrize("content", [b"not a tar", b"", b"\0" * 1024])
def test_a_file_that_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(LayoutError):
        ArchiveStore(tmp_path / "a.tar")


def test_a_tar_that_is_no_layout(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        item = tarfile.TarInfo("hello")
        item.size = 2
        archive.addfile(item, io.BytesIO(b"hi"))
    with pytest.raises(LayoutError, match="oci-layout"):
        ArchiveStore(tmp_path / "a.tar")


# Locations


@pytest.mark.parametrize(
    ("text", "transport", "path", "name"),
    [
        ("oci:a", "oci", "a", None),
        ("oci:a:1", "oci", "a", "1"),
        ("oci:/x/y.z:1.0", "oci", "/x/y.z", "1.0"),
        ("oci:a@sha256:" + "0" * 64, "oci", "a", "sha256:" + "0" * 64),
        ("oci-archive:a.tar:1", "oci-archive", "a.tar", "1"),
        ("docker-archive:a.tar:n:1", "docker-archive", "a.tar", "n:1"),
        ("docker-archive:a.tar:n", "docker-archive", "a.tar", "n:latest"),
        ("docker-archive:a.tar:localhost:5000/n:1", "docker-archive", "a.tar", "localhost:5000/n:1"),
        ("./a", "oci", "./a", None),
        ("/a/b.tar:1", "oci-archive", "/a/b.tar", "1"),
        ("../a:1", "oci", "../a", "1"),
        ("ghcr.io/o/r:1", "docker", "ghcr.io/o/r:1", None),
        ("docker://localhost:5000/r", "docker", "localhost:5000/r", None),
        ("fixtures", "oci", "fixtures", None),
    ],
)
def test_locations(text: str, transport: str, path: str, name: str | None) -> None:
    found = parse_location(text)
    assert (found.transport, found.path, found.name) == (transport, path, name)


@pytest.mark.parametrize(
    "text", ["", "oci:", "dist/x", "x", "oci:a:b c", "docker://x/y", "oci:a@sha256:0", "oci-archive::1"]
)
def test_locations_refused(text: str) -> None:
    with pytest.raises((UsageError, NotFoundError)):
        parse_location(text)


def test_the_only_image_needs_no_tag_and_several_do(tmp_path: Path) -> None:
    root = new_layout(tmp_path / "out", 0)
    assert open_artifact(f"{tmp_path}/out").digest == root.digest
    assert open_artifact(f"oci:{tmp_path}/out@{root.digest}").digest == root.digest
    new_layout(tmp_path / "out", 1)
    with pytest.raises(UsageError, match="t0, t1"):
        open_artifact(f"{tmp_path}/out")
    assert open_artifact(f"{tmp_path}/out:t0").digest == root.digest
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(NotFoundError):
        open_artifact(f"oci:{tmp_path}/out")


def test_what_was_left_beside_a_layout_is_swept(tmp_path: Path) -> None:
    """A process that dies when it has just put its layout in place leaves the folder it was made in."""
    place = tmp_path / "x"
    with LayoutStore(place) as store:
        build_image([], platform=Platform.parse("amd64"), into=store)
    dead = tmp_path / ".x.ocibuild-0123456789ab"
    dead.mkdir()
    (dead / "lock").touch()
    with LayoutStore(place) as store:
        build_image([], platform=Platform.parse("arm64"), into=store)
    assert [item.name for item in tmp_path.iterdir()] == ["x"]
