"""SBOMs: what they list, that the official schema takes them, that their bytes are always the same, and hostile images."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given, settings

import ocibuild
from ocibuild import Artifact, MemoryStore, Platform, build_image, copy, open_artifact, open_store, postgres
from ocibuild.cli.arguments import add_source_options
from ocibuild.cli.sbom import attach_built
from ocibuild.cli.sources import read_input
from ocibuild.errors import EntryError, LayerError, OcibuildError, SourceError, UsageError
from ocibuild.layer import Directory, Entry, build_layer
from ocibuild.oci import Descriptor, media_types
from ocibuild.postgres.crates import read_crates
from ocibuild.postgres.debian import copyright_licences
from ocibuild.postgres.inventory import take_inventory
from ocibuild.sbom import Component, Inventory, ListedFile, Purl, attach_sbom, encode_sbom, find_sbom
from ocibuild.store.graph import push_blob
from tests.conftest import Result
from tests.support.packages import deb
from tests.support.tools import ROOT, TREES
from tests.support.trees import trees, write_tree

Cli = Callable[..., Result]
MODULES = ROOT / "fixtures/modules"
COPYRIGHT = (
    b"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
    b"Files: *\nCopyright: x\nLicense: PostgreSQL\n\nFiles: debian/*\nLicense: GPL-2+ or Expat\n"
)
Members = dict[str | bytes, bytes | str]


def parsed(raw: bytes) -> dict[str, Any]:
    """A document that the official schema takes, strictly, and that is canonical."""
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(raw.decode()) is None
    document: dict[str, Any] = json.loads(raw)
    assert rfc8785.dumps(document) == raw
    refs = [
        item["bom-ref"] for item in (document["metadata"]["component"], *document["components"]) if "bom-ref" in item
    ]
    assert len(refs) == len(set(refs))
    named = [ref for item in document["dependencies"] for ref in (item["ref"], *item.get("dependsOn", ()))]
    assert set(named) == set(refs)
    return document


def listed(image: Artifact, *sources: postgres.Source, **settings: Any) -> dict[str, Any]:
    return parsed(encode_sbom(take_inventory(image, sources, **settings)))


def named(document: dict[str, Any], name: str, kind: str = "library") -> dict[str, Any]:
    [found] = [item for item in document["components"] if (item["name"], item["type"]) == (name, kind)]
    return dict(found)


def properties(item: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in item.get("properties", ())}


def foreign(members: Members, config: dict[str, Any] | None = None, *layers: Members) -> Artifact:
    """An image as Docker writes it."""
    store = MemoryStore()
    blobs, diff_ids = [], []
    for files in (members, *layers):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as archive:
            for path, content in files.items():
                info = tarfile.TarInfo(os.fsdecode(path))
                if isinstance(content, str):
                    info.type, info.linkname = tarfile.SYMTYPE, content
                else:
                    info.size = len(content)
                archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
        diff_ids.append(f"sha256:{hashlib.sha256(buffer.getvalue()).hexdigest()}")
        blobs.append(push_blob(store, gzip.compress(buffer.getvalue(), mtime=0), media_types.DOCKER_LAYER_GZIP))
    document = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    written = json.dumps({**document, **(config or {})}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.DOCKER_MANIFEST,
        "config": plain(push_blob(store, written, media_types.DOCKER_CONFIG)),
        "layers": [plain(blob) for blob in blobs],
    }
    return Artifact(push_blob(store, json.dumps(manifest).encode(), media_types.DOCKER_MANIFEST), store)


def plain(item: Descriptor) -> dict[str, object]:
    return {"mediaType": item.media_type, "digest": str(item.digest), "size": item.size}


def tree(folder: Path, files: dict[str, bytes]) -> postgres.Source:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return postgres.open_source(folder, platform="linux/amd64")


def test_an_index_with_its_platforms_and_files(hello: Path) -> None:
    image = open_artifact(f"oci:{hello}")
    document = listed(image)
    subject = document["metadata"]["component"]
    assert (subject["type"], subject["name"], subject["version"]) == ("container", "pgrx_hello", "0.2.0")
    assert subject["hashes"] == [{"alg": "SHA-256", "content": image.digest.encoded}]
    assert "timestamp" not in document["metadata"]
    assert document["metadata"]["tools"]["components"] == [
        {"type": "application", "name": "ocibuild", "version": ocibuild.__version__}
    ]
    extension, *platforms = document["components"]
    assert (extension["type"], extension["version"], extension["purl"]) == (
        "library", "0.2.0", "pkg:generic/pgrx_hello@0.2.0",
    )  # fmt: skip
    assert properties(extension)["ocibuild:postgresql"] == "18"
    assert sorted(properties(item)["ocibuild:platform"] for item in platforms) == ["linux/amd64", "linux/arm64"]
    for platform in platforms:
        source = TREES[properties(platform)["ocibuild:platform"] == "linux/arm64"]
        found = {item["name"]: item for item in platform["components"]}
        assert list(found) == sorted(found)
        assert len(found) == len([path for path in source.rglob("*") if path.is_file()])
        for path in source.rglob("*"):
            if path.is_file():
                item = next(found[name] for name in found if name.endswith(f"/{path.name}"))
                assert item["hashes"][0]["content"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert properties(found["lib/pgrx_hello.so"]) == {"ocibuild:soname": "libpgrx_hello.so"}


def test_one_platform_is_the_subject_and_its_files_are_the_components(cli: Cli, hello: Path) -> None:
    result = cli("sbom", f"oci:{hello}", "--platform", "linux/arm64")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert document["metadata"]["component"]["properties"][0] == {"name": "ocibuild:platform", "value": "linux/arm64"}
    assert next(item["name"] for item in document["components"] if item["type"] == "file") == "lib/pgrx_hello.so"
    assert not [item for item in document["components"] if item["type"] == "container"]


def test_the_crates_of_a_project(tmp_path: Path) -> None:
    sources = [postgres.open_source(path) for path in TREES]
    project = postgres.find_project(ROOT / "fixtures/pgrx_hello", "pgrx_hello")
    assert project is not None
    document = listed(postgres.build_extension(sources), *sources, project=project)
    extension = named(document, "pgrx_hello")
    assert extension["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert extension["purl"] == "pkg:github/ocibuild/ocibuild@0.2.0"
    assert extension["externalReferences"] == [{"type": "vcs", "url": "https://github.com/ocibuild/ocibuild"}]
    crate = named(document, "pgrx")
    assert crate["purl"] == f"pkg:cargo/pgrx@{crate['version']}"
    lock = (ROOT / "fixtures/pgrx_hello/Cargo.lock").read_text()
    assert f'checksum = "{crate["hashes"][0]["content"]}"' in lock
    needs = {item["ref"]: item.get("dependsOn", []) for item in document["dependencies"]}
    assert needs[extension["bom-ref"]] == [crate["bom-ref"]]
    assert len(needs[crate["bom-ref"]]) > 5
    # All but the crate itself are reached from it.
    assert len([item for item in document["components"] if item.get("purl", "").startswith("pkg:cargo/")]) == 139


def test_crates_from_elsewhere_keep_no_password(tmp_path: Path) -> None:
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "x"\n')
    (tmp_path / "x.control").write_text("")
    packages: list[dict[str, object]] = [
        {"name": "x", "dependencies": ["mine", "git", "far", "two 1.0.0", "gone"]},
        {"name": "mine", "dependencies": ["x"]},
        {"name": "git", "source": "git+https://me:secret@example.org/r.git?branch=main#abc"},
        {"name": "far", "source": "registry+https://me:secret@example.org/index", "checksum": "0" * 64},
        {"name": "two", "version": "1.0.0", "source": "registry+https://github.com/rust-lang/crates.io-index"},
        {"name": "two", "version": "2.0.0", "source": "registry+https://github.com/rust-lang/crates.io-index"},
    ]
    lines = []
    for item in packages:
        lines.append("[[package]]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in {"version": "0.1.0", **item}.items()]
    (tmp_path / "Cargo.lock").write_text("\n".join(lines))
    project = postgres.find_project(tmp_path, "x")
    assert project is not None
    found = {item.name: item for item in read_crates(project).found}
    assert {name: item.purl.qualifiers for name, item in found.items() if item.purl} == {
        "far": (("repository_url", "https://example.org/index"),),
        "git": (("vcs_url", "git+https://example.org/r.git@abc"),),
        "mine": (),
        "two": (),
    }
    assert found["mine"].purl == Purl(type="generic", name="mine", version="0.1.0")
    assert found["two"].version == "1.0.0"
    (tmp_path / "Cargo.lock").write_text("package = 3")
    with pytest.raises(SourceError, match="damaged lock file"):
        read_crates(project)


def test_a_debian_package(tmp_path: Path) -> None:
    files = {
        "usr/lib/postgresql/18/lib/m.so": (MODULES / "good.so").read_bytes(),
        "usr/share/postgresql/18/extension/m.control": b"default_version = '1.0'\ncomment = 'an m'\n",
        "usr/share/postgresql/18/extension/m--1.0.sql": b"select 1;\n",
        "usr/share/doc/postgresql-18-m/copyright": COPYRIGHT,
    }
    path = tmp_path / "m.deb"
    path.write_bytes(deb(files, package="postgresql-18-m", version="1:1.0+dfsg-2"))
    source = postgres.open_source(path)
    document = listed(postgres.build_extension([source], distro="trixie"), source)
    package = named(document, "postgresql-18-m")
    assert package["purl"] == "pkg:deb/debian/postgresql-18-m@1:1.0%2Bdfsg-2?arch=amd64&distro=debian-13"
    assert package["licenses"] == [{"expression": "(GPL-2.0-or-later OR MIT) AND PostgreSQL"}]
    assert package["hashes"][0]["content"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert named(document, "debian", "operating-system")["version"] == "13"
    [image] = [item for item in document["components"] if item["type"] == "container"]
    assert {properties(item)["ocibuild:package"] for item in image["components"]} == {package["bom-ref"]}
    assert named(document, "m")["description"] == "an m"


def test_system_libraries(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "usr/lib/x86_64-linux-gnu/libhelper.so.1": "libhelper.so.1.0",
        "usr/lib/x86_64-linux-gnu/libhelper.so.1.0": (MODULES / "libhelper.so.1").read_bytes(),
        "usr/share/doc/libhelper1/copyright": COPYRIGHT,
    }
    package = tmp_path / "libhelper1.deb"
    package.write_bytes(deb(files, package="libhelper1", version="3-1"))
    root = write_tree(tmp_path / "root", files)
    (root / "var/lib/dpkg/info").mkdir(parents=True)
    (root / "var/lib/dpkg/info/libhelper1:amd64.list").write_text("/.\n/lib/x86_64-linux-gnu/libhelper.so.1.0\n")
    (root / "var/lib/dpkg/status").write_text(
        "Package: other\nVersion: 9\n\n"
        "Package: libhelper1\nArchitecture: amd64\nVersion: 3-1\nSource: helper (3-0)\nDescription: helps\n a lot\n"
    )
    (root / "var/lib/dpkg/status").write_text((root / "var/lib/dpkg/status").read_text() + "\nPackage: broken\n")
    module = tree(tmp_path / "m", {"lib/m.so": (MODULES / "needed.so").read_bytes()})
    (place,) = postgres.image_roots([module])
    for path, upstream in ((package, ""), (root, "&upstream=helper%403-0")):
        (library,) = postgres.system_sources(place, "trixie", postgres.open_system(path))
        image = postgres.build_extension([module, library], distro="trixie")
        document = listed(image, module, library)
        found = named(document, "libhelper1")
        assert found["purl"].replace("@3-0", "%403-0") == (
            f"pkg:deb/debian/libhelper1@3-1?arch=amd64&distro=debian-13{upstream}"
        )
        assert found["licenses"] == [{"expression": "(GPL-2.0-or-later OR MIT) AND PostgreSQL"}]
        [container] = [item for item in document["components"] if item["type"] == "container"]
        came = {item["name"]: properties(item).get("ocibuild:package") for item in container["components"]}
        assert came == {
            "lib/m.so": None,
            "licenses/libhelper1/copyright": found["bom-ref"],
            "system/libhelper.so.1": found["bom-ref"],
        }


@pytest.mark.parametrize(
    ("text", "licences"),
    [
        ("", ()),
        ("License: GPL-2\n", ()),  # not for a machine
        ("Format: https://x/copyright-format/1.0/\n\nFiles: *\nLicense: LGPL-2.1+\n text\n", ("LGPL-2.1-or-later",)),
        ("Format: https://x/copyright-format/1.0/\n\nFiles: *\nLicense: public-domain\n\nFiles: a\nLicense: MIT\n",
         ("MIT", "public-domain")),
        ("Format: https://x/copyright-format/1.0/\n\nFiles: *\nLicense: a, or b\n\nLicense: GPL-2\n text\n", ("a, or b",)),
    ],
)  # fmt: skip
def test_licences_of_debian(text: str, licences: tuple[str, ...]) -> None:
    assert copyright_licences(text) == licences


def test_a_source_that_the_image_was_not_made_of_is_refused(cli: Cli, hello: Path, tmp_path: Path) -> None:
    other = tree(tmp_path / "m", {"lib/m.so": (MODULES / "good.so").read_bytes()})
    with pytest.raises(SourceError, match="nothing of it is in the image"):
        take_inventory(open_artifact(f"oci:{hello}"), [other])
    result = cli("sbom", f"oci:{hello}", f"linux/amd64={tmp_path / 'm'}")
    assert result.code == SourceError.exit_code
    assert "nothing of it is in the image" in result.err


def test_the_same_bytes_everywhere(tmp_path: Path) -> None:
    """Two programs with other hash seeds, in other folders, from a layout and an archive, and this one."""
    found = []
    for seed, place in (("1", "oci:x"), ("77", "oci-archive:deep/x.tar")):
        folder = tmp_path / seed
        (folder / "deep").mkdir(parents=True)
        shutil.copytree(ROOT / "fixtures/pgrx_hello", folder / "crate")
        for name, path in zip(("amd64", "arm64"), TREES, strict=True):
            shutil.copytree(path, folder / "crate/target" / name / "release/pgrx_hello-pg18")
        packages = sorted(map(str, folder.glob("crate/target/*/release/*")), reverse=seed == "77")
        for arguments in (
            ["build", *packages, "-o", place, "--created", "2026-01-02T03:04:05Z"],
            ["sbom", place, *packages, "-o", "out.json", "--repository", "ghcr.io/grove/hello"],
        ):
            subprocess.run(
                [sys.executable, "-m", "ocibuild", *arguments],
                cwd=folder,
                env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                check=True,
            )
        found.append((folder / "out.json").read_bytes())
    sources = [postgres.open_source(path) for path in TREES]
    project = postgres.find_project(ROOT / "fixtures/pgrx_hello", "pgrx_hello")
    labels = project.labels if project else {}
    image = postgres.build_extension(sources, labels=labels, created=1767323045)
    inventory = take_inventory(image, sources, project=project, repository="ghcr.io/grove/hello")
    assert found[0] == found[1] == encode_sbom(inventory)
    document = parsed(found[0])
    assert document["metadata"]["timestamp"] == "2026-01-02T03:04:05+00:00"
    purl = f"pkg:oci/hello@{image.digest}?repository_url=ghcr.io/grove/hello"
    assert document["metadata"]["component"]["purl"] == purl
    # Another image, another serial number.
    assert listed(postgres.build_extension(sources))["serialNumber"] != document["serialNumber"]


@pytest.mark.parametrize("place", ["oci:{}/x", "oci-archive:{}/x.tar"])
def test_attached_and_found(cli: Cli, hello: Path, tmp_path: Path, place: str) -> None:
    where = place.format(tmp_path)
    with open_store(where) as store:
        copy(open_artifact(f"oci:{hello}"), store, tags=["1"])
    assert find_sbom(open_artifact(where)) is None
    first, second = (cli("sbom", where, *TREES, "--attach", "--json") for _ in range(2))
    assert (first.code, first.out) == (0, second.out), first.err
    said = json.loads(first.out)
    image = open_artifact(where)
    raw = find_sbom(image)
    assert raw is not None
    assert (said["digest"], said["size"], said["image"]) == (
        f"sha256:{hashlib.sha256(raw).hexdigest()}", len(raw), image.digest,
    )  # fmt: skip
    [referrer] = image.source.referrers(image.root)  # type: ignore[attr-defined]
    assert (referrer.digest, referrer.artifact_type) == (said["attached"], "application/vnd.cyclonedx+json")
    assert parsed(raw)["metadata"]["component"]["bom-ref"] == image.digest


def test_what_build_attaches_is_what_the_command_writes(cli: Cli, tmp_path: Path) -> None:
    package = tmp_path / "libhelper1.deb"
    library = {"usr/lib/x86_64-linux-gnu/libhelper.so.1": (MODULES / "libhelper.so.1").read_bytes()}
    package.write_bytes(deb(library, package="libhelper1"))
    tree(tmp_path / "m", {"lib/m.so": (MODULES / "needed.so").read_bytes()})
    where = f"oci:{tmp_path}/x"
    arguments = [
        f"linux/amd64={tmp_path}/m",
        "--system",
        str(package),
        "--distro",
        "trixie",
        "--name",
        "ghcr.io/grove/m:1",
    ]
    result = cli("build", *arguments, "-o", where, "--check", "off")
    assert result.code == 0, result.err
    parser = argparse.ArgumentParser()
    add_source_options(parser)
    image = open_artifact(where)
    with open_store(where) as store:
        attach_built(image, store, read_input(parser.parse_args(arguments)))
    raw = find_sbom(image)
    assert raw is not None
    result = cli("sbom", where, *arguments)
    assert result.code == 0, result.err
    document = parsed(raw)
    assert json.loads(result.out) == document
    assert named(document, "libhelper1")["purl"] == "pkg:deb/debian/libhelper1@0.2.0-1?arch=amd64&distro=debian-13"
    assert document["metadata"]["component"]["purl"].endswith("?repository_url=ghcr.io/grove/m")


@settings(max_examples=40)
@given(trees())
def test_any_tree(entries: list[Entry]) -> None:
    store = MemoryStore()
    try:
        layer = build_layer(entries, into=store)
    except EntryError:
        return
    image = build_image([layer], platform=Platform.parse("linux/amd64"), into=store)
    document = listed(image)
    wanted = sorted(item.path for item in entries if not isinstance(item, Directory))
    assert sorted(item["name"] for item in document["components"] if item["type"] == "file") == wanted


def test_one_about_another_image_is_passed_over(hello: Path) -> None:
    store = MemoryStore()
    image = open_artifact(f"oci:{hello}")
    copy(image, store)
    image = Artifact(image.root, store)
    about_another = encode_sbom(take_inventory(foreign({"a": b""})))
    for raw in (b"", b"[]", b"{" * 100_000, b'{"bomFormat":"CycloneDX","metadata":{"component":{}}}', about_another):
        attach_sbom(image, store, raw)
    assert find_sbom(image) is None
    ours = encode_sbom(take_inventory(image))
    attach_sbom(image, store, ours)
    assert find_sbom(image) == ours


def test_an_image_of_another_kind() -> None:
    image = foreign(
        {"etc/os-release": b"ID=debian\n", "bin": "usr/bin", "usr/bin/sh": b"\x7fELF", "gone": b"x", "lib/x.so": b"no"},
        {"created": "2026-01-02T03:04:05.123456789Z"},
        {".wh.gone": b"", "usr/bin/sh": b"new"},
    )
    document = listed(image)
    assert document["metadata"]["component"]["name"] == image.digest
    assert document["metadata"]["timestamp"].startswith("2026-01-02T03:04:05")
    assert {item["name"]: properties(item) for item in document["components"]} == {
        "bin": {"ocibuild:link": "usr/bin"}, "etc/os-release": {}, "lib/x.so": {}, "usr/bin/sh": {},
    }  # fmt: skip
    shell = document["components"][-1]
    assert shell["hashes"][0]["content"] == hashlib.sha256(b"new").hexdigest()


HOSTILE = '\x00\x1b[31m\x7f\u202e\ufffe"\\<é😀'


def test_names_and_labels_that_mean_harm() -> None:
    document: dict[str, Any] = {}
    title, source, url, licences, version = (
        f"org.opencontainers.image.{key}" for key in ("title", "source", "url", "licenses", "version")
    )
    for labels in (
        dict.fromkeys((title, source, url, licences, version), HOSTILE),
        {title: "/", version: "9" * 5000, licences: "(" * 900, source: "https://github.com/a/b c", url: "javascript:x"},
        {title: " ", licences: "MIT OR " * 100_000, source: "https://github.com/../..", version: ""},
        {title: "x", licences: "Apache-2.0 OR MIT", url: "https://[", source: "https://github.com/a/b.git"},
    ):
        config = {"config": {"Labels": {**labels, "io.cloudnativepg.image.base.pgmajor": "18"}}, "created": "1/1/1"}
        name = f"lib/{HOSTILE[1:]}"
        document = listed(foreign({name: b"", "share/extension/x'.control": b"default_version = '\x01'"}, config))
        assert name in [item["name"] for item in document["components"]]
        assert "timestamp" not in document["metadata"]
    assert named(document, "x'")["purl"] == "pkg:github/a/b@%01"
    assert named(document, "x'")["licenses"] == [{"expression": "Apache-2.0 OR MIT"}]


def test_what_cannot_be_listed_is_refused() -> None:
    with pytest.raises(LayerError, match="not UTF-8"):
        take_inventory(foreign({b"lib/\xff\xfe": b""}))
    with pytest.raises(OcibuildError):
        take_inventory(foreign({}, {"config": {"Labels": {"org.opencontainers.image.title": "\ud800"}}}))
    store = MemoryStore()
    one = foreign({"a": b""})
    copy(one, store)
    many = [
        {
            **plain(one.root),
            "platform": {"os": "linux", "architecture": f"a{number}"},
            "digest": f"sha256:{number:064x}",
        }
        for number in range(100)
    ]
    index = {"schemaVersion": 2, "mediaType": media_types.IMAGE_INDEX, "manifests": many}
    root = push_blob(store, json.dumps(index).encode(), media_types.IMAGE_INDEX)
    with pytest.raises(UsageError, match="100 platforms"):
        take_inventory(Artifact(root, store))
    # The same image under a hundred names is read once.
    index["manifests"] = [{**item, "digest": one.digest} for item in many]
    root = push_blob(store, json.dumps(index).encode(), media_types.IMAGE_INDEX)
    assert len(take_inventory(Artifact(root, store)).components) == 1
    with pytest.raises(UsageError):
        take_inventory(Artifact(Descriptor.of(b"{}", "application/json"), store))


def test_controls_that_are_links_stand_for_what_they_lead_to() -> None:
    image = foreign(
        {
            "share/extension/m-3.control": b"default_version = '3'\n",
            "share/extension/m.control": "m-3.control",
            "share/extension/loop.control": "loop.control",
            "share/extension/away.control": "../../../etc/passwd",
            "share/extension/m--1.control": b"",
            "share/extension/bad.control": b"what is this",
            "share/doc/other.control": b"default_version = '1'",
        }
    )
    assert [(item.name, item.version) for item in take_inventory(image).components] == [("m", "3")]


def test_files_are_written_as_the_library_writes_them() -> None:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component as Model
    from cyclonedx.model.component import ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    digest = hashlib.sha256(b"").hexdigest()
    files = (ListedFile("a", digest, (("y", "2"), ("x", "1"))), ListedFile(f"b{HOSTILE}", None))
    subject = Component(type="container", name="x", hashes=(("sha256", digest),), files=files)
    ours = parsed(encode_sbom(Inventory(subject=subject)))["components"]
    model = Model(
        type=ComponentType.FILE,
        name="a",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        properties=[Property(name="x", value="1"), Property(name="y", value="2")],
    )
    bom = Bom(components=[model, Model(type=ComponentType.FILE, name=f"b{HOSTILE}")])
    theirs = json.loads(JsonV1Dot6(bom).output_as_string())["components"]
    for item in theirs:
        item.pop("bom-ref", None)
    assert ours == theirs


def test_the_command_says_what_is_wrong(cli: Cli, hello: Path, tmp_path: Path) -> None:
    where = f"oci:{hello}"
    for arguments, code, text in (
        (["--platform", "linux/amd64", "--platform", "linux/arm64"], 2, "several platforms"),
        (["--platform", "linux/s390x"], 6, "no image for linux/s390x"),
        (["--system", str(tmp_path)], 2, "--system without a source"),
        (["--repository", "nothing"], 2, "names no registry"),
        (["-o", str(tmp_path / "no/where.json")], 7, "where.json"),
    ):
        result = cli("sbom", where, *arguments)
        assert (result.code, result.out) == (code, ""), result
        assert text in result.err
    result = cli("sbom", where, "-o", tmp_path / "x.json")
    assert (result.code, result.out) == (0, f"wrote {tmp_path}/x.json\n")
    assert parsed((tmp_path / "x.json").read_bytes()) == json.loads(cli("sbom", where, "--json").out)


def test_more_files_than_any_image_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocibuild.postgres.inventory._FILES_LIMIT", 3)
    image = foreign(dict.fromkeys("abc", b""))
    assert len(take_inventory(image).subject.files) == 3
    with pytest.raises(LayerError, match="more than 3 files"):
        take_inventory(foreign(dict.fromkeys("abcd", b"")))


def test_an_address_that_is_none_is_left_out() -> None:
    """A label may say anything."""
    urls = ("http://[::1]:99999/%zz", "https://example.org")
    subject = Component(type="container", name="x", references=tuple(("website", url) for url in urls))
    document = parsed(encode_sbom(Inventory(subject=subject)))
    assert [item["url"] for item in document["metadata"]["component"]["externalReferences"]] == [urls[1]]
