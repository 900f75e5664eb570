"""Every check: real libraries or packages that fail it, and one that passes it; and that each is documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ocibuild import copy, open_store, postgres
from ocibuild.errors import UsageError
from ocibuild.postgres import Finding, Report, Source, check, open_source
from tests.support.packages import deb, tar
from tests.support.tools import ROOT, TREES
from tests.support.trees import write_tree

MODULES = ROOT / "fixtures" / "modules"
CHECKS = ROOT / "docs" / "reference" / "checks.md"
CONTROL = b"default_version = '1.0'\nmodule_pathname = 'm'\n"
SCRIPT = b"CREATE FUNCTION m_answer() RETURNS int AS 'MODULE_PATHNAME' LANGUAGE C;\n"


def module(name: str) -> bytes:
    return (MODULES / name).read_bytes()


GOOD: dict[str, bytes | str] = {
    "share/extension/m.control": CONTROL,
    "share/extension/m--1.0.sql": SCRIPT,
    "lib/m.so": module("good.so"),
}


def plain(folder: Path, changes: dict[str, bytes | str | None], platform: str = "linux/amd64") -> Source:
    """A plain tree: the good extension with some of its files changed, added or (None) left out."""
    for path, content in (GOOD | changes).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        elif content is not None:
            target.symlink_to(content)
    return open_source(folder, platform=platform)


def named(report: Report, name: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.id == name]


def test_a_good_extension_has_no_finding(tmp_path: Path) -> None:
    report = check([plain(tmp_path, {})], name="m")
    assert report.findings == ()
    assert [verdict.distro for verdict in report.verdicts if verdict] == ["bullseye", "bookworm", "trixie"]


CASES: dict[str, tuple[str, dict[str, bytes | str | None], str]] = {
    # identifier and what sets it off: severity, the files, a word of the message
    "unknown-key": ("error", {"share/extension/m.control": CONTROL + b"future = 1"}, "future"),
    "unknown-key of a version": ("error", {"share/extension/m--1.0.control": b"directory = 'x'"}, "directory"),
    "unreadable-control": ("error", {"share/extension/m--1.0.control": b"oops"}, "oops"),
    "not-boolean": ("error", {"share/extension/m.control": CONTROL + b"trusted = perhaps"}, "perhaps"),
    "no-default-version": ("error", {"share/extension/m.control": b"module_pathname = 'm'"}, "default_version"),
    "control-location": ("error", {"share/extension/m.control": None, "share/m.control": CONTROL}, "share"),
    "required-extension": ("info", {"share/extension/m.control": CONTROL + b"requires = 'vector, hstore'"}, "vector"),
    "required-extension of a language": (
        "warning", {"share/extension/m.control": CONTROL + b"requires = 'plpython3u'"}, "minimal",
    ),
    "no-module-pathname": ("error", {"share/extension/m.control": b"default_version = '1.0'"}, "MODULE_PATHNAME"),
    "bad-value": ("error", {"share/extension/m.control": CONTROL + b"relocatable = true\nschema = 'x'"}, "schema"),
    "bad-value of an encoding": ("error", {"share/extension/m.control": CONTROL + b"encoding = 'latin99'"}, "latin99"),
    "bad-value of a list": ("error", {"share/extension/m.control": CONTROL + b"requires = 'a b'"}, "a b"),
    "missing-control": ("warning", {"share/extension/n--1.0.sql": SCRIPT}, "no n.control"),
    "missing-control of all": ("error", {"share/extension/m.control": None}, "no m.control"),
    "missing-magic": ("error", {"lib/m.so": module("libhelper.so.1"), "share/extension/m--1.0.sql": SCRIPT.replace(b"m_answer", b"helper")}, "magic"),
    "script-command": ("error", {"share/extension/m--1.0.sql": SCRIPT + b"COMMIT;"}, "transaction"),
    "script-command of psql": ("error", {"share/extension/m--1.0.sql": b"\\set a b\n" + SCRIPT}, "\\set"),
    "unreadable-file": ("error", {"lib/n.so": b"text"}, "not an ELF file"),
    "server-library": ("error", {"lib/m.so": module("good.so"), "system/libz.so.1": module("libhelper.so.1")}, "libz.so.1"),
    "load-order": ("warning", {"lib/m.so": module("undefined.so"), "lib/n.so": module("definer.so")}, "nothing_has_this"),
    "library-path": ("info", {"lib/m.so": module("needed.so"), "lib/libhelper.so.1": module("libhelper.so.1")}, "ld_library_path: [lib]"),
    "missing-script": ("error", {"share/extension/m--1.0.sql": None, "share/extension/m--0.9--1.0.sql": SCRIPT}, "1.0"),
    "missing-library": ("error", {"lib/m.so": None}, "there is no m.so"),
    "missing-library of a script": ("error", {"share/extension/m--1.0.sql": SCRIPT.replace(b"MODULE_PATHNAME", b"other")}, "other"),
    "missing-function": ("error", {"share/extension/m--1.0.sql": SCRIPT.replace(b"m_answer", b"m_question")}, "m_question"),
    "missing-function without a record": ("error", {"lib/m.so": module("record.so")}, "m_answer"),
    "libdir-path nested": ("error", {"share/extension/m.control": CONTROL.replace(b"'m'", b"'$libdir/sub/m'")}, "sub/m"),
    "libdir-path in LOAD": ("error", {"share/extension/m--1.0.sql": SCRIPT + b"LOAD '$libdir/m';"}, "LOAD"),
    "absolute-path of a file": ("error", {"share/extension/m--1.0.sql": SCRIPT + b"COPY t FROM '/usr/share/x.data';"}, "x.data"),
    "absolute-path of a library": ("error", {"share/extension/m.control": CONTROL.replace(b"'m'", b"'/usr/lib/m'")}, "/usr/lib/m"),
    "absolute-path of a folder": ("error", {"share/extension/m.control": CONTROL + b"directory = '/usr/share/m'"}, "/usr/share/m"),
    "misplaced-script": (
        "warning", {"share/extension/m.control": CONTROL + b"directory = 'm'", "share/m/m--1.0.sql": SCRIPT}, "share/m",
    ),
    "unreached-script": (
        "info", {"share/extension/uninstall_m.sql": b"", "share/extension/m--TEMPLATED--TO--ANY.sql": b""}, "uninstall_m.sql",
    ),
    "leftover-token": ("warning", {"share/extension/m--1.0.sql": SCRIPT + b"-- @GIT_HASH@"}, "@GIT_HASH@"),
    "leftover-token of a control file": (
        "error", {"share/extension/m.control": CONTROL.replace(b"1.0", b"@CARGO_VERSION@")}, "@CARGO_VERSION@",
    ),
    "test-schema": ("warning", {"share/extension/m--1.0.sql": SCRIPT + b"CREATE SCHEMA IF NOT EXISTS tests;"}, "pg_test"),
    "tsearch-data": ("warning", {"share/tsearch_data/m.stop": b""}, "dictionary"),
    "dangling-link": ("error", {"share/extension/n.control": "nothing"}, "pg_available_extensions"),
    "dangling-link of a script": ("warning", {"share/extension/m--2.0.sql": "nothing"}, "nothing"),
    "dangling-link elsewhere": ("warning", {"share/data": "nothing"}, "nothing"),
    "no-extension": ("warning", {"share/extension/m.control": None, "lib/m.so": None}, "nothing to load"),
    "wrong-architecture": ("error", {"lib/arm.so": (TREES[1] / "usr/lib/postgresql/18/lib/pgrx_hello.so").read_bytes()}, "linux/arm64"),
    "major-differs": ("error", {"lib/n.so": module("major17.so")}, "17"),
    "foreign-abi": ("error", {"lib/m.so": module("foreign.so")}, "Elsewhere"),
    "libc-in-image": ("error", {"lib/libm.so.6": module("libhelper.so.1")}, "C library"),
    "text-relocations": ("warning", {"lib/m.so": module("textrel.so")}, "text relocations"),
    "run-path": ("warning", {"lib/m.so": module("runpath.so")}, "/home/build/lib"),
    "debug-sections": ("warning", {"lib/m.so": module("debug.so")}, "debug"),
    "needed-library": ("error", {"lib/m.so": module("needed.so")}, "libhelper.so.1"),
    "undefined-symbol": ("error", {"lib/m.so": module("undefined.so")}, "nothing_has_this"),
    "executable-stack": ("error", {"lib/m.so": module("stack.so")}, "executable stack"),
    "musl": ("error", {"lib/m.so": module("musl.so")}, "musl"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_each_check_finds(tmp_path: Path, case: str) -> None:
    severity, files, words = CASES[case]
    report = check([plain(tmp_path, files)], distro="trixie")
    found = named(report, case.partition(" ")[0])
    assert [finding.severity for finding in found] == [severity], report.findings
    assert words in found[0].message
    assert str(tmp_path) in found[0].where or found[0].id == "library-path"
    assert bool(report) == (not report.errors)


PASSES: dict[str, dict[str, bytes | str | None]] = {
    "a library that the server has loaded": {"lib/m.so": module("libm.so")},
    "a weak symbol": {"lib/m.so": module("weak.so")},
    "a helper beside the module, found by $ORIGIN": {"lib/m.so": module("origin.so"), "lib/libhelper.so.1": module("libhelper.so.1")},
    "a helper in a folder of libraries": {"lib/m.so": module("needed.so"), "system/libhelper.so.1": module("libhelper.so.1")},
    "a program": {"bin/program": module("program")},
    "$libdir of a plain name": {"share/extension/m.control": CONTROL.replace(b"'m'", b"'$libdir/m'")},
    "a library of the server": {"share/extension/m--1.0.sql": SCRIPT + b"CREATE FUNCTION h() RETURNS int AS '$libdir/plpgsql', 'plpgsql_call_handler' LANGUAGE C;"},
    "what is only said": {"share/extension/m--1.0.sql": SCRIPT + b"-- COPY t FROM '/usr/x';\n/* LANGUAGE C AS 'z' */ SELECT $$ LANGUAGE C AS 'z' $$;"},
    "a script of a directory": {"share/extension/m.control": CONTROL + b"directory = 'd'", "share/extension/m--1.0.sql": None, "share/d/m--1.0.sql": SCRIPT},
    "an upgrade that leads there": {"share/extension/m--1.0.sql": None, "share/extension/m--0.9.sql": SCRIPT, "share/extension/m--0.9--1.0.sql": b""},
    "a link to a file": {"share/extension/m--0.9.sql": "m--1.0.sql", "share/extension/m--0.9--1.0.sql": b""},
    "an extension of the server": {"share/extension/m.control": CONTROL + b"requires = 'plpgsql, hstore'"},
}  # fmt: skip


@pytest.mark.parametrize("case", PASSES)
def test_what_is_fine(tmp_path: Path, case: str) -> None:
    found = check([plain(tmp_path, PASSES[case])], distro="trixie").findings
    assert [finding for finding in found if finding.id != "library-path"] == []


def test_an_executable_stack_before_glibc_2_41(tmp_path: Path) -> None:
    report = check([plain(tmp_path, {"lib/m.so": module("stack.so")})], distro="bookworm")
    assert [finding.severity for finding in named(report, "executable-stack")] == ["warning"]


def test_a_verdict_for_each_release() -> None:
    report = check([open_source(tree) for tree in TREES])
    assert [(verdict.distro, bool(verdict)) for verdict in report.verdicts] == [
        ("bullseye", False), ("bookworm", True), ("trixie", True),
    ]  # fmt: skip
    assert report
    refused = check([open_source(TREES[0])], distro="bullseye")
    assert not refused
    assert "GLIBC_2.34" in refused.errors[0].message
    assert "glibc 2.31" in refused.errors[0].message
    with pytest.raises(UsageError, match="bookworm"):
        check([open_source(TREES[0])], distro="bookwurm")


def test_no_release_can_load_it(tmp_path: Path) -> None:
    report = check([plain(tmp_path, {"lib/m.so": module("undefined.so")})])
    assert not any(report.verdicts)
    assert [finding.distro for finding in named(report, "undefined-symbol")] == ["trixie"]


def test_an_architecture_without_data(tmp_path: Path) -> None:
    library = bytearray(module("good.so"))
    library[18:20] = (243).to_bytes(2, "little")  # RISC-V
    report = check([plain(tmp_path, {"lib/m.so": bytes(library)}, "linux/riscv64")])
    assert [finding.id for finding in report.findings] == ["unknown-platform"]


def test_the_preload_of_a_recipe(tmp_path: Path) -> None:
    report = check([plain(tmp_path, {})], preload=["$libdir/m"])
    assert [finding.id for finding in report.errors] == ["libdir-path"]
    assert check([plain(tmp_path / "two", {})], preload=["m"])


def test_a_name_of_the_servers_own(tmp_path: Path) -> None:
    files: dict[str, bytes | str | None] = {
        "share/extension/m.control": None, "share/extension/hstore.control": CONTROL, "share/extension/m--1.0.sql": None,
        "share/extension/hstore--1.0.sql": SCRIPT,
    }  # fmt: skip
    assert [finding.id for finding in check([plain(tmp_path, files)]).findings] == ["built-in-name"]


def test_joined_images_that_say_different_things(tmp_path: Path) -> None:
    sources = []
    for number, tree in enumerate(TREES):
        with open_store(f"oci:{tmp_path}/{number}") as store:
            image = postgres.build_extension([open_source(tree)], into=store, labels={"vendor": str(number)})
            copy(image, store, tags=["1"])
        sources.append(open_source(tmp_path / str(number)))
    assert [finding.id for finding in check(sources).findings] == ["labels-differ"]


@pytest.mark.parametrize(
    ("name", "good"), [("pg_trickle", True), ("Pg.Trickle", True), ("x" * 60, False), ("___", False)]
)
def test_names_of_mounts(tmp_path: Path, name: str, good: bool) -> None:
    found = check([plain(tmp_path, {})], name=name).findings
    assert [finding.id for finding in found] == ([] if good else ["mount-name"])


def test_sizes(tmp_path: Path) -> None:
    source = plain(tmp_path, {"share/data": bytes(1000)})
    report = check([source], max_size=10_000)
    assert [finding.id for finding in report.findings] == ["large-image"]
    assert "m.so" in report.findings[0].where


def test_majors(tmp_path: Path) -> None:
    old = plain(tmp_path / "a", {"lib/m.so": module("major17.so")})
    assert [finding.id for finding in check([old]).findings] == ["major-too-old"]
    assert {finding.id for finding in check([plain(tmp_path / "b", {})], major=17).errors} == {"major-differs"}


def test_platforms_that_differ(tmp_path: Path) -> None:
    arm = (TREES[1] / "usr/lib/postgresql/18/lib/pgrx_hello.so").read_bytes()
    one = plain(tmp_path / "a", {})
    files: dict[str, bytes | str | None] = {
        "lib/m.so": arm, "share/extension/m--1.0.sql": b"-- other", "share/extension/m--1.0--1.1.sql": b"",
    }  # fmt: skip
    report = check([one, plain(tmp_path / "b", files, "linux/arm64")])
    assert len(named(report, "platforms-differ")) == 2
    newer: dict[str, bytes | str | None] = {
        "lib/m.so": arm,
        "share/extension/m.control": CONTROL.replace(b"1.0", b"1.1"),
    }
    report = check([one, plain(tmp_path / "c", newer, "linux/arm64")])
    assert "m 1.1, but 1.0" in named(report, "versions-differ")[0].message


def test_what_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar(GOOD | {"share/doc/m/README": b"", "etc/m.conf": b""}))
    found = named(check([open_source(path)]), "left-out")
    assert [(finding.severity, "etc/m.conf" in finding.message) for finding in found] == [
        ("warning", True),
        ("info", False),
    ]


def test_stale_files_of_pgrx(tmp_path: Path) -> None:
    files = {**GOOD, "share/extension/m--0.9.sql": SCRIPT, "lib/m-0.9.so": module("good.so")}
    for name, count in (("m-pg18", 2), ("out", 0)):
        for path, content in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_bytes(content)  # type: ignore[arg-type]
        assert len(named(check([open_source(tmp_path / name)]), "stale-file")) == count


def test_taking_libdir_out_of_scripts(tmp_path: Path) -> None:
    source = plain(tmp_path, {"share/extension/m--1.0.sql": SCRIPT + b"LOAD '$libdir/m';"})
    assert not check([source])
    assert check([postgres.strip_libdir(source)]).findings == ()


def test_system_libraries(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "usr/lib/x86_64-linux-gnu/libhelper.so.1": "libhelper.so.1.0",
        "usr/lib/x86_64-linux-gnu/libhelper.so.1.0": module("libhelper.so.1"),
        "usr/share/doc/libhelper1/copyright": b"free",
    }
    package = tmp_path / "libhelper1.deb"
    package.write_bytes(deb(files, package="libhelper1"))
    folder = "/usr/lib/x86_64-linux-gnu"
    placed = {name: f"{folder}/{item}" if isinstance(item, str) else item for name, item in files.items()}
    root = write_tree(tmp_path / "root", placed)
    (root / "var/lib/dpkg/info").mkdir(parents=True)
    (root / "var/lib/dpkg/info/libhelper1:amd64.list").write_text("/.\n/usr/lib/x86_64-linux-gnu/libhelper.so.1.0\n")
    source = plain(tmp_path / "m", {"lib/m.so": module("needed.so")})
    assert [finding.id for finding in check([source], distro="trixie").errors] == ["needed-library"]
    (place,) = postgres.image_roots([source])
    for path in (package, root):
        (found,) = postgres.system_sources(place, "trixie", postgres.open_system(path))
        assert [entry.path for entry in found.entries] == ["system/libhelper.so.1", "licenses/libhelper1/copyright"]
        roots = postgres.image_roots([source, found])
        assert postgres.configuration("m", roots).to_dict() == {"name": "m", "ld_library_path": ["system"]}
        assert [finding.id for finding in check([source, found], distro="trixie").findings] == ["library-path"]
    assert postgres.system_sources(place, "trixie", []) == []


def test_each_identifier_is_documented() -> None:
    used = set()
    for path in (ROOT / "ocibuild" / "postgres" / "checks").glob("*.py"):
        used |= set(re.findall(r'"([a-z0-9]+(?:-[a-z0-9]+)+|musl)"', path.read_text()))
    documented = set(re.findall(r"^### ([a-z0-9-]+)$", CHECKS.read_text(), re.MULTILINE))
    assert documented <= used
    emitted = {
        name
        for path in (ROOT / "ocibuild" / "postgres" / "checks").glob("*.py")
        for name in re.findall(r'id="([a-z0-9-]+)"', path.read_text())
    }
    assert emitted <= documented


def test_each_check_is_tested() -> None:
    documented = set(re.findall(r"^### ([a-z0-9-]+)$", CHECKS.read_text(), re.MULTILINE))
    tested = {case.partition(" ")[0] for case in CASES}
    text = Path(__file__).read_text()
    assert [
        name
        for name in documented - tested
        if f'"{name}"' not in text and name not in ("symbol-version", "unread-scripts")
    ] == []
