"""What layers say that runtimes read otherwise than a careless reader, and trees that are made to take long."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from ocibuild import applied
from ocibuild.contents import Placed, file_tree, place_members, read_layers
from ocibuild.errors import LayerError
from ocibuild.layer import Member, read_members
from ocibuild.store import Artifact
from ocibuild.unpack import unpack
from tests.unit.test_hostile import bounded
from tests.unit.test_other_commands import FOLDER, HARD, LINK, NEXT, foreign, item


def record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    size = next(size for size in range(100) if size == len(body) + len(str(size)))
    return b"%d" % size + body


def extended(data: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    header = item("header", kind)
    header.size = len(data)
    return header.tobuf() + data + bytes(-len(data) % 512)


def read(*parts: bytes) -> list[Member]:
    return [member for member, _ in read_members(io.BytesIO(b"".join(parts) + bytes(1024)))]


def placed(image: Artifact, *, root: bool = False) -> dict[str, Placed]:
    return place_members(((layer, number, member) for layer, number, member, _ in read_layers(image)), root=root)


# Headers


def test_owners_in_pax_headers() -> None:
    plain = item("f").tobuf()
    both = record("uid", "3000000") + record("gid", "7")
    first, second = read(extended(both), plain, plain)
    assert (first.uid, first.gid, second.uid, second.gid) == (3_000_000, 7, 0, 0)
    [empty] = read(extended(record("uid", "5") + record("uid", "")), plain)
    assert empty.uid == 0
    with pytest.raises(LayerError, match="pax uid '-1'"):
        read(extended(record("uid", "-1")), plain)


def test_owners_for_all_members_are_ignored_as_runtimes_do() -> None:
    [member] = read(extended(record("uid", "5"), tarfile.XGLTYPE), item("f").tobuf())
    assert member.uid == 0


def test_the_last_pax_header_counts_alone() -> None:
    """Go's reader does not join two of them, and takes a GNU name before a pax one."""
    plain = item("f").tobuf()
    assert [found.path for found in read(extended(record("path", "a")), extended(record("uid", "1")), plain)] == ["f"]
    long = extended(b"long\0", tarfile.GNUTYPE_LONGNAME)
    assert [found.path for found in read(long, extended(record("path", "a")), plain)] == ["long"]


def test_many_headers_before_one_member() -> None:
    one = extended(record("comment", "x"))
    assert len(read(one * 64, item("f").tobuf(), one * 64, item("g").tobuf())) == 2
    with pytest.raises(LayerError, match="65 before one member"):
        read(one * 65, item("f").tobuf())


def test_the_numbers_of_devices() -> None:
    null = item("null", tarfile.CHRTYPE)
    null.devmajor, null.devminor = 1, 3
    assert [found.device for found in read(null.tobuf(), item("f").tobuf())] == [(1, 3), None]


# Links and devices


def test_a_hard_link_sets_the_mode_and_owner_of_its_file(tmp_path: Path) -> None:
    link = item("b", HARD, "a", mode=0o4755)
    link.uid = 7
    image = foreign((item("a"), b"xyz"), (item("other"), b""), link)
    tree = placed(image)
    assert {path: (found.member.mode, found.member.uid, found.member.kind) for path, found in tree.items()} == {
        "a": (0o4755, 7, "file"), "b": (0o4755, 7, "file"), "other": (0o644, 0, "file"),
    }  # fmt: skip
    assert {(found.content, found.headers, found.member.size) for path, found in tree.items() if path != "other"} == {
        ((0, 0), (0, 2), 3)
    }
    assert tree["b"].member.path == "b"
    unpack(image, tmp_path / "out")
    assert (tmp_path / "out/a").stat().st_mode & 0o7777 == 0o755


def test_what_images_may_hold_is_placed_and_not_unpacked(tmp_path: Path) -> None:
    for members, kinds in (
        ((item("l", LINK, "x"), item("h", HARD, "l")), {"l": ("symlink", "x"), "h": ("symlink", "x")}),
        ((item("p", tarfile.FIFOTYPE), item("h", HARD, "p")), {"p": ("fifo", ""), "h": ("fifo", "")}),
        ((item("c", tarfile.CHRTYPE), item("b", tarfile.BLKTYPE)), {"c": ("char", ""), "b": ("block", "")}),
    ):
        image = foreign(*members)
        assert {path: (found.member.kind, found.member.link) for path, found in placed(image).items()} == kinds
        for use in (file_tree, lambda image: unpack(image, tmp_path / "out")):
            with pytest.raises(LayerError, match=r"no file before it|device or pipe"):
                use(image)
    with pytest.raises(LayerError, match="no file before it"):
        placed(foreign(item("d", FOLDER), item("h", HARD, "d")))


def test_the_root_is_kept_for_who_wants_it() -> None:
    image = foreign(item("./", FOLDER, mode=0o700), (item("./a"), b""), NEXT, item("./", FOLDER, mode=0o711))
    assert list(file_tree(image)) == list(placed(image)) == ["a"]
    assert [(path, found.member.mode) for path, found in placed(image, root=True).items()] == [
        ("", 0o711),
        ("a", 0o644),
    ]
    assert list(placed(foreign((item("a"), b"")), root=True)) == ["a"]


# Time and memory


def member(path: str, kind: str = "file", link: str = "") -> Member:
    return Member(path=path, kind=kind, size=0, mode=0, mtime=0, uid=0, gid=0, uname="", gname="", link=link)


def test_deep_folders_do_not_fill_memory() -> None:
    members = ((0, number, member(f"{number}/" + "a/" * 2000 + "x")) for number in range(1000))
    tracemalloc.start()
    try:
        with pytest.raises(LayerError, match="paths too deep"):
            place_members(members)
        assert tracemalloc.get_traced_memory()[1] < 300 << 20
    finally:
        tracemalloc.stop()


def test_long_names_do_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applied, "_NAMES_LIMIT", 1 << 20)
    for path, kind, link in (("l", "symlink", "n" * 4000), ("./" * 2000, "file", "")):
        with pytest.raises(LayerError, match="bytes of paths"):
            place_members((0, number, member(f"{path}{number}", kind, link)) for number in range(300))


@pytest.mark.parametrize("step", ["b/../", "./"])
def test_many_members_behind_many_links(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applied, "_WORK_LIMIT", 16 << 20)
    long = step * (4000 // len(step))
    links = [member(f"l{number}", "symlink", f"{long}l{number + 1}") for number in range(39)]
    through = [part for number in range(20_000) for part in (member("s", "symlink", "a"), member(f"l0/f{number}"))]
    with bounded(), pytest.raises(LayerError, match="too many symbolic links"):
        place_members((0, number, item) for number, item in enumerate([*links, *through]))


def test_honest_links_are_followed() -> None:
    """Each member through a link, each followed by a new link."""
    through = [
        part
        for number in range(40_000)
        for part in (member(f"lib/f{number}"), member(f"bin/l{number}", "symlink", "x"))
    ]
    members = [member("usr/lib", "directory"), member("lib", "symlink", "usr/lib"), *through]
    with bounded():
        assert len(place_members((0, number, item) for number, item in enumerate(members))) == 80_002


@pytest.mark.parametrize(
    "marks", [["d/.wh..wh..opq"], [".wh.d"], ["d/" + "e/" * depth + ".wh..wh..opq" for depth in range(200, 0, -1)]]
)
def test_many_marks_in_one_layer(marks: list[str]) -> None:
    files = [member("d/" + "e/" * 200 + f"f{number}") for number in range(20_000)]
    lower = [(0, number, member(f"d/old{number}")) for number in range(10)]
    upper = [(1, number, item) for number, item in enumerate(files + [member(path) for path in marks] * 2000)]
    with bounded():
        assert len(place_members([*lower, *upper[: len(files) + 2000]])) >= 20_000


def test_marks_hide_lower_layers_only_however_often() -> None:
    tree = place_members(
        [
            (0, 0, member("d/e/old")), (0, 1, member("d/old")),
            (1, 0, member("d/e/new")), (1, 1, member("d/.wh..wh..opq")), (1, 2, member("d/.wh..wh..opq")),
            (2, 0, member("d/e/newer")), (2, 1, member("d/e/.wh..wh..opq")),
        ]
    )  # fmt: skip
    assert list(tree) == ["d/e/newer"]


def test_the_limits_leave_room_for_large_images() -> None:
    """Half a million files under paths of 150 bytes."""
    assert applied._NAMES_LIMIT > 500_000 * (applied._NAME_COST + 150)
