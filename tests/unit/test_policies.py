"""The policies: facts known from elsewhere, what holds between the files, and what the loader refuses."""

from __future__ import annotations

import fnmatch
import json
import platform
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from ocibuild.elf import read_shared_object
from ocibuild.errors import UsageError
from ocibuild.postgres.policies import DISTROS, Policy, Server, load_policy, load_server
from tests.support.tools import ROOT, missing

ARCHITECTURES = ("amd64", "arm64")
EVERY = [(distro, architecture) for distro in DISTROS for architecture in ARCHITECTURES]
FILES = [*DISTROS, "server-18"]
TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}


def document(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((resources.files("ocibuild.postgres.policies") / f"{name}.json").read_text())
    return document


def highest(policy: Policy, library: str, prefix: str) -> tuple[int, ...]:
    numbers = [name.removeprefix(prefix) for name in policy.libraries[library].versions if name.startswith(prefix)]
    return max(tuple(map(int, number.split("."))) for number in numbers if number[0].isdigit())


def server(architecture: str) -> Server:
    found = load_server(18, architecture)
    assert found is not None
    return found


def defines(policy: Policy, library: str, name: str) -> bool:
    """The library defines the name without a version."""
    item = policy.libraries[library]
    return name in item.exports or any(fnmatch.fnmatchcase(name, pattern) for pattern in item.patterns)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("distro", "release", "glibc", "glibcxx"),
    [
        ("bullseye", "11", "2.31", (3, 4, 28)),
        ("bookworm", "12", "2.36", (3, 4, 30)),
        ("trixie", "13", "2.41", (3, 4, 33)),
    ],
)
def test_the_levels_of_a_release(
    distro: str, release: str, glibc: str, glibcxx: tuple[int, ...], architecture: str
) -> None:
    policy = load_policy(distro, architecture)
    assert (policy.distro, policy.release, policy.architecture, policy.operand) == (distro, release, architecture, True)
    assert policy.glibc == glibc
    assert highest(policy, "libstdc++.so.6", "GLIBCXX_") == glibcxx
    # Since 2.34 threads are in libc.so.6; a library built before says so with the older version.
    first = {"amd64": "GLIBC_2.2.5", "arm64": "GLIBC_2.17"}[architecture]
    assert first in policy.libraries["libc.so.6"].versions
    assert first in policy.libraries["libpthread.so.0"].versions
    assert ("GLIBC_2.34" in policy.libraries["libc.so.6"].versions) == (distro != "bullseye")


def test_sid_is_newer_and_no_operand() -> None:
    policy = load_policy("sid", "amd64")
    assert not policy.operand
    assert policy.release == "unstable"
    assert highest(policy, "libstdc++.so.6", "GLIBCXX_") > (3, 4, 33)
    assert tuple(map(int, policy.glibc.split("."))) > (2, 41)


@pytest.mark.parametrize("distro", DISTROS)
def test_architectures_differ_where_they_must(distro: str) -> None:
    amd64, arm64 = (load_policy(distro, architecture) for architecture in ARCHITECTURES)
    # glibc has vector mathematics for arm64 since 2.38.
    vectors = {"libmvec.so.1"} if distro in ("bullseye", "bookworm") else set()
    assert amd64.libraries.keys() - arm64.libraries.keys() == {"ld-linux-x86-64.so.2"} | vectors
    assert arm64.libraries.keys() - amd64.libraries.keys() == {"ld-linux-aarch64.so.1"}
    assert amd64.glibc == arm64.glibc
    for soname in amd64.libraries.keys() & arm64.libraries.keys():
        assert amd64.libraries[soname].package == arm64.libraries[soname].package


def test_sonames_change_with_the_release() -> None:
    names = [load_policy(distro, "amd64").libraries.keys() for distro in DISTROS]
    table = {
        r"libxml2\.so\..*": ["libxml2.so.2", "libxml2.so.2", "libxml2.so.2", "libxml2.so.16"],
        r"libssl\.so\..*": ["libssl.so.1.1", "libssl.so.3", "libssl.so.3", "libssl.so.3"],
        r"libldap[.-].*": ["libldap-2.4.so.2", "libldap-2.5.so.0", "libldap.so.2", "libldap.so.2"],
        r"liburing\.so\..*": ["liburing.so.1", "liburing.so.2", "liburing.so.2", "liburing.so.2"],
        r"libicuuc\.so\..*": ["libicuuc.so.67", "libicuuc.so.72", "libicuuc.so.76", "libicuuc.so.78"],
    }
    for pattern, wanted in table.items():
        assert [[name for name in sonames if re.fullmatch(pattern, name)] for sonames in names] == [
            [name] for name in wanted
        ]


@pytest.mark.parametrize(("distro", "architecture"), EVERY)
def test_what_a_minimal_image_has_not(distro: str, architecture: str) -> None:
    policy = load_policy(distro, architecture)
    absent = re.compile(r"lib(LLVM|python|tcl|curl|geos|gdal|proj|openblas|gomp|gfortran|R|clang|systemd-shared)\b.*")
    assert not [name for name in policy.libraries if absent.match(name)]
    assert not policy.extensions & {"plpython3u", "plperl", "pltcl", "vector", "hstore_plperl"}
    assert not policy.modules & {"llvmjit", "plpython3", "plperl", "pltcl"}


@pytest.mark.parametrize(("distro", "architecture"), EVERY)
def test_what_comes_with_postgresql(distro: str, architecture: str) -> None:
    policy = load_policy(distro, architecture)
    assert policy.extensions >= {"plpgsql", "pg_trgm", "hstore", "postgres_fdw", "uuid-ossp", "xml2", "intarray"}
    # A module goes by another name than its extension, or has none.
    assert policy.modules >= {
        "plpgsql",
        "pgxml",
        "_int",
        "pgoutput",
        "libpqwalreceiver",
        "auto_explain",
        "dict_snowball",
    }
    assert "intagg" in policy.extensions
    assert "intagg" not in policy.modules
    # Of PGDG's one libpq for all distributions: new in 17 and in 18.
    assert {"PQchangePassword", "PQfullProtocolVersion"} <= policy.libraries["libpq.so.5"].exports


@pytest.mark.parametrize(("distro", "architecture"), EVERY)
def test_names_without_a_version(distro: str, architecture: str) -> None:
    policy = load_policy(distro, architecture)
    assert defines(policy, "libzstd.so.1", "ZSTD_compress")
    assert defines(policy, "liblz4.so.1", "LZ4_compress_default")
    assert not defines(policy, "libzstd.so.1", "LZ4_compress_default")
    assert defines(policy, "libz.so.1", "deflate")
    # Its versions tell of libc's names.
    assert not policy.libraries["libc.so.6"].exports & {"malloc", "printf"}
    # From 2.14 on, libxml2 has no versions.
    [xml] = [name for name in policy.libraries if name.startswith("libxml2.so.")]
    assert defines(policy, xml, "xmlReadMemory") == (distro == "sid")
    assert ("LIBXML2_2.6.0" in policy.libraries[xml].versions) == (distro != "sid")
    for library in policy.libraries.values():
        assert not library.exports & {"main", "_init", "_fini", "_end", "__bss_start"}


@pytest.mark.parametrize("distro", DISTROS)
def test_icu_names_have_the_sonames_number(distro: str) -> None:
    policy = load_policy(distro, "amd64")
    [soname] = [name for name in policy.libraries if name.startswith("libicuuc.so.")]
    number = int(soname.rpartition(".")[2])
    for name in ("u_strToUpper_{}", "_ZN6icu_{}13UnicodeStringC1Ev", "_ZTIN6icu_{}7UObjectE"):
        assert defines(policy, soname, name.format(number))
        assert not defines(policy, soname, name.format(number + 1))
    assert not defines(policy, soname, "ZSTD_compress")
    assert len(policy.libraries[soname].exports) < 50


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_the_server_exports(architecture: str) -> None:
    found = server(architecture)
    assert found.major == 18
    wanted = {"AllocSetContextCreateInternal", "SPI_connect", "errstart", "MemoryContextAlloc", "CurrentMemoryContext"}
    assert wanted <= found.exports
    # New in 18, and gone since 14.
    assert "pg_numa_init" in found.exports
    assert "GetOldestXmin" not in found.exports
    # The linker's, and copies of the C library's variables.
    assert not found.exports & {
        "main",
        "_start",
        "_init",
        "__bss_start",
        "_IO_stdin_used",
        "stdin",
        "environ",
        "optarg",
    }
    assert 11_000 < len(found.exports) < 12_000
    assert {"libc.so.6", "libm.so.6", "libz.so.1", "libxml2.so.16"} <= set(found.needed)


def test_the_server_differs_little_between_architectures() -> None:
    amd64, arm64 = (server(architecture) for architecture in ARCHITECTURES)
    assert "pg_comp_crc32c_sse42" in amd64.exports - arm64.exports
    assert "pg_comp_crc32c_armv8" in arm64.exports - amd64.exports
    assert len(amd64.exports ^ arm64.exports) < 20
    assert amd64.needed == arm64.needed


@pytest.mark.parametrize(("distro", "architecture"), EVERY)
def test_the_servers_libraries_are_there(distro: str, architecture: str) -> None:
    """By whatever number they have in that release."""
    provided = {re.split(r"\.so|-2\.", name)[0] for name in load_policy(distro, architecture).libraries}
    assert {name.split(".so")[0] for name in server(architecture).needed} <= provided


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_base_libraries_names(architecture: str) -> None:
    found = server(architecture)
    assert {
        "malloc",
        "cos",
        "pthread_create",
        "dlsym",
        "stdin",
        "_Unwind_Resume",
        "_Znwm",
        "clock_gettime",
    } <= found.base
    # New in 2.38, the last in 2.41.
    assert {"strlcpy", "sched_setattr"} <= found.base
    rules = [re.compile(fnmatch.translate(pattern)).match for pattern in found.patterns]
    for name in ("_ZSt9terminatev", "__cxa_throw", "_ZNSt6localeD1Ev", "_ZTISt9exception", "__gxx_personality_v0"):
        assert any(rule(name) for rule in rules), name
    others = {"GEOSGeom_create", "_ZN4geos4geom8GeometryD2Ev", "_ZTIN4geos4geom8GeometryE", "_Z3fooi"}
    assert not [name for name in others if any(rule(name) for rule in rules)]
    assert not found.base & {"SPI_connect", "PQconnectdb", "main"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_the_servers_libraries_give_to_a_module(architecture: str) -> None:
    """Debian's timescaledb is linked without -lssl: the server has loaded it."""
    found = server(architecture)

    def given(name: str) -> bool:
        return name in found.base or any(fnmatch.fnmatchcase(name, pattern) for pattern in found.patterns)

    names = "SSL_new SSL_CTX_free ERR_get_error EVP_sha256 X509_free deflate ZSTD_compress LZ4_compress_default"
    assert all(map(given, names.split()))
    assert all(
        map(given, ["xmlReadMemory", "ldap_initialize", "gss_accept_sec_context", "u_strToUpper_72", "sd_notify"])
    )
    for name in (
        "PQconnectdb",
        "GEOSGeom_create",
        "curl_easy_init",
        "Py_Initialize",
        "json_object_new",
        "OGR_F_Create",
    ):
        assert not given(name), name


def test_an_unknown_distro_names_the_known_and_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        load_policy("tricksie", "amd64")
    assert "bullseye, bookworm, trixie or sid" in str(caught.value)
    assert caught.value.hint == "Did you mean trixie?"
    with pytest.raises(UsageError) as caught:
        load_policy("../../etc/passwd", "amd64")
    assert caught.value.hint == ""


def test_an_architecture_without_data() -> None:
    for load in (lambda: load_policy("trixie", "s390x"), lambda: load_server(18, "s390x")):
        with pytest.raises(UsageError, match="no data for the architecture s390x, wanted amd64 or arm64"):
            load()


def test_a_major_without_data() -> None:
    assert load_server(17, "amd64") is None
    assert load_server(17, "s390x") is None


def test_a_policy_does_not_change() -> None:
    policy = load_policy("trixie", "amd64")
    assert load_policy("trixie", "amd64") is policy
    with pytest.raises(TypeError):
        policy.libraries["libnew.so.1"] = policy.libraries["libc.so.6"]  # type: ignore[index]


def test_importing_reads_no_data() -> None:
    code = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from ocibuild.postgres.policies import load_policy
assert not [name for name in opened if name.endswith(".json")], opened
load_policy("trixie", "arm64")
assert [name.rpartition("/")[2] for name in opened if name.endswith(".json")] == ["trixie.json"], opened
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("name", FILES)
def test_no_host_is_named(name: str) -> None:
    text = (resources.files("ocibuild.postgres.policies") / f"{name}.json").read_text()
    assert not re.findall(r"://|\bwww\.|\b[a-z-]+\.(?:org|com|net|io|dev)\b", text)
    assert str(ROOT) not in text


@pytest.mark.parametrize("name", FILES)
def test_where_everything_is_from(name: str) -> None:
    made = document(name)
    provenance = made["provenance"]
    assert re.fullmatch(r"\w{3}, \d\d \w{3} 20\d\d [\d:]{8} UTC", provenance["archive_date"])
    packages = set()
    for line in provenance["packages"]:
        assert re.fullmatch(r"\S+ \S+ (amd64|arm64) [0-9a-f]{64}", line), line
        packages.add((line.split()[0], line.split()[2]))
    for table in made.get("libraries", {}).values():
        for architecture in [table["architecture"]] if "architecture" in table else ARCHITECTURES:
            assert (table["package"], architecture) in packages
    # The same file is the same package, whichever policy names it.
    sums = {line.split()[3] for line in provenance["packages"]}
    assert len(sums) == len(provenance["packages"])


def test_this_machines_own_libraries() -> None:
    """Debian's libraries of C and C++, read as they are installed here, define what the policy says."""
    names = platform.freedesktop_os_release() if sys.platform == "linux" else {}
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "")
    if names.get("VERSION_CODENAME") not in DISTROS[:-1] or not architecture:
        pytest.skip("needs a Debian that has a policy")
    policy = load_policy(names["VERSION_CODENAME"], architecture)
    folder = Path("/usr/lib") / TRIPLETS[architecture]
    for soname in ("libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6"):
        path = next((item for item in (folder / soname, Path("/lib", folder.name, soname)) if item.exists()), None)
        if path is None:
            missing(f"needs {soname}")
        assert read_shared_object(path.read_bytes()).defines == policy.libraries[soname].versions, soname
