"""Real extensions, mounted by podman as Kubernetes mounts an image volume, in PostgreSQL 18: they do what the checks foretell."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocibuild import copy, open_store, postgres
from ocibuild.postgres import open_source
from tests.support.debian import packages, system_packages
from tests.support.tools import peers_folder
from tests.support.volume import mounted


def layout(name: str, folder: Path, *, system: bool = False) -> tuple[Path, postgres.ExtensionConfiguration]:
    """The image of a package of sid, for amd64, in a layout; and what the server must be told."""
    sources = [open_source(path) for path in packages()[name]]
    roots = postgres.image_roots(sources, platforms=["linux/amd64"])
    if system:
        systems = [found for path in system_packages() for found in postgres.open_system(path)]
        sources += postgres.system_sources(roots[0], "sid", systems)
        roots = postgres.image_roots(sources, platforms=["linux/amd64"])
        assert not postgres.check(sources, distro="sid", platforms=["linux/amd64"]).errors
    with open_store(f"oci:{folder / 'image'}") as store:
        copy(postgres.build_extension(sources, into=store, platforms=["linux/amd64"]), store, tags=["1"])
    return folder / "image", postgres.configuration(name, roots)


@pytest.mark.parametrize(
    ("name", "preload", "sql", "expected"),
    [
        ("pgvector", "", "create extension vector; select '[1,2]'::vector <-> '[1,4]'", "2"),
        ("pg-ivm", "", ("create extension pg_ivm; create table t (a int primary key); insert into t values (1), (2);"
         " select pgivm.create_immv('v', 'select count(*) as n from t'); insert into t values (3); select n from v"), "1\n3"),
        ("rum", "", "create extension rum; select to_tsvector('simple', 'a b') <=> to_tsquery('simple', 'a')", "16.4493"),
        ("pgaudit", "pgaudit", "create extension pgaudit; set pgaudit.log = 'all'; show pgaudit.log", "all"),
        ("pgtap", "", "create extension pgtap; select plan(1); select ok(true, 'fine')", "1..1\nok 1 - fine"),
        ("pg-cron", "pg_cron", "create extension pg_cron; select count(*) from cron.job", "0"),
        ("wal2json", "", "load 'wal2json'; select 1", "1"),
    ],
)  # fmt: skip
def test_it_works_when_mounted(tmp_path: Path, name: str, preload: str, sql: str, expected: str) -> None:
    peers_folder()
    image, mount = layout(name, tmp_path)
    result = mounted(image, mount.name, sql, tmp_path, PRELOAD=preload)
    assert result.returncode == 0, result.stderr
    assert expected in result.stdout.strip()


def test_postgis_with_its_system_libraries(tmp_path: Path) -> None:
    peers_folder()
    image, mount = layout("postgis", tmp_path, system=True)
    assert mount.ld_library_path == ("system",)
    sql = "create extension postgis; create extension postgis_sfcgal; select st_astext(st_buffer('POINT(0 0)', 1, 1)), postgis_geos_version() is not null"
    result = mounted(image, mount.name, sql, tmp_path, LD_PATH="system")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "POLYGON((1 0,0 -1,-1 0,0 1,1 0))|t"
    without = mounted(image, mount.name, sql, tmp_path)
    assert "cannot open shared object file" in without.stderr


def test_unit_fails_as_foretold(tmp_path: Path) -> None:
    peers_folder()
    report = postgres.check([open_source(path) for path in packages()["unit"]], distro="sid")
    foretold = [finding for finding in report.errors if finding.id == "absolute-path"]
    assert foretold
    image, mount = layout("unit", tmp_path)
    result = mounted(image, mount.name, "create extension unit", tmp_path)
    assert result.returncode != 0
    path = foretold[0].message.split("'")[1]
    assert path in result.stderr
    assert "No such file" in result.stderr
