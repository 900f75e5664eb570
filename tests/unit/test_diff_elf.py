"""Why two ELF files differ: real libraries, patched bytes, and any damage."""

from __future__ import annotations

import mmap
import random
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from ocibuild.diff.difference import Difference
from ocibuild.diff.elf import elf_differences
from ocibuild.diff.spans import compare_spans
from tests.support.tools import ROOT, TREES, missing

AMD64, ARM64 = (tree / "usr/lib/postgresql/18/lib/pgrx_hello.so" for tree in TREES)
MODULES = ROOT / "fixtures" / "modules"
LIBRARY = AMD64.read_bytes()
DEBUG = (MODULES / "debug.so").read_bytes()
SAME = "the code and data are the same"


def module(name: str) -> bytes:
    return (MODULES / f"{name}.so").read_bytes()


def diff(a: bytes, b: bytes) -> tuple[Difference, ...]:
    return elf_differences(a, b, where="x.so")[0]


def noted(a: bytes, b: bytes) -> str:
    return elf_differences(a, b, where="x.so")[1]


def section(name: str, path: Path = AMD64) -> tuple[int, int, int]:
    """Offset, size and address."""
    with open(path, "rb") as stream:
        found: Any = ELFFile(stream).get_section_by_name(name)
        return found["sh_offset"], found["sh_size"], found["sh_addr"]


def patched(data: bytes, *places: int) -> bytes:
    changed = bytearray(data)
    for at in places:
        changed[at] ^= 0x55
    return bytes(changed)


def brief(items: tuple[Difference, ...]) -> list[tuple[str, str, str | None, str | None]]:
    return [(item.kind, item.where, item.a, item.b) for item in items]


def test_equal_files_have_none() -> None:
    assert diff(LIBRARY, LIBRARY) == ()


def test_a_byte_of_rodata() -> None:
    start, size, address = section(".rodata")
    at = start + 0x10
    [found] = diff(LIBRARY, patched(LIBRARY, at, at + 1, at + 100))
    assert (found.kind, found.where, found.a, found.b) == ("section", ".rodata", None, None)
    values = f"({LIBRARY[at]:02x} → {LIBRARY[at] ^ 0x55:02x})"
    assert found.note == f"3 of {size:,} bytes differ, the first at 0x10, address {address + 16:#x} {values}"


def symbol_offset(name: str, path: Path, table: str) -> int:
    """Where a function's code is in the file."""
    with open(path, "rb") as stream:
        elf: Any = ELFFile(stream)
        [found] = elf.get_section_by_name(table).get_symbol_by_name(name)
        return int(next(elf.address_offsets(found["st_value"])))


def test_a_byte_of_a_function() -> None:
    at = symbol_offset("hello_wrapper", AMD64, ".dynsym")
    [found] = diff(LIBRARY, patched(LIBRARY, at + 3))
    assert found.where == ".text"
    assert found.note.endswith(", in hello_wrapper")
    other = symbol_offset("Pg_magic_func", AMD64, ".dynsym")
    [found] = diff(LIBRARY, patched(LIBRARY, at, other, other + 5))
    assert set(found.note.rpartition(", in ")[2].split(", ")) == {"hello_wrapper", "Pg_magic_func"}
    [found] = diff(LIBRARY, patched(LIBRARY, section(".text")[0]))
    assert ", in " not in found.note


def test_a_byte_of_a_local_function() -> None:
    """Named by `.symtab` alone."""
    with open(MODULES / "debug.so", "rb") as stream:
        elf: Any = ELFFile(stream)
        names = [
            item.name
            for item in elf.get_section_by_name(".symtab").iter_symbols()
            if item["st_info"]["type"] == "STT_FUNC" and item["st_info"]["bind"] == "STB_LOCAL" and item["st_size"]
        ]
    for name in names:
        at = symbol_offset(name, MODULES / "debug.so", ".symtab")
        [found] = diff(DEBUG, patched(DEBUG, at))
        assert found.note.endswith(f", in {name}")


def test_the_build_id_alone() -> None:
    start, size, _ = section(".note.gnu.build-id")
    changed = patched(LIBRARY, start + size - 1)
    [found] = diff(LIBRARY, changed)
    assert found == Difference(
        kind="build ID",
        a=LIBRARY[start + 16 : start + 36].hex(),
        b=changed[start + 16 : start + 36].hex(),
    )
    assert noted(LIBRARY, changed) == SAME
    at, _, _ = section(".comment")
    found, other = diff(LIBRARY, patched(changed, at))
    assert (found.kind, other.where) == ("build ID", ".comment")
    assert noted(LIBRARY, patched(changed, at)) == SAME
    # Not with a byte of data, nor with one that no section holds, nor with another entry point.
    at, _, _ = section(".data")
    assert len(diff(LIBRARY, patched(changed, at))) == 2
    assert not noted(LIBRARY, patched(changed, at))
    assert not noted(LIBRARY, patched(changed, 24))


def test_padding_that_is_loaded() -> None:
    start, size, _ = section(".fini")
    gap = start + size
    end = min(section(name)[0] for name in (".rodata", ".pgrxsc"))
    assert gap < end
    [found] = diff(LIBRARY, patched(LIBRARY, gap))
    assert (found.kind, found.where) == ("padding", f"at {gap:#x} of the file")
    assert found.note.startswith(f"1 of {end - gap:,} bytes differs")
    assert not noted(LIBRARY, patched(LIBRARY, gap))


def test_headers() -> None:
    [found] = diff(LIBRARY, patched(LIBRARY, 24))
    assert (found.kind, found.where) == ("elf header", "ELF header")
    [found] = diff(LIBRARY, patched(LIBRARY, 64 + 4))
    assert (found.kind, found.where) == ("elf header", "program headers")


def test_another_machine_ends_it() -> None:
    found, note = elf_differences(LIBRARY, ARM64.read_bytes(), where="x.so")
    assert brief(found) == [("elf header", "machine", "X86_64", "AARCH64")]
    assert note == "everything in it differs: it is for another machine"


def test_a_longer_file() -> None:
    [found] = diff(LIBRARY, LIBRARY + b"more")
    assert (found.kind, found.where) == ("padding", "end of the file")
    assert (found.a, found.b) == (f"{len(LIBRARY):,} bytes", f"{len(LIBRARY) + 4:,} bytes")


def test_a_symbol_more() -> None:
    found = brief(diff(module("good"), module("libm")))
    assert ("symbol", "pow", None, "imported") in found
    assert ("symbol", "m_answer", "6 bytes", "43 bytes") in found
    assert found[0] == ("symbol", "pow", None, "imported")
    assert next(item for item in found if item[0] == "section") == ("section", ".text", "230 bytes", "267 bytes")
    assert ("symbol", "pow", "imported", None) in brief(diff(module("libm"), module("good")))
    kinds = [kind for kind, *_ in found]
    assert kinds.index("symbol") < [where for _, where, *_ in found].index(".dynsym")


def test_an_export() -> None:
    found = brief(diff(module("undefined"), module("definer")))
    symbols = [item for item in found if item[0] == "symbol"]
    assert any("exported" in (b or "") and a != b for _, _, a, b in symbols)


def test_dynamic_facts() -> None:
    assert ("dynamic", "runpath", None, "/home/build/lib") in brief(diff(module("good"), module("runpath")))
    assert ("dynamic", "runpath", None, "$ORIGIN") in brief(diff(module("needed"), module("origin")))
    assert ("dynamic", "needed", None, "libhelper.so.1") in brief(diff(module("good"), module("needed")))
    assert ("elf header", "executable stack", "no", "yes") in brief(diff(module("good"), module("stack")))
    assert ("dynamic", "text relocations", "no", "yes") in brief(diff(module("good"), module("textrel")))
    found = brief(diff(LIBRARY, module("good")))
    assert ("dynamic", "symbol version needed", "GLIBC_2.14 of libc.so.6", None) in found


def test_debug_sections_alone() -> None:
    for one, other in ((module("good"), DEBUG), (DEBUG, module("good"))):
        [found] = [item for item in diff(one, other) if item.kind != "build ID"]
        assert found.kind == "debug data"
        assert {found.a, found.b} == {None, "6 debug sections, .symtab"}
        assert found.note == ("stripped" if found.b is None else "")
        assert noted(one, other) == SAME


def test_symbols_of_the_symbol_table() -> None:
    start, size, _ = section(".strtab", MODULES / "debug.so")
    names = DEBUG[start : start + size]
    at = start + names.index(b"m_answer")
    changed = DEBUG[:at] + b"m_ANSWER" + DEBUG[at + 8 :]
    found = [item for item in diff(DEBUG, changed) if item.kind == "symbol"]
    assert brief(tuple(found)) == [
        ("symbol", "pg_finfo_m_ANSWER", None, "not exported"),
        ("symbol", "m_ANSWER", None, "not exported"),
    ]
    assert noted(DEBUG, changed) == SAME


def test_many_differences_are_counted() -> None:
    found = diff(LIBRARY, module("good"))
    sections = [item for item in found if item.kind == "section"]
    assert len(sections) == 13
    assert sections[-1].note.startswith("and ")
    assert sections[-1].note.endswith(" more")
    assert sections[0].where == ".text"
    symbols = [item for item in found if item.kind == "symbol"]
    assert any(re.fullmatch(r"and \d+ more", item.note) for item in symbols)


def without_sections(data: bytes) -> bytes:
    changed = bytearray(data)
    struct.pack_into("<Q", changed, 40, 0)
    struct.pack_into("<2H", changed, 60, 0, 0)
    return bytes(changed)


def test_without_sections_by_segments() -> None:
    start, _, address = section(".text")
    bare = without_sections(LIBRARY)
    [found] = diff(bare, patched(bare, start))
    assert (found.kind, found.where) == ("segment", "LOAD #2")
    assert f"address {address:#x}" in found.note
    assert brief(diff(LIBRARY, bare))[0] == ("elf header", "sections", "there", "none")
    at, size, _ = section(".comment")
    [found] = diff(bare, patched(bare, at + size - 1))
    assert found.kind == "padding"
    assert noted(bare, patched(bare, at + size - 1)) == SAME


def names_table(data: bytes, path: Path = AMD64) -> tuple[int, bytes]:
    start, size, _ = section(".shstrtab", path)
    return start, data[start : start + size]


def test_hostile_names() -> None:
    start, table = names_table(LIBRARY)
    at = start + table.index(b".rodata")
    odd = LIBRARY[:at] + b".ro\xff\x1bta" + LIBRARY[at + 7 :]
    rodata, _, _ = section(".rodata")
    [found] = diff(odd, patched(odd, rodata))
    assert found.where == ".ro\\xff\x1bta"
    # All called the same: numbered.
    same = LIBRARY[:start] + b"." + b"a" * (len(table) - 2) + b"\0" + LIBRARY[start + len(table) :]
    [found] = diff(same, patched(same, rodata))
    assert found.where.startswith("a")
    assert len(found.where) < 250
    raw = bytearray(LIBRARY)
    [table_at] = struct.unpack_from("<Q", raw, 40)
    [count] = struct.unpack_from("<H", raw, 60)
    for number in range(count):
        struct.pack_into("<I", raw, table_at + 64 * number, 1)
    [found] = diff(bytes(raw), patched(bytes(raw), rodata))
    assert " #" in found.where
    # No names at all.
    nameless = bytearray(LIBRARY)
    struct.pack_into("<H", nameless, 62, 0)
    [found] = diff(bytes(nameless), patched(bytes(nameless), rodata))
    assert found.where.startswith("section ")


def test_sections_that_overlap_are_compared_no_more_than_a_few_times() -> None:
    """60,000 sections that are each the whole file."""
    size = 4 * 1024 * 1024
    head = bytearray(LIBRARY[:64])
    struct.pack_into("<Q", head, 40, size)
    struct.pack_into("<H", head, 56, 0)
    struct.pack_into("<2H", head, 60, 60_000, 0)
    row = struct.pack("<2I4Q2I2Q", 0, 1, 0, 0, 0, size, 0, 0, 1, 0)
    data = bytes(head) + random.Random(1).randbytes(size - 64) + row * 60_000
    found = diff(data, patched(data, 1000))
    assert found[0].kind == "section"
    assert len(found) <= 20


def test_what_is_not_comparable() -> None:
    for other in (b"", b"\x7fELF", LIBRARY[:50], LIBRARY[:2000], b"MZ" + LIBRARY[2:]):
        assert diff(LIBRARY, other) == ()
        assert diff(other, LIBRARY) == ()


def test_a_damaged_dynamic_section_leaves_the_rest() -> None:
    at, _, _ = section(".dynamic")
    broken = LIBRARY[:at] + b"\x01" + bytes(7) + b"\xff" * 8 + LIBRARY[at + 16 :]
    rodata, _, _ = section(".rodata")
    assert [item.where for item in diff(LIBRARY, patched(broken, rodata))] == [".rodata", ".dynamic"]


def test_maps_and_views(tmp_path: Path) -> None:
    changed = patched(LIBRARY, section(".rodata")[0])
    wanted = elf_differences(LIBRARY, changed, where="x")
    assert wanted == elf_differences(memoryview(LIBRARY), memoryview(changed), where="x")
    assert wanted == elf_differences(memoryview(LIBRARY).cast("c"), changed, where="x")  # type: ignore[arg-type]
    (tmp_path / "b").write_bytes(changed)
    with open(AMD64, "rb") as one, open(tmp_path / "b", "rb") as other:
        a, b = (mmap.mmap(item.fileno(), 0, access=mmap.ACCESS_READ) for item in (one, other))
        assert elf_differences(a, b, where="x") == wanted
        # Nothing holds on to them.
        a.close()
        b.close()


def test_a_section_that_grew(tmp_path: Path) -> None:
    objcopy = shutil.which("objcopy") or missing("needs objcopy: apt-get install binutils")
    (tmp_path / "a").write_bytes(LIBRARY)
    (tmp_path / "note").write_bytes(b"GCC: (Debian) another\0")
    command: list[str | Path] = [
        objcopy,
        "--update-section",
        f".comment={tmp_path / 'note'}",
        tmp_path / "a",
        tmp_path / "b",
    ]
    subprocess.run(command, check=True, capture_output=True)
    found = diff(LIBRARY, (tmp_path / "b").read_bytes())
    comment = next(item for item in found if item.where == ".comment")
    assert (comment.a, comment.b) == (f"{section('.comment')[1]:,} bytes", "22 bytes")


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=0, max_size=400), st.binary(min_size=0, max_size=400), st.integers(0, 3))
def test_spans_agree_with_a_loop(a: bytes, b: bytes, pad: int) -> None:
    size = min(len(a), len(b))
    found = compare_spans(bytes(pad) + a, pad, b, 0, size)
    places = [at for at in range(size) if a[at] != b[at]]
    if not places:
        assert found is None
        return
    assert found is not None
    assert (found.first, found.count, found.more) == (places[0], len(places), False)
    assert [at for start, end in found.runs for at in range(start, end)] == places
    assert found.values == (a[places[0]], b[places[0]])


def test_spans_of_several_chunks() -> None:
    a = random.Random(2).randbytes(1_000_000)
    found = compare_spans(a, 0, patched(a, 300_000, 999_999), 0, len(a))
    assert found is not None
    assert (found.first, found.count, found.runs) == (300_000, 2, ((300_000, 300_001), (999_999, 1_000_000)))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([DEBUG, module("good"), LIBRARY]), st.data())
def test_any_mutation_is_told_without_an_error(data: bytes, draw: st.DataObject) -> None:
    [table] = struct.unpack_from("<Q", data, 40)
    places = st.one_of(
        st.integers(0, len(data) - 1), st.integers(0, 1000), st.integers(table, len(data) - 1), st.integers(0, 9000)
    )
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 6))):
        at = draw.draw(places)
        new = draw.draw(st.binary(min_size=1, max_size=8))
        changed[at : at + len(new)] = new
    other = bytes(changed)[: draw.draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))]
    for one, two in ((data, other), (other, data), (other, other), (module("libm"), other)):
        found = diff(one, two)
        assert len(found) < 200
        assert str([item.to_dict() for item in found])
        for item in found:
            item.note.encode()
            item.where.encode()


def test_a_table_of_sections_that_are_none() -> None:
    changed = bytearray(LIBRARY)
    [table] = struct.unpack_from("<Q", changed, 40)
    [count] = struct.unpack_from("<H", changed, 60)
    changed[table : table + 64 * count] = bytes(64 * count)
    for one, two in ((LIBRARY, bytes(changed)), (bytes(changed), LIBRARY)):
        assert [item for item in diff(one, two) if item.kind == "section"][-1].note == f"and {count - 13} more"
