"""Damaged shared objects: whatever is wrong with them is one kind of error."""

from __future__ import annotations

import contextlib
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocibuild.elf import SharedObject, read_shared_object
from ocibuild.errors import ElfError
from tests.property.fuzz import tables
from tests.support.tools import TREES
from tests.unit.test_elf import FULL, without_sections

LIBRARIES = [(tree / "usr/lib/postgresql/18/lib/pgrx_hello.so").read_bytes() for tree in TREES]
MADE = [FULL.write(), without_sections(LIBRARIES[0])]
ODD = st.one_of(
    st.sampled_from([0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31, 2**32 - 1, 2**63, 2**64 - 1]),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**16),
)


@cache
def spots(number: int) -> list[range]:
    return tables(LIBRARIES[number])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real library with words of its tables replaced by others, and perhaps cut."""
    number = draw(st.integers(0, len(LIBRARIES) - 1))
    data = bytearray(LIBRARIES[number])
    for _ in range(draw(st.integers(1, 8))):
        spot = draw(st.sampled_from(spots(number)))
        width = draw(st.sampled_from([1, 2, 4, 8]))
        at = spot.start + draw(st.integers(0, max(len(spot) // width - 1, 0))) * width
        data[at : at + width] = (draw(ODD) % 256**width).to_bytes(width, "little")
    if draw(st.integers(0, 9)) == 0:
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


def only_elf_error(data: bytes) -> None:
    with contextlib.suppress(ElfError):
        assert isinstance(read_shared_object(data), SharedObject)


@given(damaged())
def test_a_damaged_library(data: bytes) -> None:
    only_elf_error(data)


@pytest.mark.parametrize("data", MADE, ids=["made", "without sections"])
@given(edits=st.lists(st.tuples(st.integers(0, 2**20), st.sampled_from([1, 2, 4, 8]), ODD), max_size=8))
def test_a_damaged_head(data: bytes, edits: list[tuple[int, int, int]]) -> None:
    """The first kilobyte has the headers, and of a made file all the tables."""
    found = bytearray(data)
    for place, width, value in edits:
        at = place % 1024
        found[at : at + width] = (value % 256**width).to_bytes(width, "little")
    only_elf_error(bytes(found))


@given(st.binary(max_size=500))
def test_what_only_begins_like_one(rest: bytes) -> None:
    only_elf_error(b"\x7fELF" + rest)
    only_elf_error(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00\x01\x00\x00\x00" + rest)


@given(st.integers(0, len(LIBRARIES[0]) - 1))
def test_a_cut_library_is_always_found(size: int) -> None:
    """The section headers are its last bytes."""
    with pytest.raises(ElfError):
        read_shared_object(LIBRARIES[0][:size])
