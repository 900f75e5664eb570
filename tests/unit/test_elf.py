"""Shared objects and magic blocks: the real libraries of the fixture, and what is wrong with others."""

from __future__ import annotations

import io
import struct
import subprocess
from pathlib import Path

import pytest

from ocibuild.elf import VersionNeed, read_shared_object
from ocibuild.errors import ElfError, SourceError
from ocibuild.postgres import Magic, read_magic
from tests.support.tools import TREES

LIBRARIES = [tree / "usr/lib/postgresql/18/lib/pgrx_hello.so" for tree in TREES]


def read(data: bytes) -> object:
    return read_shared_object(io.BytesIO(data), where="x.so")


@pytest.mark.parametrize(
    ("path", "machine", "loader"),
    list(zip(LIBRARIES, ["X86_64", "AARCH64"], ["x86-64.so.2", "aarch64.so.1"], strict=True)),
)
def test_the_fixture(path: Path, machine: str, loader: str) -> None:
    with open(path, "rb") as stream:
        facts = read_shared_object(stream)
    assert (facts.machine, facts.bits, facts.little_endian) == (machine, 64, True)
    assert facts.soname == "libpgrx_hello.so"
    assert facts.needed == ("libgcc_s.so.1", "libc.so.6", f"ld-linux-{loader}")
    assert facts.runpath is None
    assert {"Pg_magic_func", "hello_wrapper", "pg_finfo_hello_length_wrapper"} <= facts.exports
    assert VersionNeed(library="libc.so.6", version="GLIBC_2.34") in facts.versions
    glibc = [
        tuple(map(int, item.version[6:].split("."))) for item in facts.versions if item.version.startswith("GLIBC_")
    ]
    assert max(glibc) <= (2, 36)
    assert read_magic(path.read_bytes()) == Magic(major=18, abi="PostgreSQL")


def test_readelf_agrees() -> None:
    """Another reader of the same file."""
    try:
        out = subprocess.run(
            ["readelf", "-dVW", "--dyn-syms", LIBRARIES[0]], capture_output=True, text=True, check=True
        ).stdout
    except FileNotFoundError:
        pytest.skip("needs readelf: apt-get install binutils")
    with open(LIBRARIES[0], "rb") as stream:
        facts = read_shared_object(stream)
    for name in facts.needed:
        assert f"Shared library: [{name}]" in out
    for need in facts.versions:
        assert f"Name: {need.version} " in out
    defined = {line.split()[7].split("@")[0] for line in out.splitlines() if " GLOBAL " in line and " UND " not in line}
    assert defined == facts.exports


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file"),
        (b"#!/bin/sh\n", "not an ELF file"),
        (b"\xcf\xfa\xed\xfe" + bytes(100), "Mach-O library (macOS), wanted an ELF shared object. Take the package built for Linux"),
        (b"\xca\xfe\xba\xbe" + bytes(100), "universal Mach-O"),
        (b"MZ" + bytes(100), "Windows DLL"),
        (b"!<arch>\nfoo", "static archive"),
        (b"\x7fELF", "damaged"),
        (b"\x7fELF" + bytes(60), "damaged"),
    ],
)  # fmt: skip
def test_what_is_no_library(data: bytes, words: str) -> None:
    with pytest.raises(ElfError) as error:
        read(data)
    assert words in str(error.value)
    assert str(error.value).startswith("x.so: ")


@pytest.mark.parametrize("size", [64, 1000, 100_000, -1])
def test_truncated(size: int) -> None:
    with pytest.raises(ElfError, match=r"truncated|damaged"):
        read(LIBRARIES[0].read_bytes()[:size])


def test_a_program_is_no_library() -> None:
    data = bytearray(LIBRARIES[0].read_bytes())
    data[16] = 2  # ET_EXEC
    with pytest.raises(ElfError, match="ET_EXEC"):
        read(bytes(data))


def test_no_section_headers() -> None:
    data = bytearray(LIBRARIES[0].read_bytes())
    data[60:62] = b"\0\0"
    with pytest.raises(ElfError, match="section headers"):
        read(bytes(data))


@pytest.mark.parametrize(
    ("length", "version", "major"),
    [(24, 1400, 14), (56, 1700, 17), (72, 1800, 18), (72, 1900, 19), (64, 1800, None), (72, 18, None)],
)
def test_magic_blocks(length: int, version: int, major: int | None) -> None:
    for order in "<>":
        block = struct.pack(f"{order}6i32s", length, version, 100, 32, 64, 1, b"PostgreSQL")
        found = read_magic(b"pad" + block, little_endian=order == "<")
        assert (found.major if found else None) == major


def test_the_constants_alone_are_no_block() -> None:
    assert read_magic(struct.pack("<4i", 100, 32, 64, 1)) is None
    assert read_magic(b"") is None


def test_two_servers_in_one_library() -> None:
    blocks = b"".join(struct.pack("<6i32s", 56, version, 100, 32, 64, 1, b"PostgreSQL") for version in (1600, 1700))
    with pytest.raises(SourceError, match="16, 17"):
        read_magic(blocks)
