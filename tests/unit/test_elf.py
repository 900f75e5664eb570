"""Shared objects and magic blocks: real libraries, which pyelftools must read the same, and made ones."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import struct
import subprocess
import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from elftools.elf.elffile import ELFFile

from ocibuild.elf import Import, SharedObject, VersionNeed, read_shared_object
from ocibuild.errors import ElfError, SourceError
from ocibuild.postgres import Magic, read_magic
from tests.support.tools import TREES

LIBRARIES = [tree / "usr/lib/postgresql/18/lib/pgrx_hello.so" for tree in TREES]
SYSTEM = Path("/usr/lib/x86_64-linux-gnu")


def read(data: bytes) -> SharedObject:
    return read_shared_object(data, where="x.so")


# Real files


@pytest.mark.parametrize(
    ("path", "machine", "loader"),
    list(zip(LIBRARIES, ["X86_64", "AARCH64"], ["x86-64.so.2", "aarch64.so.1"], strict=True)),
)
def test_the_fixture(path: Path, machine: str, loader: str) -> None:
    facts = read(path.read_bytes())
    assert (facts.machine, facts.bits, facts.little_endian) == (machine, 64, True)
    assert facts.soname == "libpgrx_hello.so"
    assert facts.needed == ("libgcc_s.so.1", "libc.so.6", f"ld-linux-{loader}")
    assert facts.runpath == ()
    assert {"Pg_magic_func", "hello_wrapper", "pg_finfo_hello_length_wrapper"} <= facts.exports
    assert VersionNeed(library="libc.so.6", version="GLIBC_2.34") in facts.versions
    glibc = [
        tuple(map(int, item.version[6:].split("."))) for item in facts.versions if item.version.startswith("GLIBC_")
    ]
    assert max(glibc) <= (2, 36)
    imports = {item.name: item for item in facts.imports}
    assert imports["palloc"] == Import(name="palloc", version=None, library=None, weak=False)
    assert (imports["memcpy"].library, imports["memcpy"].weak) == ("libc.so.6", False)
    assert not facts.executable_stack
    assert not facts.text_relocations
    assert read_magic(path.read_bytes()) == Magic(major=18, abi="PostgreSQL")


def oracle(path: Path) -> SharedObject:
    """The same facts by pyelftools, which goes by the sections."""
    with open(path, "rb") as stream:
        elf = ELFFile(stream)
        sections: dict[str, Any] = {str(section["sh_type"]): section for section in elf.iter_sections()}
        tags = list(sections["SHT_DYNAMIC"].iter_tags()) if "SHT_DYNAMIC" in sections else []
        texts: dict[str, list[str]] = {}
        for tag in tags:
            for name in ("needed", "soname", "rpath", "runpath"):
                if tag.entry.d_tag == f"DT_{name.upper()}":
                    texts.setdefault(name, []).append(getattr(tag, name))
        numbered: dict[int, tuple[str, str | None]] = {}
        versions, defines = set(), set()
        for library, needs in _versions(sections, "SHT_GNU_verneed"):
            for need in needs:
                versions.add(VersionNeed(library=library.name, version=need.name, weak=bool(need["vna_flags"] & 2)))
                numbered[need["vna_other"]] = (need.name, library.name)
        for definition, names in _versions(sections, "SHT_GNU_verdef"):
            name = next(names).name
            if not definition["vd_flags"] & 1:
                defines.add(name)
                numbered[definition["vd_ndx"]] = (name, None)
        imports: list[Import] = []
        exports: set[str] = set()
        versioned: set[str] = set()
        numbers = sections.get("SHT_GNU_versym")
        symbols = sections["SHT_DYNSYM"].iter_symbols() if "SHT_DYNSYM" in sections else ()
        for place, symbol in enumerate(symbols):
            binding = symbol["st_info"]["bind"]
            if binding not in ("STB_GLOBAL", "STB_WEAK", "STB_LOOS") or not symbol.name:
                continue
            number = numbers.get_symbol(place)["ndx"] if numbers else 0
            number = number & 0x7FFF if isinstance(number, int) else 0
            if symbol["st_shndx"] == "SHN_UNDEF":
                version, owner = numbered.get(number, (None, None))
                weak = binding == "STB_WEAK"
                imports.append(Import(name=symbol.name, version=version, library=owner, weak=weak))
            elif symbol["st_other"]["visibility"] in ("STV_DEFAULT", "STV_PROTECTED"):
                exports.add(symbol.name)
                versioned.update({symbol.name} if number > 1 else ())
        stack = [segment["p_flags"] & 1 for segment in elf.iter_segments() if segment["p_type"] == "PT_GNU_STACK"]
        debug = [item for item in elf.iter_sections() if item.name.startswith((".debug_", ".zdebug_"))]
        segments: list[Any] = [item for item in elf.iter_segments() if item["p_type"] == "PT_NOTE"]
        notes = [note for item in segments for note in item.iter_notes()]
        ids = [note["n_desc"] for note in notes if note["n_type"] == "NT_GNU_BUILD_ID"]
        runpath = ":".join(texts.get("runpath", texts.get("rpath", [])))
        return SharedObject(
            machine=str(elf.header["e_machine"]).removeprefix("EM_"),
            bits=elf.elfclass,
            little_endian=elf.little_endian,
            soname=next(iter(texts.get("soname", [])), None),
            needed=tuple(texts.get("needed", ())),
            runpath=tuple(runpath.split(":")) if runpath else (),
            versions=tuple(sorted(versions)),
            defines=frozenset(defines),
            imports=tuple(imports),
            exports=frozenset(exports),
            versioned_exports=frozenset(versioned),
            executable_stack=bool(stack[-1]) if stack else elf.header["e_machine"] == "EM_X86_64",
            text_relocations=any(
                tag.entry.d_tag == "DT_TEXTREL" or (tag.entry.d_tag == "DT_FLAGS" and tag.entry.d_val & 4)
                for tag in tags
            ),
            debug_size=sum(item["sh_size"] for item in debug if item["sh_type"] != "SHT_NOBITS"),
            build_id=ids[0] if ids else None,
        )


def _versions(sections: Mapping[str, Any], name: str) -> Iterator[tuple[Any, Iterator[Any]]]:
    if name in sections:
        yield from sections[name].iter_versions()


def agree(path: Path) -> None:
    mine, other = read(path.read_bytes()), oracle(path)
    for item in msgspec.structs.fields(SharedObject):
        found, wanted = getattr(mine, item.name), getattr(other, item.name)
        if item.name == "imports":
            assert [entry.name for entry in found] == sorted(entry.name for entry in wanted), path
            found, wanted = sorted(found, key=repr), sorted(wanted, key=repr)
        assert found == wanted, f"{path}: {item.name}"


@pytest.mark.parametrize("path", LIBRARIES, ids=lambda path: str(path.relative_to(path.parents[6]).parts[0]))
def test_pyelftools_agrees_on_the_fixtures(path: Path) -> None:
    agree(path)


@pytest.mark.parametrize("part", range(6))
def test_pyelftools_agrees_on_this_machine(part: int) -> None:
    found = [path for path in sorted(SYSTEM.glob("*.so*")) if path.is_file() and not path.is_symlink()]
    found = [path for path in found if path.stat().st_size < 1 << 20 and path.read_bytes()[:4] == b"\x7fELF"]
    if not found:
        pytest.skip(f"needs shared libraries in {SYSTEM}")
    random.Random(1).shuffle(found)
    for path in found[part:300:6]:
        agree(path)


def test_pyelftools_agrees_on_postgresql() -> None:
    root = os.environ.get("OCIBUILD_PEERS", "")
    found = sorted(Path(root).glob("usr/lib/postgresql/*/lib/*.so")) if root else []
    if not found:
        pytest.skip("needs a PostgreSQL below the folder that OCIBUILD_PEERS names")
    for path in [*found, *Path(root).glob("usr/lib/postgresql/*/bin/postgres")]:
        agree(path)


def test_readelf_agrees() -> None:
    """Another reader of the same file."""
    if not shutil.which("readelf"):
        pytest.skip("needs readelf: apt-get install binutils")
    out = subprocess.run(
        ["readelf", "-dVnW", "--dyn-syms", LIBRARIES[0]], capture_output=True, text=True, check=True
    ).stdout
    facts = read(LIBRARIES[0].read_bytes())
    for name in facts.needed:
        assert f"Shared library: [{name}]" in out
    for need in facts.versions:
        assert f"Name: {need.version} " in out
    assert f"Build ID: {facts.build_id}" in out
    symbols = [line.split() for line in out.splitlines() if " GLOBAL " in line or " WEAK " in line]
    assert {line[7].split("@")[0] for line in symbols if line[6] != "UND"} == facts.exports
    assert {line[7].split("@")[0] for line in symbols if line[6] == "UND"} == {item.name for item in facts.imports}


# Compiled files

SOURCE = """
extern int printf(const char *, ...);
extern int maybe(void) __attribute__((weak));
int shown(void) { return printf("x") + (maybe ? maybe() : 0); }
__attribute__((visibility("protected"))) int guarded(void) { return 1; }
__attribute__((visibility("hidden"))) int hidden(void) { return 1; }
static int local(void) { return 1; }
int (*pointer)(void) = local;
"""


def compiled(folder: Path, *options: str, source: str = SOURCE, language: str = "c") -> bytes:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc: apt-get install gcc libc6-dev")
    target = folder / "out"
    command = [compiler, "-x", language, "-", "-o", str(target), *options]
    made = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    if made.returncode and "cannot find" in made.stderr:
        pytest.skip(f"needs what gcc links: {made.stderr.strip().splitlines()[-1]}")
    assert made.returncode == 0, made.stderr
    return target.read_bytes()


def without_sections(data: bytes) -> bytes:
    """As sstrip leaves a 64-bit file: nothing names a section any more."""
    return data[:40] + bytes(8) + data[48:58] + bytes(6) + data[64:]


@pytest.mark.parametrize("style", ["sysv", "gnu", "both"])
def test_a_compiled_library(tmp_path: Path, style: str) -> None:
    map_file = tmp_path / "map"
    map_file.write_text("ONE { global: shown; }; TWO { global: guarded; local: *; } ONE;")
    data = compiled(
        tmp_path, "-shared", "-fPIC", "-g", f"-Wl,--hash-style={style},--version-script={map_file}",
        "-Wl,-rpath,$ORIGIN/a:/b,-soname,libx.so.1,--build-id=0xc0ffee",
    )  # fmt: skip
    agree(tmp_path / "out")
    facts = read(data)
    assert facts.exports >= {"shown", "guarded"}
    assert facts.versioned_exports >= {"shown", "guarded"}
    assert not facts.exports & {"hidden", "local", "pointer", "printf"}
    assert facts.defines == {"ONE", "TWO"}
    assert (facts.runpath, facts.soname, facts.build_id) == (("$ORIGIN/a", "/b"), "libx.so.1", "c0ffee")
    assert facts.debug_size > 100
    assert Import(name="maybe", version=None, library=None, weak=True) in facts.imports
    assert next(item.library for item in facts.imports if item.name == "printf") == "libc.so.6"
    assert read(without_sections(data)) == msgspec.structs.replace(facts, debug_size=0)


@pytest.mark.parametrize("options", [["-pie", "-fPIE"], ["-no-pie"], ["-static"]], ids=lambda options: options[0])
def test_a_compiled_program(tmp_path: Path, options: list[str]) -> None:
    """GNU's hash table does not tell how many symbols a program has that defines none."""
    data = compiled(tmp_path, "-s", *options, source='#include <stdio.h>\nint main(void) { return puts("x"); }')
    agree(tmp_path / "out")
    facts = read(data)
    assert facts.needed == (() if options == ["-static"] else ("libc.so.6",))
    assert ("puts" in {item.name for item in facts.imports}) == (options != ["-static"])
    assert read(without_sections(data)) == facts


def test_a_compiled_library_with_bad_habits(tmp_path: Path) -> None:
    code = ".globl f\nf: .quad puts\n"
    data = compiled(tmp_path, "-shared", "-nostdlib", "-Wl,-z,execstack,-z,notext", source=code, language="assembler")
    agree(tmp_path / "out")
    assert (read(data).executable_stack, read(data).text_relocations) == (True, True)


def test_a_detached_debug_file(tmp_path: Path) -> None:
    compiled(tmp_path, "-shared", "-fPIC", "-g")
    subprocess.run(["objcopy", "--only-keep-debug", tmp_path / "out", tmp_path / "debug"], check=True)
    with pytest.raises(ElfError, match=r"dynamic section.*detached debug file"):
        read((tmp_path / "debug").read_bytes())


# Made files

BASE = 0x10000


@dataclass(frozen=True, kw_only=True)
class Symbol:
    name: bytes
    section: int = 1
    binding: int = 1
    visibility: int = 0
    version: int = 1


@dataclass(frozen=True, kw_only=True)
class Made:
    """An ELF file of one segment, loaded at `BASE`, with a minimum of everything and no sections."""

    bits: int = 64
    order: str = "<"
    kind: int = 3
    machine: int = 62
    symbols: Sequence[Symbol] = ()
    needed: Sequence[bytes] = ()
    needs: Sequence[tuple[bytes, Sequence[tuple[bytes, int, int]]]] = ()
    defines: Sequence[tuple[bytes, int, int]] = ()
    texts: Mapping[int, bytes] = field(default_factory=dict)
    values: Sequence[tuple[int, int]] = ()
    stack: int | None = 6
    build_id: bytes = b""
    hashes: Sequence[str] = ("hash", "gnu_hash")

    def pack(self, layout: str, *values: int) -> bytes:
        return struct.pack(self.order + layout.replace("W", "Q" if self.bits == 64 else "I"), *values)

    def write(self, **replaced: bytes) -> bytes:
        """The file, with tables replaced by others."""
        strings = bytearray(b"\0")

        def at(text: bytes) -> int:
            strings.extend(text + b"\0")
            return len(strings) - len(text) - 1

        symbols = [Symbol(name=b"", section=0, binding=0, version=0), *sorted(self.symbols, key=lambda s: s.section)]
        rows = b""
        for item in symbols:
            name = at(item.name) if item.name else 0
            if self.bits == 64:
                rows += self.pack("I2BH2Q", name, item.binding << 4, item.visibility, item.section, 1, 1)
            else:
                rows += self.pack("3I2BH", name, 1, 1, item.binding << 4, item.visibility, item.section)
        first = next((place for place, item in enumerate(symbols) if item.section), len(symbols))
        chain = [2 * place + (place == len(symbols) - 1) for place in range(first, len(symbols))]
        bucket = first if chain else 0
        tables = {
            "symbols": rows,
            "versym": self.pack(f"{len(symbols)}H", *(item.version for item in symbols)),
            "hash": self.pack(f"{3 + len(symbols)}I", 1, len(symbols), 0, *[0] * len(symbols)),
            "gnu_hash": self.pack(f"4IWI{len(chain)}I", 1, first, 1, 6, 0, bucket, *chain),
            "verneed": self._needs(at),
            "verdef": self._defines(at),
        }
        dynamic = [(1, at(item)) for item in self.needed]
        dynamic += [(tag, at(text)) for tag, text in self.texts.items()] + list(self.values)
        tables["note"] = self.pack("3I", 4, len(self.build_id), 3) + b"GNU\0" + self.build_id
        tables["strings"] = bytes(strings)
        tables.update(replaced)

        header, entry = (64, 56) if self.bits == 64 else (52, 32)
        body = bytearray()
        places: dict[str, int] = {}
        start = header + 4 * entry
        for label, table in tables.items():
            body += bytes(-(start + len(body)) % 8)
            places[label] = start + len(body)
            body += table
        tags = {"strings": 5, "symbols": 6, "hash": 4, "gnu_hash": 0x6FFFFEF5, "versym": 0x6FFFFFF0}
        for label, tag in tags.items():
            if label not in ("hash", "gnu_hash") or label in self.hashes:
                dynamic.append((tag, BASE + places[label]))
        dynamic.append((10, len(tables["strings"])))
        for label, tag in (("verneed", 0x6FFFFFFE), ("verdef", 0x6FFFFFFC)):
            dynamic += [(tag, BASE + places[label])] if tables[label] else []
        body += bytes(-(start + len(body)) % 8)
        places["dynamic"] = start + len(body)
        body += b"".join(self.pack("2W", *row) for row in [*dynamic, (0, 0)])

        size = start + len(body)
        segments = [(1, 5, 0, size), (2, 6, places["dynamic"], size - places["dynamic"])]
        segments += [(0x6474E551, self.stack, 0, 0)] if self.stack is not None else []
        segments += [(4, 4, places["note"], len(tables["note"]))] if self.build_id else []
        heads = b""
        for kind, flags, offset, length in segments:
            if self.bits == 64:
                heads += self.pack("2I6Q", kind, flags, offset, BASE + offset, 0, length, length, 4)
            else:
                heads += self.pack("8I", kind, offset, BASE + offset, 0, length, length, flags, 4)
        ident = b"\x7fELF" + bytes([self.bits // 32, 1 if self.order == "<" else 2, 1]) + bytes(9)
        counts = (header, entry, len(segments), 0, 0, 0)
        top = ident + self.pack("2HI3WI6H", self.kind, self.machine, 1, 0, header, 0, 0, *counts)
        return (top + heads).ljust(start, b"\0") + bytes(body)

    def _needs(self, at: Any) -> bytes:
        out = b""
        for place, (library, versions) in enumerate(self.needs):
            size = 16 * (1 + len(versions)) if place < len(self.needs) - 1 else 0
            out += self.pack("2H3I", 1, len(versions), at(library), 16, size)
            for row, (version, number, flags) in enumerate(versions):
                out += self.pack("I2H2I", 0, flags, number, at(version), 16 if row < len(versions) - 1 else 0)
        return out

    def _defines(self, at: Any) -> bytes:
        out = b""
        for place, (version, number, flags) in enumerate(self.defines):
            out += self.pack("4H3I", 1, flags, number, 1, 0, 20, 28 if place < len(self.defines) - 1 else 0)
            out += self.pack("2I", at(version), 0)
        return out


FULL = Made(
    symbols=[
        Symbol(name=b"wanted", section=0, version=3),
        Symbol(name=b"also", section=0, binding=2),
        Symbol(name=b"of_whom", section=0, version=9),
        Symbol(name=b"local", binding=0),
        Symbol(name=b"odd", binding=13),
        Symbol(name=b"given", version=2),
        Symbol(name=b"old", version=0x8002),
        Symbol(name=b"plain"),
        Symbol(name=b"second", version=0x8001),
        Symbol(name=b"weak", binding=2),
        Symbol(name=b"unique", binding=10),
        Symbol(name=b"hidden", visibility=2),
        Symbol(name=b"internal", visibility=1),
        Symbol(name=b"protected", visibility=3),
        Symbol(name=b"absolute", section=0xFFF1),
    ],
    needed=[b"liba.so", b"libb.so"],
    needs=[(b"liba.so", [(b"A_1", 3, 0), (b"A_2", 4, 2)]), (b"libb.so", [(b"B_1", 5, 0)])],
    defines=[(b"libx.so", 1, 1), (b"X_1", 2, 0)],
    texts={14: b"libx.so", 29: b"/a::$ORIGIN", 15: b"/not"},
    build_id=b"\x01\x02\x03",
)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("hashes", [("hash",), ("gnu_hash",), ("hash", "gnu_hash")], ids="+".join)
def test_a_made_library(bits: int, order: str, hashes: tuple[str, ...]) -> None:
    """Both sizes and orders, without sections, with either hash table."""
    assert read(replace(FULL, bits=bits, order=order, hashes=hashes).write()) == SharedObject(
        machine="X86_64",
        bits=bits,
        little_endian=order == "<",
        soname="libx.so",
        needed=("liba.so", "libb.so"),
        runpath=("/a", "", "$ORIGIN"),
        versions=(
            VersionNeed(library="liba.so", version="A_1"),
            VersionNeed(library="liba.so", version="A_2", weak=True),
            VersionNeed(library="libb.so", version="B_1"),
        ),
        defines=frozenset({"X_1"}),
        imports=(
            Import(name="also", version=None, library=None, weak=True),
            Import(name="of_whom", version=None, library=None, weak=False),
            Import(name="wanted", version="A_1", library="liba.so", weak=False),
        ),
        exports=frozenset({"given", "old", "plain", "second", "weak", "unique", "protected", "absolute"}),
        versioned_exports=frozenset({"given", "old"}),
        executable_stack=False,
        text_relocations=False,
        debug_size=0,
        build_id="010203",
    )


def test_words_of_64_bits_in_a_hash_table() -> None:
    """s390x has them."""
    made = replace(FULL, machine=22, order=">", hashes=("hash",))
    count = len(FULL.symbols) + 1
    assert "unique" in read(made.write(hash=struct.pack(">3Q", 1, count, 0) + bytes(8 * count))).exports


@pytest.mark.parametrize(
    ("machine", "name"),
    [(62, "X86_64"), (183, "AARCH64"), (3, "386"), (40, "ARM"), (21, "PPC64"), (22, "S390"), (243, "RISCV"),
     (258, "LOONGARCH"), (8, "MIPS"), (12345, "12345")],
)  # fmt: skip
def test_machines(machine: int, name: str) -> None:
    assert read(Made(machine=machine).write()).machine == name


@pytest.mark.parametrize(
    ("machine", "stack", "executable"),
    [(62, 7, True), (62, 6, False), (62, None, True), (3, None, True), (183, None, False), (183, 7, True),
     (40, None, True), (21, None, False), (243, None, False)],
)  # fmt: skip
def test_the_stack(machine: int, stack: int | None, executable: bool) -> None:
    assert read(Made(machine=machine, stack=stack).write()).executable_stack is executable


def header(data: bytes, number: int, **changed: int) -> bytes:
    """A 64-bit file with fields of a program header changed."""
    names = ("kind", "flags", "offset", "address", "physical", "size", "memory", "align")
    start = 64 + 56 * number
    found = dict(zip(names, struct.unpack_from("<2I6Q", data, start), strict=True)) | changed
    return data[:start] + struct.pack("<2I6Q", *found.values()) + data[start + 56 :]


def test_the_last_word_about_the_stack() -> None:
    data = Made(build_id=b"x").write()
    assert read(header(data, 3, kind=0x6474E551, flags=7)).executable_stack
    assert not read(header(header(data, 2, flags=7), 3, kind=0x6474E551, flags=6)).executable_stack


def test_the_last_segment_covers_the_others() -> None:
    data = FULL.write()
    both = header(data, 3, kind=1, offset=len(data), address=BASE, size=len(data)) + data.replace(b"plain", b"other")
    assert "plain" not in read(both).exports
    assert "other" in read(both).exports


def test_notes_of_another_alignment() -> None:
    """The first note ends at 20, and the next begins at 24."""
    note = struct.pack("<3I", 4, 4, 5) + b"GNU\0" + bytes(8) + struct.pack("<3I", 4, 2, 3) + b"GNU\0\xab\xcd"
    data = Made(build_id=b"x").write(note=note)
    assert read(header(data, 3, align=8)).build_id == "abcd"
    assert read(data).build_id is None


@pytest.mark.parametrize(
    ("values", "found"), [([(22, 0)], True), ([(30, 4)], True), ([(30, 0xFB)], False), ([], False)]
)
def test_text_relocations(values: list[tuple[int, int]], found: bool) -> None:
    assert read(Made(values=values).write()).text_relocations is found


@pytest.mark.parametrize(
    ("texts", "found"),
    [({}, ()), ({15: b"/a:/b"}, ("/a", "/b")), ({15: b"/a", 29: b"/b"}, ("/b",)), ({29: b""}, ())],
)
def test_the_search_path(texts: dict[int, bytes], found: tuple[str, ...]) -> None:
    assert read(Made(texts=texts).write()).runpath == found


def test_a_version_needed_twice() -> None:
    made = Made(needs=[(b"a", [(b"V", 2, 2), (b"V", 3, 0), (b"W", 4, 2), (b"W", 5, 2)])])
    assert read(made.write()).versions == (
        VersionNeed(library="a", version="V"),
        VersionNeed(library="a", version="W", weak=True),
    )


def test_names_that_are_not_utf8() -> None:
    made = Made(symbols=[Symbol(name=b"a\xff"), Symbol(name=b"a\xfe"), Symbol(name="é".encode())])
    assert read(made.write()).exports == {"a\\xff", "a\\xfe", "é"}


def test_a_long_name_of_a_template() -> None:
    made = Made(symbols=[Symbol(name=b"_Z" + b"x" * 60_000)])
    assert read(made.write()).exports == {"_Z" + "x" * 60_000}


def test_any_buffer(tmp_path: Path) -> None:
    data = LIBRARIES[0].read_bytes()
    path = tmp_path / "x.so"
    path.write_bytes(data)
    assert read_shared_object(memoryview(data)) == read(data)
    assert read_shared_object(memoryview(data + bytes(-len(data) % 8)).cast("Q")) == read(data)
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as found:
        assert read_shared_object(found) == read(data)


def test_a_map_can_be_closed_after_an_error(tmp_path: Path) -> None:
    """No view of it lives on in the traceback."""
    path = tmp_path / "x.so"
    for size in (10, 64, 1000, 100_000, 300_000):
        path.write_bytes(LIBRARIES[0].read_bytes()[:size])
        with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            with pytest.raises(ElfError) as error:
                read_shared_object(data)
            data.close()
        assert error.value.found


# What is wrong


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
        (Made(kind=1).write(), "a relocatable object (.o), wanted a shared object or a program"),
        (Made(kind=4).write(), "a core dump"),
        (Made(kind=7).write(), "an ELF file of type 7"),
    ],
)  # fmt: skip
def test_what_is_no_library(data: bytes, words: str) -> None:
    with pytest.raises(ElfError) as error:
        read(data)
    assert words in str(error.value)
    assert str(error.value).startswith("x.so: ")


@pytest.mark.parametrize("size", [17, 63, 64, 1000, 100_000, -1])
def test_truncated(size: int) -> None:
    with pytest.raises(ElfError, match="truncated"):
        read(LIBRARIES[0].read_bytes()[:size])


def test_truncated_anywhere() -> None:
    data = FULL.write()
    for size in range(len(data)):
        with pytest.raises(ElfError):
            read(data[:size])


def test_a_static_program() -> None:
    """Nothing is dynamic about it; a library like that is none."""
    data = bytearray(Made(kind=2).write())
    data[64 + 56] = 0  # PT_DYNAMIC
    facts = read(bytes(data))
    assert (facts.needed, facts.exports, facts.imports, facts.versions) == ((), frozenset(), (), ())
    data[16] = 3
    with pytest.raises(ElfError, match="without a dynamic section"):
        read(bytes(data))


@pytest.mark.parametrize(
    ("made", "replaced"),
    [
        (replace(FULL, hashes=("gnu_hash",)), {"gnu_hash": struct.pack("<4IQ2I", 1, 4, 1, 6, 0, 4, 2) + b"\2\0\0\0" * 500}),
        (replace(FULL, hashes=("gnu_hash",)), {"gnu_hash": struct.pack("<4IQ2I", 1, 4, 1, 6, 0, 3, 1)}),
        (replace(FULL, hashes=("gnu_hash",)), {"gnu_hash": struct.pack("<4IQ2I", 0xFFFFFFFF, 4, 1, 6, 0, 4, 1)}),
        (replace(FULL, hashes=("gnu_hash",)), {"gnu_hash": struct.pack("<4IQ2I", 1, 4, 0xFFFFFFFF, 6, 0, 4, 1)}),
        (replace(FULL, hashes=("gnu_hash",)), {"gnu_hash": struct.pack("<4IQ2I", 1, 4, 1, 6, 0, 0xFFFFFFFF, 1)}),
        (replace(FULL, hashes=("hash",)), {"hash": struct.pack("<2I", 1, 0xFFFFFFFF)}),
        (replace(FULL, hashes=("hash",)), {"hash": struct.pack("<2I", 1, 1000)}),
        (FULL, {"versym": b""} | {"verneed": b"", "verdef": b"", "note": b"", "strings": b"\0" * 100}),
        (FULL, {"strings": b""}),
        (FULL, {"strings": b"a" * 200}),
        (FULL, {"verneed": struct.pack("<2H3I", 2, 1, 1, 16, 0) + bytes(16)}),
        (FULL, {"verneed": struct.pack("<2H3I", 1, 1, 1, 0xFFFFFFFF, 0)}),
        (FULL, {"verneed": struct.pack("<2H3I", 1, 1, 1, 16, 0xFFFFFFFF) + bytes(16)}),
        (FULL, {"verdef": struct.pack("<4H3I", 2, 0, 2, 1, 0, 20, 0) + bytes(8)}),
        (replace(FULL, values=[(11, 23)]), {}),
        (replace(FULL, values=[(1, 0xFFFFFFFFFFFFFFFF)]), {}),
        (replace(FULL, values=[(1, 1)] * 25_000), {}),
        (replace(FULL, needed=[b"n" * 4097]), {}),
        (Made(symbols=[Symbol(name=b"n" * 70_000)]), {}),
        (replace(FULL, build_id=b"n" * 2000), {}),
    ],
)  # fmt: skip
def test_damaged(made: Made, replaced: dict[str, bytes]) -> None:
    if made.needed == FULL.needed and made is not FULL:
        read(replace(made, values=(), build_id=b"").write())
    with pytest.raises(ElfError, match="damaged"):
        read(made.write(**replaced))


def bounded(data: bytes, words: str) -> None:
    """An error within a second, and within memory that goes with the file's size."""
    start = time.perf_counter()
    with pytest.raises(ElfError, match=words):
        read(data)
    assert time.perf_counter() - start < 2
    tracemalloc.start()
    try:
        with pytest.raises(ElfError):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 12 * len(data) + 100_000
    finally:
        tracemalloc.stop()


def of_symbols(rows: bytes, count: int, strings: bytes) -> bytes:
    return Made(hashes=("hash",)).write(
        symbols=rows, versym=bytes(2 * count), hash=struct.pack("<2I", 1, count), strings=strings
    )


@pytest.mark.parametrize("section", [0, 1], ids=["imports", "exports"])
def test_many_symbols_with_one_long_name(section: int) -> None:
    row = struct.pack("<I2BH2Q", 1, 16, 0, section, 0, 0)
    bounded(of_symbols(row * 200_000, 200_000, b"\0" + b"n" * 60_000 + b"\0"), "name of a symbol")


def test_many_symbols_in_a_name_without_an_end() -> None:
    bounded(
        of_symbols(struct.pack("<I2BH2Q", 1, 16, 0, 0, 0, 0) * 200_000, 200_000, b"\0" + b"n" * 4_000_000),
        "name of a symbol",
    )


def test_many_names_that_overlap() -> None:
    """Each begins within the one before: all are different, and none longer than it may be."""
    rows = b"".join(struct.pack("<I2BH2Q", 1 + place, 16, 0, 1, 0, 0) for place in range(50_000))
    bounded(of_symbols(rows, 50_000, b"\0" + b"n" * 60_000 + b"\0"), "name of a symbol")


def test_more_symbols_than_any() -> None:
    bounded(of_symbols(bytes(24 * 1_000_001), 1_000_001, b"\0"), "1000001 dynamic symbols")


def test_many_imports_are_read() -> None:
    """What is accepted, too, takes memory that goes with the file's size."""
    data = of_symbols(struct.pack("<I2BH2Q", 1, 16, 0, 0, 0, 0) * 200_000, 200_000, b"\0name\0")
    tracemalloc.start()
    try:
        assert len(read(data).imports) == 200_000
        assert tracemalloc.get_traced_memory()[1] < 12 * len(data)
    finally:
        tracemalloc.stop()


def test_more_hash_chains_than_any() -> None:
    count = 1_000_001
    table = struct.pack("<4IQ", count, 1, 1, 6, 0) + bytes(4 * count)
    bounded(Made(hashes=("gnu_hash",)).write(gnu_hash=table), "hash table")


def test_many_libraries_with_one_long_name() -> None:
    bounded(replace(Made(needed=[b"n" * 4000]), values=[(1, 1)] * 15_000).write(), "more names")


def test_versions_that_overlap() -> None:
    """Every need has all the versions that follow it."""
    strings = b"\0a\0" + bytes(300)
    bounded(
        Made().write(verneed=struct.pack("<2H3I", 1, 1, 1, 16, 16) * 30_000, strings=strings), "more symbol versions"
    )


def test_many_notes() -> None:
    """Segments that all are the same megabyte of empty notes."""
    data = bytearray(Made(build_id=b"\1").write(note=bytes(1 << 20)))
    start = len(data)
    data += bytes(data[64 : 64 + 56 * 4]) + bytes(data[64 + 56 * 3 : 64 + 56 * 4]) * 60_000
    data[32:40] = struct.pack("<Q", start)
    data[56:58] = struct.pack("<H", 60_004)
    bounded(bytes(data), "more notes")


def test_many_segments() -> None:
    """Each address is looked for in all of them."""
    data = bytearray(FULL.write())
    start = len(data)
    load = struct.pack("<2I6Q", 1, 4, 0, 1, 0, 1, 1, 1)
    data += bytes(data[64 : 64 + 56 * 4]) + load * 60_000
    data[32:40] = struct.pack("<Q", start)
    data[56:58] = struct.pack("<H", 60_004)
    before = time.perf_counter()
    assert read(bytes(data)).exports == read(FULL.write()).exports
    assert time.perf_counter() - before < 2


def test_the_section_that_tells_the_number_of_symbols() -> None:
    """Where nothing else does, and only if it is about the same symbols."""
    rows = bytes(24) + struct.pack("<I2BH2Q", 1, 16, 0, 1, 0xABCDEF, 0)
    data = bytearray(Made(hashes=()).write(symbols=rows, versym=bytes(4), strings=b"\0name\0"))
    assert read(bytes(data)).exports == frozenset()
    place = data.index(rows)
    data[40:48] = struct.pack("<Q", len(data))
    data[58:62] = struct.pack("<2H", 64, 1)
    for address, found in ((BASE + place, {"name"}), (BASE + place + 24, set())):
        section = struct.pack("<2I4Q2I2Q", 0, 11, 0, address, place, len(rows), 0, 0, 8, 24)
        assert read(bytes(data) + section).exports == found


def test_sections_that_are_debug_information() -> None:
    """Counted once even if they overlap, and not beyond the file; a table of symbols is none."""
    names = b"\0.debug_info\0.zdebug_line\0.symtab\0.shstrtab\0.debug_str\0"
    made = Made().write()
    start = len(made)

    def row(name: bytes, kind: int, offset: int, size: int) -> bytes:
        return struct.pack("<2I4Q2I2Q", names.index(name), kind, 0, 0, offset, size, 0, 0, 1, 0)

    def built(*rows: bytes) -> bytes:
        table = bytes(64) + row(b".shstrtab", 3, start, len(names)) + b"".join(rows)
        data = bytearray(made + names.ljust(64, b"\0") + table)
        data[40:48] = struct.pack("<Q", start + 64)
        data[58:64] = struct.pack("<3H", 64, len(rows) + 2, 1)
        return bytes(data)

    assert read(built()).debug_size == 0
    some = [row(b".debug_info", 1, 0, 10), row(b".zdebug_line", 1, 10, 5), row(b".symtab", 2, 0, 24)]
    assert read(built(*some)).debug_size == 15
    assert read(built(*some, row(b".debug_str", 8, 0, 1 << 40))).debug_size == 15
    many = built(*[row(b".debug_str", 1, 0, start)] * 100)
    assert read(many).debug_size == len(many)
    with pytest.raises(ElfError, match="truncated"):
        read(built(row(b".debug_info", 1, 0, 1 << 40)))


# Magic blocks


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
