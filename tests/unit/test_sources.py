"""Sources: what each kind is known by, where its files go, what its packaging tells, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard

from ocibuild import MemoryStore, Platform, Symlink, copy, open_store, postgres
from ocibuild.errors import NotFoundError, OcibuildError, SourceError, UsageError
from ocibuild.postgres import Source, open_source, open_sources
from ocibuild.postgres.sources.alternatives import alternatives
from ocibuild.postgres.sources.names import named_package
from tests.support.packages import CODECS, ar, deb, tar, tree_files, zipped
from tests.support.tools import TREES
from tests.support.trees import write_tree
from tests.unit.test_hostile import bounded

FILES = tree_files(TREES[0])
LIBRARY = next(content for path, content in FILES.items() if path.endswith(".so"))
CONTROL = next(content for path, content in FILES.items() if path.endswith(".control"))
SCRIPT = next(content for path, content in FILES.items() if path.endswith(".sql"))
EXPECTED = ["lib/pgrx_hello.so", "share/extension/pgrx_hello--0.2.0.sql", "share/extension/pgrx_hello.control"]


def installed(sharedir: str, pkglibdir: str, **more: bytes | str) -> dict[str, bytes | str]:
    """The fixture's three files below another prefix."""
    files: dict[str, bytes | str] = {
        f"{sharedir}/extension/pgrx_hello.control": CONTROL,
        f"{sharedir}/extension/pgrx_hello--0.2.0.sql": SCRIPT,
        f"{pkglibdir}/pgrx_hello.so": LIBRARY,
    }
    return files | more


def write(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


def paths(source: Source) -> list[str]:
    return sorted(entry.path for entry in source.entries)


PREFIXES = [
    ("usr/share/postgresql/18", "usr/lib/postgresql/18/lib", 18),
    ("usr/pgsql-18/share", "usr/pgsql-18/lib", 18),
    ("opt/homebrew/share/postgresql@18", "opt/homebrew/lib/postgresql@18", 18),
    ("home/u/.pgrx/18.1/pgrx-install/share/postgresql", "home/u/.pgrx/18.1/pgrx-install/lib/postgresql", 18),
    ("share", "lib", 18),
    ("usr/local/share/postgresql", "usr/local/lib/postgresql", 18),
]


@pytest.mark.parametrize(("sharedir", "pkglibdir", "major"), PREFIXES)
def test_install_trees_of_every_prefix(tmp_path: Path, sharedir: str, pkglibdir: str, major: int) -> None:
    source = open_source(write_tree(tmp_path / "out", installed(sharedir, pkglibdir)))
    assert (source.kind, source.major, paths(source)) == ("install", major, EXPECTED)


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize("top", ["pgrx_hello-0.3.1-pg18-linux-amd64/", "artifact/", ""])
def test_release_archives(tmp_path: Path, suffix: str, top: str) -> None:
    files = {f"{top}{path}": content for path, content in installed("", "lib").items()}
    files = {path.replace("//", "/").lstrip("/"): content for path, content in files.items()}
    files |= {f"{top}README.md": b"read me", f"{top}LICENSE": b"Apache", f"{top}INSTALL.md": b"how"}
    source = open_source(write(tmp_path / f"pgrx_hello-0.3.1-pg18-linux-amd64.tar{suffix}", tar(files, suffix)))
    assert (source.kind, source.name, source.version) == ("archive", "pgrx_hello", "0.3.1")
    assert paths(source) == [EXPECTED[0], "licenses/pgrx_hello/LICENSE", *EXPECTED[1:]]
    assert sorted(source.left_out) == [f"{top}INSTALL.md", f"{top}README.md"]


def test_a_zip_archive(tmp_path: Path) -> None:
    files = {f"top/{path.lstrip('/')}": content for path, content in installed("", "lib").items()}
    files["top/extension/other.control"] = "pgrx_hello.control"
    source = open_source(write(tmp_path / "hello.zip", zipped(files)))
    assert paths(source) == [*EXPECTED[:2], "share/extension/other.control", EXPECTED[2]] or "other" in str(
        paths(source)
    )
    assert any(isinstance(entry, Symlink) for entry in source.entries)


def test_the_name_of_the_file_does_not_matter(tmp_path: Path) -> None:
    files = {path.lstrip("/"): content for path, content in installed("", "lib").items()}
    for raw in (
        tar(files, ".xz"),
        zipped(files),
        deb(installed("usr/share/postgresql/18", "usr/lib/postgresql/18/lib")),
    ):
        assert paths(open_source(write(tmp_path / "what-is-this", raw))) == EXPECTED


DEBIAN = installed("usr/share/postgresql/18", "usr/lib/postgresql/18/lib")


@pytest.mark.parametrize("suffix", CODECS)
def test_a_debian_package(tmp_path: Path, suffix: str) -> None:
    files = DEBIAN | {
        "usr/share/doc/postgresql-18-hello/copyright": b"free",
        "usr/share/doc/postgresql-18-hello/changelog.gz": b"news",
        "usr/lib/postgresql/18/lib/bitcode/hello/x.bc": b"BC",
        "usr/include/postgresql/18/server/x.h": b"",
        "usr/lib/postgresql/18/bin/hello_tool": b"#!/bin/sh",
        "usr/share/proj/x.db": b"data",
    }
    raw = deb(files, version="1:3.7.0~rc1+dfsg-2", suffix=suffix)
    source = open_source(write(tmp_path / "x.deb", raw))
    assert (source.name, source.version, source.major, str(source.platform)) == (
        "hello",
        "3.7.0~rc1",
        18,
        "linux/amd64",
    )
    assert paths(source) == ["bin/hello_tool", EXPECTED[0], "licenses/postgresql-18-hello/copyright", *EXPECTED[1:]]
    assert {entry.path: entry.mode for entry in source.entries if not isinstance(entry, Symlink)}[
        "bin/hello_tool"
    ] == 0o755
    assert len(source.left_out) == 4
    kept = open_source(tmp_path / "x.deb", bitcode=True, include=["usr/share/proj/*", "usr/include/*=headers"])
    assert {"lib/bitcode/hello/x.bc", "share/proj/x.db", "headers/postgresql/18/server/x.h"} <= set(paths(kept))


def test_alternatives_become_links(tmp_path: Path) -> None:
    files = {
        "usr/share/postgresql/18/extension/hello-3.control": b"default_version = '3'",
        "usr/share/postgresql/18/extension/hello--3.sql": b"",
    }
    postinst = (
        'PGVERSION="18"\nDIR="/usr/share/postgresql/$PGVERSION/extension"\n'
        "update-alternatives \\\n  --install $DIR/hello.control x $DIR/hello-3.control 30\n"
    )
    source = open_source(write(tmp_path / "x.deb", deb(files, architecture="all", postinst=postinst)))
    assert [(control.name, control.default_version) for control in source.controls] == [("hello", "3")]
    assert source.platform is None
    assert Symlink(path="share/extension/hello.control", target="hello-3.control") in source.entries


def test_links_through_etc_alternatives(tmp_path: Path) -> None:
    folder = "usr/share/postgresql/18/extension"
    files: dict[str, bytes | str] = {
        f"{folder}/hello.control": "/etc/alternatives/hello.control",
        "etc/alternatives/hello.control": f"/{folder}/hello-3.control",
        f"{folder}/hello-3.control": b"default_version = '3'",
        f"{folder}/hello--3.sql": b"",
        f"{folder}/hello--2.sql": f"={folder}/hello--3.sql",
    }
    source = open_source(write(tmp_path / "root.tar", tar(files)))
    assert Symlink(path="share/extension/hello.control", target="hello-3.control") in source.entries
    assert [control.name for control in source.controls] == ["hello"]


@pytest.mark.parametrize(
    ("script", "links"),
    [
        ("update-alternatives --install /a b /c 10", {"/a": "/c"}),
        ("update-alternatives --install /a b /c 10\nupdate-alternatives --install /a b /d 9", {"/a": "/c"}),
        ("X=/c\nupdate-alternatives --install /a b ${X} 10 --slave /s n '/t u'", {"/a": "/c", "/s": "/t u"}),
        ("X=$(rm -rf /)\nupdate-alternatives --install /a b $X 10", {}),
        ("X=`ls`\nupdate-alternatives --install /a b $X/y 10", {}),
        ("update-alternatives --install /a b $UNKNOWN 10", {}),
        ("update-alternatives --install a b c 10", {}),
        ("update-alternatives --install /a b '/c", {}),
        ("# update-alternatives --install /a b /c 10", {}),
        ("A=$A$A\nA=xx\nA=$A$A\nupdate-alternatives --install /$A b /c 1", {"/xxxx": "/c"}),
    ],
)
def test_reading_maintainer_scripts(script: str, links: dict[str, str]) -> None:
    assert alternatives(script) == links


def test_scripts_alone_go_with_every_platform(tmp_path: Path) -> None:
    files = {path: content for path, content in DEBIAN.items() if not path.endswith(".so")}
    scripts = open_source(
        write(tmp_path / "s.deb", deb(files, package="postgresql-18-hello-scripts", architecture="all"))
    )
    assert [str(root.platform) for root in postgres.image_roots([scripts])] == ["linux/amd64", "linux/arm64"]
    only = postgres.image_roots([scripts], platforms=["linux/arm64"])
    assert [str(root.platform) for root in only] == ["linux/arm64"]
    library = {path: content for path, content in DEBIAN.items() if path.endswith(".so")}
    module = open_source(write(tmp_path / "m.deb", deb(library)))
    joined = postgres.image_roots([scripts, module])
    assert [(str(root.platform), sorted(root.entries)) for root in joined] == [("linux/amd64", EXPECTED)]
    assert postgres.image_name([scripts, module]) == "hello"
    with pytest.raises(NotFoundError, match="no source for linux/arm64"):
        postgres.image_roots([scripts, module], platforms=["linux/arm64"])


def test_a_module_without_a_control_file(tmp_path: Path) -> None:
    raw = deb({"usr/lib/postgresql/18/lib/wal.so": LIBRARY}, package="postgresql-18-wal", version="2.7-1")
    source = open_source(write(tmp_path / "x.deb", raw))
    assert (source.name, source.version, paths(source)) == ("wal", "2.7", ["lib/wal.so"])
    found = postgres.labels([source])
    assert found["org.opencontainers.image.version"].value == "2.7"
    assert "io.cloudnativepg.image.sql.version" not in found


def test_an_image_is_a_source(tmp_path: Path) -> None:
    sources = [open_source(tree) for tree in TREES]
    with open_store(f"oci:{tmp_path}/image") as store:
        built = postgres.build_extension(sources, into=store, labels={"vendor": "Grove"})
        copy(built, store, tags=["1"])
    again = [
        source
        for text in (f"oci:{tmp_path}/image", str(tmp_path / "image"), f"{tmp_path}/image:1")
        for source in open_sources(text)
    ]
    assert [str(source.platform) for source in again] == ["linux/amd64", "linux/arm64"] * 3
    assert {source.kind for source in again} == {"image"}
    assert postgres.build_extension(again[:2], into=MemoryStore()).digest == built.digest
    single = open_source(tmp_path / "image", platform="linux/arm64")
    assert single.platform == Platform.parse("linux/arm64")
    with pytest.raises(SourceError, match="Give a platform"):
        open_source(tmp_path / "image")
    with open_store(f"oci-archive:{tmp_path}/image.tar") as store:
        copy(built, store, tags=["1"])
    assert len(open_sources(tmp_path / "image.tar")) == 2
    relabelled = postgres.build_extension(again[:2], labels={"vendor": "Elm"})
    assert relabelled.digest != built.digest


def test_extensions_in_folders_of_their_own() -> None:
    sources = [postgres.in_folder(open_source(tree), "hello") for tree in TREES]
    roots = postgres.image_roots(sources)
    assert {f"hello/{path}" for path in EXPECTED} <= roots[0].entries.keys()
    assert postgres.configuration("two", roots).to_dict() == {
        "name": "two",
        "extension_control_path": ["hello/share"],
        "dynamic_library_path": ["hello/lib"],
    }
    assert not postgres.check(sources).errors


def test_links_follow_what_they_lead_to(tmp_path: Path) -> None:
    files = DEBIAN | {
        "usr/share/postgresql/18/extension/alias.sql": "../../../../share/postgresql/18/extension/pgrx_hello--0.2.0.sql",
        "usr/share/postgresql/18/contrib/copy.sql": "/usr/share/doc/hello/README.md",
        "usr/share/doc/hello/README.md": b"text",
    }
    source = open_source(write(tmp_path / "x.deb", deb(files)))
    by_path = {entry.path: entry for entry in source.entries}
    assert by_path["share/extension/alias.sql"] == Symlink(
        path="share/extension/alias.sql", target="pgrx_hello--0.2.0.sql"
    )
    assert by_path["share/contrib/copy.sql"].content == b"text"  # type: ignore[union-attr]


HOSTILE: dict[str, tuple[dict[str, bytes | str], str]] = {
    "outside": ({"../x": b""}, "'..'"),
    "absolute": ({"/etc/passwd": b""}, "absolute"),
    "whiteout": ({"usr/.wh.x": b""}, ".wh."),
    "hard link to nothing": ({"a": "=b"}, "hard link"),
    "link cycle": ({"share/extension/a.control": "b.control", "share/extension/b.control": "a.control"}, ""),
    "nothing of an extension": ({"a": b"b"}, "no control file"),
    "a library that is none": ({"share/extension/a.control": b"", "lib/a.so": b"text"}, ""),
    "no module": ({"lib/a.so": b"\x7fELF"}, ""),
    "two folders of control files": ({"a/extension/a.control": b"", "b/extension/b.control": b""}, "several folders"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_refused(tmp_path: Path, name: str) -> None:
    files, words = HOSTILE[name]
    for raw in (tar(files, ".gz"), deb(files)):
        path = write(tmp_path / "x", raw)
        if words:
            with pytest.raises(SourceError) as error:
                open_source(path)
            assert words in str(error.value)
            assert str(path) in str(error.value)
        else:
            with pytest.raises(OcibuildError):
                postgres.build_extension([open_source(path)])


def test_damaged_packages(tmp_path: Path) -> None:
    raw = deb(DEBIAN)
    cases = {
        "Copy it again": raw[: len(raw) // 2],
        "ends too early": ar({"debian-binary": b"2.0\n"}),
        "2.0": ar({"debian-binary": b"3.0\n", "control.tar": b"", "data.tar": b""}),
        "wanted debian-binary": ar({"data.tar.xz": b""}),
        "wanted control.tar": ar({"debian-binary": b"2.0\n", "data.tar.xz": b""}),
        "data.tar.bz2": ar(
            {
                "debian-binary": b"2.0\n",
                "control.tar": tar({"control": b"Package: a\nVersion: 1\nArchitecture: all"}),
                "data.tar.bz2": b"",
            }
        ),
        "without name": ar({"debian-binary": b"2.0\n", "control.tar": tar({"control": b""}), "data.tar": b""}),
        "damaged ar": b"!<arch>\nnonsense",
        "no known kind": b"nonsense",
    }
    for words, content in cases.items():
        with pytest.raises(SourceError, match=words):
            open_source(write(tmp_path / "x.deb", content))
    for cut in range(1, 60, 7):
        with pytest.raises(SourceError):
            open_source(write(tmp_path / "x.deb", raw[:-cut]))


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocibuild.postgres.sources.scratch._FLOOR", 1_000_000)
    monkeypatch.setattr("ocibuild.postgres.sources.scratch.MEMBER_LIMIT", 1000)
    big = {"lib/x.so": bytes(30_000_000)}
    many: dict[str, bytes | str] = {f"share/extension/x--{number}.sql": b"" for number in range(1001)}
    for raw in (*(tar(big, suffix) for suffix in (".gz", ".xz", ".zst")), zipped(big), deb(big, suffix=".zst")):
        with pytest.raises(SourceError, match="expands to more than"):
            open_source(write(tmp_path / "x", raw))
    for raw in (tar(many), zipped(many), deb(many)):
        with pytest.raises(SourceError, match="more than 1000 members"):
            open_source(write(tmp_path / "x", raw))


@pytest.mark.parametrize("text", ["", "=x", "a=", "a=../b"])
def test_odd_includes(text: str) -> None:
    with pytest.raises(UsageError, match="GLOB"):
        open_source(TREES[0], include=[text])


def test_real_dpkg_writes_what_we_read(tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb: a Debian system")
    root = write_tree(tmp_path / "root", DEBIAN)
    write_tree(
        root,
        {
            "DEBIAN/control": b"Package: postgresql-18-hello\nVersion: 1-1\nArchitecture: amd64\nMaintainer: a\nDescription: b\n"
        },
    )
    for codec in ("gzip", "xz", "zstd", "none"):
        path = tmp_path / f"{codec}.deb"
        subprocess.run(
            ["dpkg-deb", f"-Z{codec}", "--root-owner-group", "-b", root, path], check=True, capture_output=True
        )
        assert paths(open_source(path)) == EXPECTED


FLAT = {path.rpartition("/")[2]: content for path, content in installed("x", "x").items()}


@pytest.mark.parametrize("folder", ["", "artifact/", "share/"])
def test_control_files_that_are_in_no_folder_extension(tmp_path: Path, folder: str) -> None:
    files = {f"{folder}{name}": content for name, content in FLAT.items()}
    assert paths(open_source(write_tree(tmp_path / "out", files))) == EXPECTED


def test_data_of_the_extension_is_kept(tmp_path: Path) -> None:
    data = ("docs/a.json", "include/x.json", "model.h", "README.txt", "notice.json")
    files = DEBIAN | {f"usr/share/postgresql/18/hello/{name}": b"x" for name in data}
    files |= {
        "usr/share/doc/hello/examples/extension/y.sql": b"",
        "usr/lib/debug/usr/lib/x.so": b"",
        "usr/share/postgresql/18/man/x.1": b"",
    }
    source = open_source(write(tmp_path / "x.deb", deb(files)))
    assert {f"share/hello/{name}" for name in data} <= set(paths(source))
    assert len(source.left_out) == 3


def test_licences(tmp_path: Path) -> None:
    files = {path.lstrip("/"): content for path, content in installed("", "lib").items()}
    files |= {"LICENSE": b"1", "vendor/z/LICENSE": b"2", "share/licenses/hello/NOTICE": b"3"}
    found = [
        path for path in paths(open_source(write(tmp_path / "out.tar", tar(files)))) if path.startswith("licenses/")
    ]
    assert found == ["licenses/hello/NOTICE", "licenses/pgrx_hello/LICENSE", "licenses/pgrx_hello/vendor/z/LICENSE"]


def test_what_editors_left_is_left_out(tmp_path: Path) -> None:
    rubbish = (
        "share/extension/.x.control.swp",
        "share/extension/x--1.sql~",
        "lib/.DS_Store",
        "share/extension/x.control.orig",
    )
    files = installed("share", "lib") | dict.fromkeys(rubbish, b"")
    source = open_source(write_tree(tmp_path / "out", files))
    assert paths(source) == EXPECTED
    assert sorted(source.left_out) == sorted(rubbish)


def test_the_prefix_of_one_major(tmp_path: Path) -> None:
    files = installed("usr/share/postgresql/17", "usr/lib/postgresql/17/lib") | DEBIAN
    tree = write_tree(tmp_path / "out", files)
    with pytest.raises(SourceError, match="--pg"):
        open_source(tree)
    assert paths(open_source(tree, major=18)) == EXPECTED


def test_a_link_to_a_program_that_is_left_out_can_be_run(tmp_path: Path) -> None:
    files = DEBIAN | {"usr/libexec/tool": b"#!/bin/sh", "usr/lib/postgresql/18/bin/tool": "/usr/libexec/tool"}
    source = open_source(write(tmp_path / "x.deb", deb(files)))
    assert next(entry.mode for entry in source.entries if entry.path == "bin/tool") == 0o755  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pg_trickle-0.2.0-pg18-linux-amd64.tar.gz", ("pg_trickle", "0.2.0", 18)),
        ("age-PG18-v1.6.0-rc0.tar.gz", ("age", "1.6.0-rc0", 18)),
        ("pg_cron-pg18-1.6.8.zip", ("pg_cron", "1.6.8", 18)),
        ("my-ext-1.0.tgz", ("my-ext", "1.0", None)),
        ("artifact.tar", (None, None, None)),
        ("out-18.tar", ("out", "18", None)),
    ],
)
def test_names_of_archives(name: str, expected: tuple[str | None, str | None, int | None]) -> None:
    found = named_package(name, is_archive=True)
    assert (found.name, found.version, found.major) == expected


def test_platforms_that_no_image_has(tmp_path: Path) -> None:
    scripts = {path: content for path, content in DEBIAN.items() if not path.endswith(".so")}
    source = open_source(write(tmp_path / "s.deb", deb(scripts, architecture="all")))
    with pytest.raises(UsageError, match="linux/amd64"):
        postgres.image_roots([source], platforms=["foo"])
    with pytest.raises(UsageError, match="wanted linux"):
        open_source(TREES[0], platform="windows/amd64")


def test_labels_of_an_image_come_first(tmp_path: Path) -> None:
    with open_store(f"oci:{tmp_path}/image") as store:
        image = postgres.build_extension(
            [open_source(TREES[0])], into=store, labels={"title": "Hello", "description": "text"}
        )
        copy(image, store, tags=["1"])
    found = postgres.labels([open_source(tmp_path / "image")])
    assert found["org.opencontainers.image.title"].value == "Hello"
    assert found["org.opencontainers.image.description"].value == "text"


def test_two_unrelated_packages_do_not_speak_for_the_image(tmp_path: Path) -> None:
    one = write(
        tmp_path / "a.deb", deb({"usr/lib/postgresql/18/lib/a.so": LIBRARY}, package="postgresql-18-a", version="1-1")
    )
    two = write(
        tmp_path / "b.deb", deb({"usr/lib/postgresql/18/lib/b.so": LIBRARY}, package="postgresql-18-b", version="2-1")
    )
    found = postgres.labels([open_source(one), open_source(two)])
    assert "org.opencontainers.image.version" not in found


def zeros(size: int) -> bytes:
    """That many zero bytes, compressed."""
    codec = zstandard.ZstdCompressor().compressobj()
    chunk = bytes(1 << 20)
    return b"".join([codec.compress(chunk) for _ in range(size >> 20)]) + codec.flush()


def test_what_takes_too_long_or_too_much(tmp_path: Path) -> None:
    good = tar({"extension/a.control": b""}, ".zst")
    record = b"9 a=bcde\n"
    pax = tarfile.TarInfo("x")
    pax.type, pax.size = tarfile.XHDTYPE, len(record) * 100_000
    flood = (pax.tobuf(tarfile.PAX_FORMAT) + (record * 100_000).ljust(-(-pax.size // 512) * 512, b"\0")) * 50
    cases = {
        "expands to more than": good + zeros(1100 << 20),
        "pax records": zstandard.compress(flood),
        "longer or deeper": tar({"a/" * 41 + "x": b""}),
        "expands to": tar({"a.sql": bytes(2 << 20)} | {f"b{number}.sql": "=a.sql" for number in range(600)}, ".zst"),
    }
    for words, raw in cases.items():
        with pytest.raises(SourceError, match=words):
            open_source(write(tmp_path / "x", raw))


def test_scripts_made_to_take_long(tmp_path: Path) -> None:
    """Each took minutes once."""
    base: dict[str, bytes | str] = {"extension/a.control": b"default_version = '1'"}
    functions = b"".join(b"create function f%d() returns int language c as 'x';" % number for number in range(5000))
    many: dict[str, bytes | str] = {f"extension/c{number}.control": b"default_version = '1'" for number in range(300)}
    many |= {"extension/c0--1.sql": functions} | {
        f"extension/c{number}--1.sql": "=extension/c0--1.sql" for number in range(1, 300)
    }
    cases: list[dict[str, bytes | str]] = [
        base | {"extension/a--1.sql": b"select " + b"a" * 200_000 + b";"},
        base | {"extension/a--1.sql": b"/*" * 200_000},
        base | {"extension/a--1.sql": b"$a$" * 200_000 + b"'" * 200_000},
        base | {"extension/a--1.sql": b"copy " * 100_000},
        many,
    ]
    for number, files in enumerate(cases):
        source = open_source(write(tmp_path / f"{number}.tar", tar(files)))
        with bounded(60):
            postgres.check([source], platforms=["linux/amd64"])
