"""Two implementations of format 1 write the same bytes (`python -m tests.property.oracle` is the whole campaign)."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocibuild import MemoryStore
from ocibuild.layer import Directory, Entry, File, Symlink, build_layer, plan, tar_chunks
from tests.property.oracle import CREATED, TARGETS, Case, built, campaign, difference, entries_of, make_case, misread
from tests.support import oracle
from tests.support.oracle import MIB, BrokenError, Node, file, folder, link
from tests.support.oracle_documents import Json, canonical
from tests.support.tools import missing
from tests.support.trees import trees

GIB = 1024 * MIB
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
MAPS = st.dictionaries(TEXTS, TEXTS, max_size=4)


def nodes(entries: list[Entry]) -> dict[str, Node]:
    found = {}
    for entry in entries:
        match entry:
            case File(path=path, content=bytes(content), mode=mode):
                found[path] = file(content, mode)
            case Directory(path=path, mode=mode):
                found[path] = folder(mode)
            case Symlink(path=path, target=target):
                found[path] = link(target)
    assert len(found) == len(entries)
    return found


def has_no_circle(entries: list[Entry]) -> bool:
    """Whether no link leads to a link: trees are drawn without regard to circles, which a layer must not have."""
    links = {entry.path: entry.target for entry in entries if isinstance(entry, Symlink)}
    return not any(os.path.join(os.path.dirname(path), target) in links for path, target in links.items())


CASES = st.builds(
    Case,
    seed=st.just(-1),
    tree=trees().filter(has_no_circle).map(nodes),
    mtime=st.integers(0, 8**11 - 1),
    compressions=st.permutations(["none", "gzip", "zstd"]).map(tuple),
    targets=st.lists(st.sampled_from(TARGETS), unique_by=lambda target: target.text(), max_size=3).map(tuple),
    labels=MAPS,
    annotations=MAPS,
    user=TEXTS,
    created=st.sampled_from(CREATED),
    tags=st.just(()),
)


@given(CASES)
@settings(max_examples=100, deadline=None)
def test_both_write_the_same_bytes(case: Case) -> None:
    assert difference(case, built(case)) == ""
    assert misread(case) == ""


def test_a_sample_of_the_campaign() -> None:
    problems, seen = campaign(60, 1)
    assert not problems, "\n".join(problems)
    assert min(seen[kind] for kind in ("prefixes", "pax headers", "images", "layouts")) > 2


@pytest.mark.parametrize(
    ("size", "rest"), [(MIB - 1536, 0), (MIB - 1535, 512), (MIB - 1024, 512), (2 * MIB - 1536, 0), (2 * MIB, 1536)]
)
def test_both_cut_members_at_the_same_bytes(size: int, rest: int) -> None:
    tree = {"x": file(b"0123456789abcde\n" * (size // 16) + b"x" * (size % 16))}
    case = replace(make_case(1), tree=tree, compressions=("none", "gzip", "zstd"))
    assert len(oracle.tar(tree, 0)) % MIB == rest
    assert difference(case, built(case)) == ""


@pytest.mark.parametrize("size", [8 * GIB - 1, 8 * GIB, 8 * GIB + 1, 64 * GIB])
@pytest.mark.parametrize("path", ["x", "é", "lib/" + "y" * 101])
def test_both_write_the_header_of_a_huge_file(size: int, path: str, tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    huge.touch()
    try:
        os.truncate(huge, size)  # it has no blocks: only its first bytes are read
    except OSError as error:
        missing(f"no sparse file of {size} bytes here: {error}")
    tree = {path: file(size=size)}
    wanted = b"".join(piece for part, piece in oracle.pieces(tree, 7) if part != "end") + bytes(MIB)
    entries = plan([File(path=path, content=huge, size=size)])
    found = b"".join(islice(tar_chunks(entries, mtime=7), 8))[: len(wanted)]
    assert found == wanted
    assert (b" size=%d\n" % size in found) == (size >= 8 * GIB)


@given(CASES, st.data())
@settings(max_examples=100, deadline=None)
def test_one_changed_byte_is_noticed(case: Case, data: st.DataObject) -> None:
    made = built(case)
    name = data.draw(st.sampled_from(sorted(made)))
    at = data.draw(st.integers(0, len(made[name]) - 1))
    changed = bytearray(made[name])
    changed[at] ^= data.draw(st.integers(1, 255))
    assert difference(case, {**made, name: bytes(changed)}).startswith(f"{name}: ")
    assert difference(case, {**made, name: made[name][:-1]}).startswith(f"{name}: ")
    assert difference(case, {**made, name: made[name] + b"\0"}).startswith(f"{name}: ")


def test_a_difference_names_its_field() -> None:
    case = replace(make_case(1), tree={"lib/x": file(b"content")}, mtime=0, compressions=("none",))
    made = built(case)
    archive = made["layer none"]
    for at, spot in ((512 + 100, "mode in header of 'lib/x'"), (1024 + 3, "byte 3 of content of 'lib/x'")):
        changed = archive[:at] + b"~" + archive[at + 1 :]
        assert f"first at {at} ({spot})" in difference(case, {**made, "layer none": changed})


def test_the_walk_of_members_finds_what_is_wrong() -> None:
    store = MemoryStore()
    layer = build_layer(entries_of({"x": file(b"ab" * MIB)}), into=store)
    with store.fetch(layer.descriptor) as content:
        blob = content.read()
    assert hashlib.sha256(oracle.gunzip(blob)).hexdigest() == layer.diff_id.removeprefix("sha256:")
    second = blob.index(oracle.GZIP_HEADER, 1)
    broken = {
        "no member": b"",
        "the header": b"\x1f\x8b\x08\x08" + blob[4:],
        "the trailer": blob[: second - 8] + b"\0" + blob[second - 7 :],
        "has no end": blob[: second - 9],
        "after one of": blob + blob,
        "invalid": blob[:10] + b"\xff" * 20 + blob[30:],
    }
    for said, data in broken.items():
        with pytest.raises(BrokenError, match=said):
            oracle.gunzip(data)


def test_keys_are_sorted_by_utf_16() -> None:
    value: dict[str, Json] = {"\ue000": 1, "\U0001f600": 2, "é": 'a"\\\b\x1f\x7f/\u2028', "e": [0, {}]}
    assert canonical(value).decode() == ('{"e":[0,{}],"é":"a\\"\\\\\\b\\u001f\x7f/\u2028","\U0001f600":2,"\ue000":1}')
    assert json.loads(canonical(value)) == value
