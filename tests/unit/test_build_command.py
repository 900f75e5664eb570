"""`ocibuild build`: what it says, what it makes of bad input, and that nothing half-written is left."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ocibuild import LayoutStore, open_artifact, postgres
from ocibuild.describe import describe
from tests.conftest import Result
from tests.support.tools import ROOT, TREES

Cli = Callable[..., Result]
Packages = tuple[Path, Path]
LIB = "usr/lib/postgresql/18/lib"
EXT = "usr/share/postgresql/18/extension"


def test_the_main_job(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("build", *TREES)
    assert result.code == 0, result.err
    assert result.err == ""
    assert result.out.startswith("pgrx_hello 0.2.0 for PostgreSQL 18\n\nindex           sha256:")
    lines = result.out.splitlines()
    # The digests line up.
    assert {line.index("sha256:") for line in lines if "sha256:" in line} == {16}
    assert lines[-1] == "wrote oci:dist/pgrx_hello:0.2.0"
    found = describe(open_artifact("oci:dist/pgrx_hello:0.2.0"))
    assert [str(image.platform) for image in found.images] == ["linux/amd64", "linux/arm64"]
    for image in found.images:
        assert [member.path for member in image.layers[0].members] == [
            "lib", "lib/pgrx_hello.so", "share", "share/extension", "share/extension/pgrx_hello--0.1.0--0.2.0.sql",
            "share/extension/pgrx_hello--0.2.0.sql", "share/extension/pgrx_hello.control",
        ]  # fmt: skip
        assert image.config is not None
        assert image.config.config is not None
        assert image.config.config.user == "65532:65532"
        assert image.config.created is None
        assert image.config.labels == image.manifest.annotations == found.annotations


def test_json(cli: Cli, tmp_path: Path) -> None:
    result = cli(
        "build", *TREES, "-o", f"oci:{tmp_path}/x", "--json", "--label", "licenses=Apache-2.0", "-t", "a", "-t", "{pg}"
    )
    found = json.loads(result.out)
    assert found["digest"] == open_artifact(f"oci:{tmp_path}/x:a").digest
    assert (found["extension"], found["version"], found["postgresql"], found["tags"]) == (
        "pgrx_hello",
        "0.2.0",
        18,
        ["a", "18"],
    )
    assert found["labels"]["org.opencontainers.image.licenses"] == {"value": "Apache-2.0", "origin": "given"}
    assert [item["platform"] for item in found["platforms"]] == ["linux/amd64", "linux/arm64"]


def test_without_a_source_the_projects_packages_are_taken(
    cli: Cli, packages: Packages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crate = tmp_path / "crate"
    shutil.copytree(ROOT / "fixtures/pgrx_hello", crate)
    shutil.copytree(packages[0], crate / "target/release/pgrx_hello-pg18")
    shutil.copytree(packages[1], crate / "target/aarch64-unknown-linux-gnu/release/pgrx_hello-pg18")
    monkeypatch.chdir(crate)
    result = cli("build")
    assert result.code == 0, result.err
    assert "linux/amd64" in result.out
    assert "linux/arm64" in result.out
    assert re.search(r"^licenses +Apache-2.0 +\(Cargo.toml\)$", result.out, re.MULTILINE)
    assert "(Cargo.toml)" in result.out
    assert "unknown" not in result.out


def test_a_prefix_of_any_shape(cli: Cli, packages: Packages, tmp_path: Path) -> None:
    digests = set()
    for lib, share in [
        ("usr/pgsql-18/lib", "usr/pgsql-18/share"),
        ("opt/homebrew/lib/postgresql@18", "opt/homebrew/share/postgresql@18"),
        ("home/u/.pgrx/18.1/pgrx-install/lib/postgresql", "home/u/.pgrx/18.1/pgrx-install/share/postgresql"),
    ]:
        tree = tmp_path / "other"
        shutil.copytree(packages[0] / LIB, tree / lib)
        shutil.copytree(packages[0] / EXT, tree / share / "extension")
        result = cli("build", tree, "-o", f"oci:{tmp_path}/x", "--json")
        assert result.code == 0, result.err
        digests.add(json.loads(result.out)["digest"])
        shutil.rmtree(tree)
    assert digests == {json.loads(cli("build", packages[0], "-o", f"oci:{tmp_path}/y", "--json").out)["digest"]}


def test_a_plain_tree_is_taken_as_it_is(cli: Cli, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name, mode in (("bin/tool", 0o700), ("etc/x", 0o600)):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
        (tree / name).chmod(mode)
    (tree / "empty").mkdir()
    result = cli("build", f"linux/arm64={tree}", "-o", f"oci:{tmp_path}/x")
    assert result.code == 0, result.err
    assert result.out.startswith("tree\n")
    [image] = describe(open_artifact(f"oci:{tmp_path}/x:latest")).images
    assert [(item.path, item.mode) for item in image.layers[0].members] == [
        ("bin", 0o755), ("bin/tool", 0o755), ("empty", 0o755), ("etc", 0o755), ("etc/x", 0o644),
    ]  # fmt: skip


def test_sources_of_one_platform_are_merged(cli: Cli, packages: Packages, tmp_path: Path) -> None:
    plain = tmp_path / "licence"
    (plain / "licenses").mkdir(parents=True)
    (plain / "licenses/LICENSE").write_text("text")
    result = cli("build", packages[0], f"linux/amd64={plain}", "-o", f"oci:{tmp_path}/x", "--json")
    assert result.code == 0, result.err
    [image] = describe(open_artifact(f"oci:{tmp_path}/x")).images
    assert {"lib/pgrx_hello.so", "licenses/LICENSE"} <= {item.path for item in image.layers[0].members}


def test_created_comes_from_the_environment_or_a_flag(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*flags: str) -> tuple[str | None, int, str | None]:
        result = cli("build", *TREES, "-o", f"oci:{tmp_path}/x", *flags)
        assert result.code == 0, result.err
        found = describe(open_artifact(f"oci:{tmp_path}/x"))
        config = found.images[0].config
        assert config is not None
        return (
            config.created,
            found.images[0].layers[0].members[0].mtime,
            found.annotations.get("org.opencontainers.image.created"),
        )

    assert build() == (None, 0, None)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert build() == ("2023-11-14T22:13:20Z", 1_700_000_000, "2023-11-14T22:13:20Z")
    assert build("--created", "2024-01-01T01:00:00+01:00")[0] == "2024-01-01T00:00:00Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert build()[0] == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize("text", ["yesterday", "-1", "1.5", " 1", "٣", "99999999999999999999", "253402300800"])
def test_times_refused(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    result = cli("build", *TREES, "-o", f"oci:{tmp_path}/x")
    assert result.code == 2, result.err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_codecs(cli: Cli, tmp_path: Path, compression: str) -> None:
    result = cli("build", *TREES, "-o", f"oci:{tmp_path}/x", "--compression", compression)
    assert result.code == 0, result.err
    layer = describe(open_artifact(f"oci:{tmp_path}/x")).images[0].layers[0].descriptor
    assert layer.media_type.endswith({"gzip": ".tar+gzip", "zstd": ".tar+zstd", "none": ".tar"}[compression])


def test_an_archive_with_its_full_name(cli: Cli, tmp_path: Path) -> None:
    result = cli("build", *TREES, "-o", f"oci-archive:{tmp_path}/x.tar:edge", "--name", "ghcr.io/o/pgrx_hello-ext")
    assert result.code == 0, result.err
    assert open_artifact(f"oci-archive:{tmp_path}/x.tar:edge").digest
    assert "io.containerd.image.name" in (tmp_path / "x.tar").read_bytes().decode("latin-1")


# Findings


def test_leftovers_of_an_earlier_version_are_told(cli: Cli, packages: Packages, tmp_path: Path) -> None:
    for tree in packages:
        (tree / EXT / "pgrx_hello--0.1.0.sql").write_text("select 1;")
        shutil.copy(tree / LIB / "pgrx_hello.so", tree / LIB / "pgrx_hello-0.1.0.so")
    result = cli("build", *packages, "-o", f"oci:{tmp_path}/x")
    assert result.code == 0
    assert result.err.count("while default_version is 0.2.0") == 2  # each on two platforms
    assert result.err.count(": share/extension/pgrx_hello--0.1.0.sql") == 2
    assert "the install script of version 0.1.0, while default_version is 0.2.0" in result.err
    assert "the library of version 0.1.0" in result.err
    assert "delete the folder and package again" in result.err


def test_a_token_that_was_not_replaced(cli: Cli, packages: Packages, tmp_path: Path) -> None:
    for tree in packages:
        control = tree / EXT / "pgrx_hello.control"
        control.write_text(control.read_text().replace("0.2.0", "@CARGO_VERSION@"))
    result = cli("build", *packages, "-o", f"oci:{tmp_path}/x", "--json")
    assert result.code == 4
    assert "@CARGO_VERSION@ was not replaced" in result.err
    found = json.loads(result.out)
    assert found["error"] == "CheckError"
    assert {item["id"] for item in found["findings"]} == {"leftover-token"}
    assert not (tmp_path / "x").exists()


def test_a_default_version_that_no_script_reaches(cli: Cli, packages: Packages, tmp_path: Path) -> None:
    for tree in packages:
        (tree / EXT / "pgrx_hello--0.2.0.sql").unlink()
        (tree / EXT / "pgrx_hello--0.1.0--0.2.0.sql").unlink()
    assert cli("build", *packages, "-o", f"oci:{tmp_path}/x").code == 4
    assert cli("build", *packages, "-o", f"oci:{tmp_path}/x", "--check=warn").code == 0


def test_a_stale_tree_on_one_platform(cli: Cli, packages: Packages, tmp_path: Path) -> None:
    (packages[1] / EXT / "pgrx_hello--0.2.0.sql").write_text("select 'old';")
    result = cli("build", *packages, "-o", f"oci:{tmp_path}/x")
    assert result.code == 4
    assert "[platforms-differ]" in result.err
    assert "differs between linux/amd64 and linux/arm64" in result.err
    (packages[1] / EXT / "pgrx_hello--0.2.0.sql").unlink()
    result = cli("build", *packages, "-o", f"oci:{tmp_path}/x")
    assert "only in linux/amd64, not in linux/arm64" in result.err
    assert list(tmp_path.iterdir()) == [tmp_path / "packages"]


def test_files_outside_are_told(cli: Cli, packages: Packages, tmp_path: Path) -> None:
    (packages[0] / "etc").mkdir()
    (packages[0] / "etc/x.conf").write_text("x")
    result = cli("build", packages[0], "-o", f"oci:{tmp_path}/x")
    assert result.code == 0
    assert "[left-out]" in result.err
    assert "etc/x.conf" in result.err


# Bad input: a clear error, the exit code of its class, and nothing left


def _remove_all(tree: Path) -> None:
    shutil.rmtree(tree / "usr")


def _not_elf(tree: Path) -> None:
    (tree / LIB / "pgrx_hello.so").write_text("text")


def _macho(tree: Path) -> None:
    (tree / LIB / "pgrx_hello.so").rename(tree / LIB / "pgrx_hello.dylib")
    (tree / LIB / "pgrx_hello.dylib").write_bytes(b"\xcf\xfa\xed\xfe" + bytes(5000))


def _truncated(tree: Path) -> None:
    os.truncate(tree / LIB / "pgrx_hello.so", 200_000)


def _empty(tree: Path) -> None:
    os.truncate(tree / LIB / "pgrx_hello.so", 0)


def _other_platform(tree: Path) -> None:
    shutil.copy(TREES[1] / LIB / "pgrx_hello.so", tree / LIB / "other.so")


def _other_major(tree: Path) -> None:
    data = (tree / LIB / "pgrx_hello.so").read_bytes()
    old = (72).to_bytes(4, "little") + (1800).to_bytes(4, "little")
    new = (56).to_bytes(4, "little") + (1700).to_bytes(4, "little")
    assert data.count(old) == 1
    (tree / LIB / "other.so").write_bytes(data.replace(old, new))


def _link_out(tree: Path) -> None:
    (tree / EXT / "passwd.sql").symlink_to("/etc/passwd")


def _link_up(tree: Path) -> None:
    (tree / EXT / "up.sql").symlink_to("../../../../../../other")


def _link_to_nothing(tree: Path) -> None:
    (tree / EXT / "gone.control").symlink_to("nothing.control")


def _link_across(tree: Path) -> None:
    # Inside the tree, but not where it leads in the image.
    (tree / "usr/doc").write_text("x")
    (tree / EXT / "doc.sql").symlink_to("../../../../doc")


def _pipe(tree: Path) -> None:
    os.mkfifo(tree / EXT / "pipe")


def _socket(tree: Path) -> None:
    here = os.open(tree / EXT, os.O_RDONLY)
    before = os.getcwd()
    os.fchdir(here)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
    os.chdir(before)
    os.close(here)


def _device(tree: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to make a device")
    os.mknod(tree / EXT / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))


def _not_utf8(tree: Path) -> None:
    (tree / EXT / os.fsdecode(b"x\xff.sql")).write_text("x")


def _set_id(tree: Path) -> None:
    (tree / LIB / "pgrx_hello.so").chmod(0o4755)


def _whiteout(tree: Path) -> None:
    (tree / EXT / ".wh.x").write_text("")


def _no_control(tree: Path) -> None:
    (tree / EXT / "pgrx_hello.control").unlink()


def _bad_control(tree: Path) -> None:
    (tree / EXT / "pgrx_hello.control").write_text("default_version = 'open")


def _two_controls(tree: Path) -> None:
    (tree / "other/extension").mkdir(parents=True)
    (tree / "other/extension/x.control").write_text("")


BAD = [
    (_remove_all, "no control file under a folder named extension, and no library"),
    (_not_elf, "not an ELF file, wanted an ELF shared object"),
    (_macho, "a Mach-O library (macOS), wanted an ELF shared object. Take the package built for Linux."),
    (_truncated, "a truncated ELF file of 200000 bytes"),
    (_empty, "an empty file"),
    (
        _other_platform,
        "libraries for several platforms: lib/pgrx_hello.so for linux/amd64, lib/other.so for linux/arm64",
    ),
    (_link_out, "a symbolic link to the absolute path /etc/passwd, which is outside the tree"),
    (_link_up, "other, outside the tree. Copy the file into the tree"),
    (_pipe, "a named pipe, wanted files, folders and symbolic links"),
    (_socket, "a socket"),
    (_device, "a character device"),
    (_not_utf8, "a name that is not UTF-8"),
    (_set_id, "a set-id bit"),
    (_whiteout, "a name that starts with .wh."),
    (_two_controls, "control files in several folders"),
]


BROKEN = [
    (_bad_control, '[unreadable-file] line 1: "default_version = \'open"'),
    (_other_major, "[major-differs] a module for PostgreSQL 17, in an image for 18"),
    (_link_to_nothing, "[dangling-link] a link to nothing.control, which is not in the image"),
    (_no_control, "[platforms-differ] only in linux/arm64, not in linux/amd64"),
]


@pytest.mark.parametrize(("damage", "words"), BROKEN, ids=[damage.__name__.strip("_") for damage, _ in BROKEN])
def test_what_is_found(
    cli: Cli, packages: Packages, tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(packages[0])
    result = cli("build", *packages, "-o", f"oci:{tmp_path}/out/x")
    assert (result.code, result.out) == (4, "")
    assert words in result.err
    assert "that would break the extension" in result.err.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["packages"]
    assert cli("check", *packages).code == 4
    # What cannot be read is not packed, whatever is said.
    expected = 3 if "unreadable" in words else 0
    assert cli("build", *packages, "-o", f"oci:{tmp_path}/out/x", "--check=warn").code == expected


def test_a_link_to_what_is_no_part_of_the_image_becomes_a_copy(cli: Cli, packages: Packages, tmp_path: Path) -> None:
    for tree in packages:
        (tree / "usr/doc").write_text("select 1;")
        (tree / EXT / "doc.sql").symlink_to("../../../../doc")
    assert cli("build", *packages, "-o", f"oci:{tmp_path}/x").code == 0
    members = describe(open_artifact(f"oci:{tmp_path}/x")).images[0].layers[0].members
    assert next(item.kind for item in members if item.path == "share/extension/doc.sql") == "file"


@pytest.mark.parametrize(("damage", "words"), BAD, ids=[damage.__name__.strip("_") for damage, _ in BAD])
def test_bad_input(cli: Cli, packages: Packages, tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(packages[0])
    for output in (f"oci:{tmp_path}/out/x", f"oci-archive:{tmp_path}/out/x.tar"):
        result = cli("build", *packages, "-o", output)
        assert result.code == 3, result
        assert words in result.err
        assert result.out == ""
        assert result.err.startswith("ocibuild: ")
        assert "Traceback" not in result.err
        assert len(result.err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["packages"]


def test_an_unreadable_file(packages: Packages, tmp_path: Path) -> None:
    """In a process of its own, without root's right to read everything."""
    (packages[0] / EXT / "pgrx_hello--0.2.0.sql").chmod(0)
    command = [sys.executable, "-m", "ocibuild", "build", str(packages[0]), "-o", f"oci:{tmp_path}/x"]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("needs setpriv: root reads everything")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 3, result
    assert "cannot be read: Permission denied" in result.stderr
    assert not (tmp_path / "x").exists()


def test_two_sources_with_different_content_at_one_path(cli: Cli, packages: Packages, tmp_path: Path) -> None:
    shutil.copytree(packages[0], tmp_path / "again")
    assert cli("build", packages[0], tmp_path / "again", "-o", f"oci:{tmp_path}/same").code == 0
    with open(tmp_path / "again" / EXT / "pgrx_hello--0.2.0.sql", "a") as stream:
        stream.write("select 1;")
    result = cli("build", packages[0], tmp_path / "again", "-o", f"oci:{tmp_path}/x")
    assert result.code == 3
    assert "two files at share/extension/pgrx_hello--0.2.0.sql of linux/amd64" in result.err
    assert not (tmp_path / "x").exists()


def test_another_version_or_major_on_another_platform(cli: Cli, packages: Packages, tmp_path: Path) -> None:
    control = packages[1] / EXT / "pgrx_hello.control"
    control.write_text(control.read_text().replace("0.2.0", "0.3.0"))
    result = cli("build", *packages, "-o", f"oci:{tmp_path}/x")
    assert result.code == 4
    assert "[versions-differ] pgrx_hello 0.3.0, but 0.2.0 in" in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere"], 6, "nothing is there"),
        (["README.md"], 3, "a file of no known kind, wanted a folder"),
        ([], 2, "no pgrx project here"),
        ([TREES[0], "-o", "oci:ocibuild"], 7, "exists and is not an OCI layout"),
        ([TREES[0], "-o", "oci:README.md"], 7, "exists and is not an OCI layout"),
        ([TREES[0], "-o", "oci-archive:README.md"], 7, "not a readable tar archive"),
        ([TREES[0], "-o", "docker-archive:x.tar"], 2, "Build there, then copy"),
        ([TREES[0], "-o", "ghcr.io/o/r"], 2, "oci:DIR or oci-archive:FILE"),
        ([TREES[0], "-o", "docs"], 7, "exists and is not an OCI layout"),
        ([TREES[0], "-o", ""], 6, "'' is not there"),
        ([TREES[0], "-o", "oci:x@sha256:0"], 2, "wanted sha256:<64 hex>"),
        ([TREES[0], "--threads", "0"], 2, "wanted 1 or more"),
        ([TREES[0], "--annotation", "a=\x1b[31m"], 2, "control characters"),
        ([TREES[0], "-t", "not legal"], 2, "tag 'not legal'"),
        ([TREES[0], "--label", "novalue"], 2, "KEY=VALUE"),
        ([f"linux/arm64={TREES[0]}"], 4, "a library for linux/amd64"),
        ([TREES[0], TREES[0], f"linux/amd64={TREES[1]}"], 4, "linux/arm64"),
    ],
)
def test_bad_arguments(cli: Cli, tmp_path: Path, arguments: list[str | Path], code: int, words: str) -> None:
    if "-o" not in arguments and arguments:
        arguments = [*arguments, "-o", f"oci:{tmp_path}/x"]
    result = cli("build", *arguments)
    assert result.code == code, result
    assert words in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or not shutil.which("mount"), reason="needs root to mount"
)
@pytest.mark.parametrize("kind", ["oci", "oci-archive"])
def test_a_full_disk(packages: Packages, tmp_path: Path, kind: str) -> None:
    (tmp_path / "disk").mkdir()
    command = f"""
        mount -t tmpfs -o size=100k tmpfs {tmp_path}/disk || exit 99
        {sys.executable} -m ocibuild build {packages[0]} {packages[1]} -o {kind}:{tmp_path}/disk/x; code=$?
        ls -A {tmp_path}/disk; exit $code
    """
    result = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False
    )
    if result.returncode == 99 or "unshare:" in result.stderr:
        pytest.skip("needs the right to mount a tmpfs")
    assert result.returncode == 7, result
    assert "The disk is full: free some space" in result.stderr
    assert result.stdout == ""


def test_the_library_says_what_the_command_says(tmp_path: Path) -> None:
    """DESIGN's example, as a build script would write it."""
    sources = [postgres.open_source(path) for path in TREES]
    report = postgres.check(sources)
    assert report
    assert report.findings == ()
    with LayoutStore(tmp_path / "x") as layout:
        image = postgres.build_extension(sources, into=layout, labels={"licenses": "Apache-2.0"})
    assert image.root.media_type.endswith("index.v1+json")


@pytest.mark.parametrize("damage", ["gone", "cut", "changed"])
def test_a_layer_that_is_damaged_is_built_anew(cli: Cli, tmp_path: Path, damage: str) -> None:
    """What the layout's images name is believed only when its bytes are there."""
    place = tmp_path / "x"
    assert cli("build", *TREES, "-o", f"oci:{place}").code == 0
    blob = max((place / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    whole = blob.read_bytes()
    if damage == "gone":
        blob.unlink()
    else:
        blob.write_bytes(whole[:1000] if damage == "cut" else whole[:-1] + bytes([whole[-1] ^ 1]))
    result = cli("build", *TREES, "-o", f"oci:{place}")
    assert result.code == 0, result.err
    assert blob.read_bytes() == whole
