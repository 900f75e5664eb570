"""skopeo, umoci and docker-registry read what ocibuild writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocibuild import ArchiveStore, Compression, LayoutStore, Platform, copy, open_artifact, postgres
from ocibuild.store.graph import read_blob
from tests.support.registry import registry
from tests.support.tools import TREES, require, run

pytestmark = pytest.mark.real

ARCHITECTURES = ("amd64", "arm64")


@pytest.fixture(params=["gzip", "zstd", "none"])
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return build(tmp_path / "layout", request.param)


def build(path: Path, compression: str) -> Path:
    with LayoutStore(path) as store:
        sources = [postgres.open_source(tree) for tree in TREES]
        image = postgres.build_extension(sources, into=store, compression=Compression(compression))
        copy(image, store, tags=["0.2.0", "latest"])
    return path


def expected(architecture: str) -> dict[str, bytes]:
    tree = TREES[ARCHITECTURES.index(architecture)] / "usr"
    found = {"lib/pgrx_hello.so": (tree / "lib/postgresql/18/lib/pgrx_hello.so").read_bytes()}
    for path in (tree / "share/postgresql/18/extension").iterdir():
        found[f"share/extension/{path.name}"] = path.read_bytes()
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_skopeo_reads_the_index_as_it_is(layout: Path) -> None:
    raw = run([require("skopeo"), "inspect", "--raw", f"oci:{layout}:0.2.0"]).stdout
    image = open_artifact(f"oci:{layout}:0.2.0")
    assert raw.encode() == read_blob(image.source, image.root)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_skopeo_inspects_each_platform(layout: Path, architecture: str) -> None:
    out = run([require("skopeo"), "--override-arch", architecture, "inspect", f"oci:{layout}:latest"]).stdout
    found = json.loads(out)
    assert (found["Architecture"], found["Os"]) == (architecture, "linux")
    assert found["Labels"]["org.opencontainers.image.version"] == "0.2.0"


@pytest.mark.parametrize("kind", ["oci", "oci-archive"])
def test_skopeo_copies_layouts_and_archives(layout: Path, tmp_path: Path, kind: str) -> None:
    image = open_artifact(f"oci:{layout}:0.2.0")
    source = f"oci:{layout}:0.2.0"
    if kind == "oci-archive":
        with ArchiveStore(tmp_path / "a.tar") as archive:
            copy(image, archive, tags=["0.2.0"])
        source = f"oci-archive:{tmp_path}/a.tar:0.2.0"
    run([require("skopeo"), "copy", "--all", "--preserve-digests", source, f"oci:{tmp_path}/copied:x"])
    assert open_artifact(f"oci:{tmp_path}/copied:x").digest == image.digest


# Debian 12's umoci knows no zstd.
@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_umoci_unpacks_the_files(tmp_path: Path, architecture: str, compression: str) -> None:
    layout = build(tmp_path / "layout", compression)
    with LayoutStore(tmp_path / "one") as store:
        copy(open_artifact(f"oci:{layout}:0.2.0"), store, tags=["x"], platform=Platform.parse(architecture))
    run([require("umoci"), "unpack", "--rootless", "--image", f"{tmp_path}/one:x", tmp_path / "bundle"])
    assert files(tmp_path / "bundle/rootfs") == expected(architecture)


def test_umoci_finds_nothing_to_collect(layout: Path) -> None:
    before = sorted((layout / "blobs/sha256").iterdir())
    run([require("umoci"), "gc", "--layout", layout])
    assert sorted((layout / "blobs/sha256").iterdir()) == before


def test_a_registry_takes_it_and_gives_it_back(layout: Path, tmp_path: Path) -> None:
    image = open_artifact(f"oci:{layout}:0.2.0")
    skopeo = require("skopeo")
    with registry(tmp_path) as address:
        name = f"docker://{address}/pgrx_hello-ext:0.2.0"
        run([skopeo, "copy", "--all", "--preserve-digests", "--dest-tls-verify=false", f"oci:{layout}:0.2.0", name])
        run([skopeo, "copy", "--all", "--preserve-digests", "--src-tls-verify=false", name, f"oci:{tmp_path}/back:x"])
    assert open_artifact(f"oci:{tmp_path}/back:x").digest == image.digest


def test_we_read_what_skopeo_and_umoci_write(tmp_path: Path) -> None:
    from ocibuild.store import find_platform
    from ocibuild.unpack import unpack

    umoci = require("umoci")
    run([umoci, "init", "--layout", tmp_path / "u"])
    run([umoci, "new", "--image", f"{tmp_path}/u:x"])
    run([umoci, "insert", "--rootless", "--image", f"{tmp_path}/u:x", TREES[0], "/tree"])
    run([require("skopeo"), "copy", f"oci:{tmp_path}/u:x", f"oci-archive:{tmp_path}/s.tar:x"])
    for name in (f"oci:{tmp_path}/u:x", f"oci-archive:{tmp_path}/s.tar:x"):
        image = find_platform(open_artifact(name), Platform.parse("amd64"))
        target = tmp_path / name.replace("/", "_")
        unpack(image, target)
        assert files(target / "tree") == files(TREES[0])
