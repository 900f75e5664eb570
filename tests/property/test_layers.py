"""Any tree of entries goes to tar and back unchanged, and others read the same."""

from __future__ import annotations

import io
import tarfile

from hypothesis import given

from ocibuild import Compression, MemoryStore, build_layer
from ocibuild.contents import layer_members
from ocibuild.errors import EntryError
from ocibuild.layer import Directory, Entry, File, Symlink, plan, read_members, tar_chunks
from tests.support.trees import trees


def planned(entries: list[Entry]) -> tuple[Entry, ...] | None:
    """None where a link of the tree leaves the root or runs in a circle: refused, as it should be."""
    try:
        return plan(entries)
    except EntryError as error:
        assert "leaves the root" in str(error)
        return None


@given(trees())
def test_to_tar_and_back(entries: list[Entry]) -> None:
    if (tree := planned(entries)) is None:
        return
    data = b"".join(tar_chunks(tree, mtime=12345))
    assert len(data) % 512 == 0
    again: list[Entry] = []
    for member, content in read_members(io.BytesIO(data)):
        assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", 12345)
        if member.kind == "file":
            again.append(File(path=member.path, content=content.read(), mode=member.mode))
        elif member.kind == "directory":
            again.append(Directory(path=member.path, mode=member.mode))
        else:
            again.append(Symlink(path=member.path, target=member.link))
    assert tuple(again) == tree


@given(trees())
def test_python_reads_the_same(entries: list[Entry]) -> None:
    if (tree := planned(entries)) is None:
        return
    data = b"".join(tar_chunks(tree))
    with tarfile.open(fileobj=io.BytesIO(data), errors="strict") as archive:
        for entry, info in zip(tree, archive, strict=True):
            assert info.name == entry.path
            if isinstance(entry, File):
                content = archive.extractfile(info)
                assert content is not None
                assert content.read() == entry.content
            elif isinstance(entry, Symlink):
                assert info.linkname == entry.target
            else:
                assert info.isdir()


@given(trees())
def test_order_does_not_matter(entries: list[Entry]) -> None:
    if (tree := planned(entries)) is None:
        return
    digests = {
        build_layer(order, into=MemoryStore(), compression=Compression.NONE).diff_id
        for order in (entries, entries[::-1], sorted(entries, key=repr), list(tree))
    }
    assert len(digests) == 1


@given(trees())
def test_through_every_codec(entries: list[Entry]) -> None:
    if (tree := planned(entries)) is None:
        return
    for compression in Compression:
        store = MemoryStore()
        layer = build_layer(entries, into=store, compression=compression)
        paths = [member.path for member, _ in layer_members(store, layer.descriptor, layer.diff_id)]
        assert paths == [entry.path for entry in tree]
