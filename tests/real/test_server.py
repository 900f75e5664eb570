"""What the checks foretell, PostgreSQL 18 does: modules that it loads, and modules that it refuses."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocibuild import postgres
from ocibuild.layer.entry import File, Symlink
from ocibuild.postgres import open_source
from ocibuild.postgres.sources.content import read_content
from tests.support.debian import packages
from tests.support.embedded import run_sql
from tests.support.tools import ROOT, TREES

MODULES = ROOT / "fixtures" / "modules"


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that another user can read."""
    with tempfile.TemporaryDirectory(prefix="ocibuild-root-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def install(root: Path, source: postgres.Source) -> None:
    """Write a source's files as an image has them."""
    for entry in source.entries:
        path = root / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(entry, File):
            path.write_bytes(read_content(entry))
        elif isinstance(entry, Symlink):
            path.symlink_to(entry.target)


REFUSED = {
    "foreign.so": ("foreign-abi", "incompatible library"),
    "major17.so": ("major-differs", "version mismatch"),
    "record.so": ("missing-function", "could not find function information"),
    "needed.so": ("needed-library", "libhelper.so.1: cannot open shared object file"),
    "undefined.so": ("undefined-symbol", "undefined symbol: nothing_has_this"),
    "musl.so": ("musl", "libc.so: invalid ELF header"),
}


@pytest.mark.parametrize("name", [*REFUSED, "good.so", "libm.so", "weak.so", "origin.so", "runpath.so", "debug.so"])
def test_a_module(root: Path, name: str) -> None:
    (root / "lib").mkdir()
    shutil.copy(MODULES / name, root / "lib" / "m.so")
    if name == "origin.so":
        shutil.copy(MODULES / "libhelper.so.1", root / "lib" / "libhelper.so.1")
    (root / "share" / "extension").mkdir(parents=True)
    (root / "share/extension/m.control").write_text("default_version = '1.0'\nmodule_pathname = 'm'\n")
    (root / "share/extension/m--1.0.sql").write_text(
        "CREATE FUNCTION m_answer() RETURNS int AS 'MODULE_PATHNAME' LANGUAGE C;\n"
    )
    found = {
        finding.id
        for finding in postgres.check([open_source(root, platform="linux/amd64")], distro="trixie", major=18).errors
    }
    result = run_sql(root, "DROP EXTENSION IF EXISTS m;\nCREATE EXTENSION m;\nSELECT m_answer();\n")
    if name in REFUSED:
        identifier, words = REFUSED[name]
        assert identifier in found
        assert words in result.stderr
    else:
        assert not found
        assert "ERROR" not in result.stderr
        assert "m_answer = " in result.stdout


def test_the_fixture_of_pgrx(root: Path) -> None:
    install(root, open_source(TREES[0]))
    result = run_sql(root, "DROP EXTENSION IF EXISTS pgrx_hello;\nCREATE EXTENSION pgrx_hello;\nSELECT hello('x');\n")
    assert 'hello = "Hello, x!"' in result.stdout, result.stderr


LIBDIR = {
    "LOAD '$libdir/m';": ("libdir-path", "could not access file"),
    "CREATE FUNCTION f() RETURNS int AS '$libdir/sub/m', 'm_answer' LANGUAGE C;": (
        "libdir-path",
        "could not access file",
    ),
    "CREATE FUNCTION f() RETURNS int AS '$libdir/m', 'm_answer' LANGUAGE C;": ("", ""),
    "CREATE FUNCTION f() RETURNS int AS 'm', $$m_answer$$ LANGUAGE C;": ("", ""),
    "CREATE FUNCTION f() RETURNS int AS 'm', 'm_question' LANGUAGE C;": ("missing-function", "could not find function"),
    "COPY pg_class FROM '/usr/share/nowhere.data';": ("absolute-path", "could not open file"),
}


@pytest.mark.parametrize("statement", LIBDIR)
def test_a_script(root: Path, statement: str) -> None:
    (root / "lib").mkdir()
    shutil.copy(MODULES / "good.so", root / "lib" / "m.so")
    (root / "share" / "extension").mkdir(parents=True)
    (root / "share/extension/m.control").write_text("default_version = '1.0'\n")
    (root / "share/extension/m--1.0.sql").write_text(statement)
    identifier, words = LIBDIR[statement]
    found = [finding.id for finding in postgres.check([open_source(root, platform="linux/amd64")]).errors]
    result = run_sql(root, "DROP EXTENSION IF EXISTS m;\nCREATE EXTENSION m;\n")
    assert found == ([identifier] if identifier else [])
    assert ("ERROR" in result.stderr) is bool(identifier)
    assert words in result.stderr


def test_a_dangling_link_breaks_the_list_of_extensions(root: Path) -> None:
    install(root, open_source(TREES[0]))
    (root / "share/extension/gone.control").symlink_to("nothing.control")
    found = [finding.id for finding in postgres.check([open_source(root, platform="linux/amd64")]).errors]
    assert found == ["dangling-link"]
    assert "ERROR" in run_sql(root, "SELECT count(*) FROM pg_available_extensions;\n").stderr


def test_pgvector_of_sid_on_this_glibc(root: Path) -> None:
    """On Debian 12 the server refuses what the check refuses for bookworm; on a newer glibc neither does."""
    sources = [open_source(path) for path in packages()["pgvector"]]
    install(root, next(source for source in sources if str(source.platform) == "linux/amd64"))
    result = run_sql(root, "DROP EXTENSION IF EXISTS vector;\nCREATE EXTENSION vector;\nSELECT '[1,2]'::vector;\n")
    here = tuple(int(part) for part in platform.libc_ver()[1].split("."))
    if here < (2, 38):
        assert "version `GLIBC_2.38' not found" in result.stderr
    else:
        assert '"[1,2]"' in result.stdout, result.stderr
    report = postgres.check(sources, distro="bookworm")
    assert any("GLIBC_2.38" in finding.message for finding in report.errors)
