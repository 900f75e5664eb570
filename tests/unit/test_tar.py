"""The bytes of a tar archive of format 1."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from ocibuild.errors import EntryError, UsageError
from ocibuild.layer import Directory, Entry, File, Symlink, plan, read_members, tar_chunks
from ocibuild.layer.tar import MTIME_LIMIT


def tar(*entries: Entry, mtime: int = 0) -> bytes:
    return b"".join(tar_chunks(plan(entries), mtime=mtime))


def members(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getmembers()


def test_one_file_to_the_byte() -> None:
    """Every field, written out by hand."""
    header = bytearray(512)
    header[0:5] = b"a.sql"
    header[100:108] = b"0000644\0"
    header[108:116] = b"0000000\0"
    header[116:124] = b"0000000\0"
    header[124:136] = b"00000000003\0"
    header[136:148] = b"00000000007\0"
    header[156:157] = b"0"
    header[257:265] = b"ustar\00000"
    header[329:337] = b"0000000\0"
    header[337:345] = b"0000000\0"
    checksum = sum(header) + 8 * 32
    header[148:156] = b"%06o\0 " % checksum
    expected = bytes(header) + b"abc".ljust(512, b"\0") + bytes(1024)
    assert tar(File(path="a.sql", content=b"abc"), mtime=7) == expected


def test_the_end_is_two_blocks_and_no_more() -> None:
    assert tar() == bytes(1024)
    assert len(tar(File(path="a", content=b""))) == 512 + 1024


def test_order_is_by_path_bytes_and_parents_come_first() -> None:
    data = tar(
        File(path="a/b", content=b""),
        File(path="a-b", content=b""),
        File(path="é", content=b""),
        File(path="Z", content=b""),
    )
    assert [item.name for item in members(data)] == ["Z", "a", "a-b", "a/b", "é"]


def test_directories_and_links() -> None:
    folder, link = members(tar(Directory(path="d", mode=0o700), Symlink(path="d/l", target="../x")))
    assert (folder.type, folder.mode, folder.isdir()) == (tarfile.DIRTYPE, 0o700, True)
    assert (link.type, link.mode, link.linkname) == (tarfile.SYMTYPE, 0o777, "../x")


def test_no_owner_names_and_no_times_but_one() -> None:
    [item] = members(tar(File(path="a", content=b""), mtime=1_700_000_000))
    assert (item.uid, item.gid, item.uname, item.gname, item.mtime) == (0, 0, "", "", 1_700_000_000)
    assert item.pax_headers == {}


@pytest.mark.parametrize(
    ("path", "pax"),
    [
        ("n" * 100, False),
        ("p" * 155 + "/" + "n" * 100, False),
        ("p" * 155 + "/" + "n" * 101, True),
        ("p" * 156 + "/" + "n" * 100, True),
        ("n" * 101, True),
        ("a/" * 60 + "n", False),
        ("é", True),
        ("\x7f", False),
        ("a\nb", False),
    ],
)
def test_a_pax_record_only_where_a_path_does_not_fit(path: str, pax: bool) -> None:
    data = tar(File(path=path, content=b"x"))
    assert members(data)[-1].name == path
    assert ([path] == [item.pax_headers.get("path") for item in members(data)[-1:]]) is pax
    assert [member.path for member, _ in read_members(io.BytesIO(data))][-1] == path


def test_the_prefix_is_as_short_as_it_can_be() -> None:
    path = "a/b/" + "n" * 97
    data = tar(File(path=path, content=b""))
    header = data[data.index(b"b/" + b"n" * 97) :]
    assert header[:99] == b"b/" + b"n" * 97
    assert header[345:347] == b"a\0"


def test_a_folder_with_its_slash_must_fit() -> None:
    name = "d" * 100
    assert members(tar(Directory(path=name)))[0].pax_headers == {"path": name + "/"}


def test_long_and_foreign_link_targets() -> None:
    for target in ("t" * 100, "t" * 101, "é"):
        [item] = members(tar(Symlink(path="l", target=target)))
        assert item.linkname == target
        assert ("linkpath" in item.pax_headers) is (target != "t" * 100)


def test_a_pax_record_counts_its_own_length() -> None:
    for length in range(85, 105):
        path = "é" + "x" * length
        assert members(tar(File(path=path, content=b"")))[0].name == path


def test_a_size_over_eight_gigabytes_goes_to_a_pax_record(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with open(sparse, "wb") as stream:
        stream.truncate(8 * 1024**3)
    chunks = tar_chunks(plan([File(path="big", content=sparse)]))
    start = next(chunks)
    assert b"19 size=8589934592\n" in start
    assert start[1024 + 124 : 1024 + 136] == b"00000000000\0"
    [(member, _)] = [next(read_members(io.BytesIO(start + bytes(512))))]
    assert member.size == 8 * 1024**3


def test_times_that_do_not_fit() -> None:
    for time in (-1, MTIME_LIMIT + 1):
        with pytest.raises(UsageError, match="whole seconds"):
            tar(mtime=time)
    assert members(tar(File(path="a", content=b""), mtime=MTIME_LIMIT))[0].mtime == MTIME_LIMIT


def test_a_file_that_grows_or_shrinks_is_found(tmp_path: Path) -> None:
    path = tmp_path / "f"
    for size in (2, 4):
        path.write_bytes(b"abc")
        entry = File(path="f", content=path)
        path.write_bytes(b"x" * size)
        with pytest.raises(EntryError, match="size changed"):
            tar(entry)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    entry = File(path="f", content=path)
    path.unlink()
    with pytest.raises(EntryError, match="cannot be read"):
        tar(entry)


def test_contents_from_memory_and_from_a_file_are_the_same_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "f").write_bytes(data)
    one, two = (hashlib.sha256(tar(File(path="f", content=c))).hexdigest() for c in (data, tmp_path / "f"))
    assert one == two
