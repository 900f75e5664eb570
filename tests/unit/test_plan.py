"""What has a place in a layer."""

from __future__ import annotations

import pytest

from ocibuild.errors import EntryError
from ocibuild.layer import Directory, Entry, File, Symlink, plan
from ocibuild.layer.plan import check_targets, resolve


def file(path: str, mode: int = 0o644) -> File:
    return File(path=path, content=b"", mode=mode)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([file("/etc/passwd")], "absolute"),
        ([file("../x")], "'..'"),
        ([file("a/../b")], "'..'"),
        ([file("a/./b")], "'.'"),
        ([file("a//b")], "empty"),
        ([file("a/")], "empty"),
        ([file("")], "empty"),
        ([file("a\0b")], "NUL"),
        ([file("\udcff")], "not UTF-8"),
        ([file("a/.wh.b")], ".wh."),
        ([file(".wh..wh..opq")], ".wh."),
        ([file("x" * 256)], "too long"),
        ([file("/".join("x" * 255 for _ in range(17)))], "too long"),
        ([file("a"), file("a")], "two entries"),
        ([file("a"), Directory(path="a")], "two entries"),
        ([file("a"), file("a/b")], "entries below"),
        ([Symlink(path="a", target="b"), file("a/b")], "entries below"),
        ([file("a", 0o4755)], "set-id"),
        ([file("a", 0o2755)], "set-id"),
        ([Directory(path="a", mode=0o1777)], "sticky"),
        ([Symlink(path="a", target="/etc")], "absolute path"),
        ([Symlink(path="a", target="..")], "leaves the root"),
        ([Symlink(path="d/a", target="../../x")], "leaves the root"),
        ([Symlink(path="a", target="")], "symbolic link to ''"),
        ([Symlink(path="a", target="a\0")], "symbolic link"),
        ([Symlink(path="a", target="\udcff")], "not UTF-8"),
        ([Symlink(path="a", target="a")], "leaves the root"),
        # Lexically inside, but the first link climbs before the dots do.
        ([Symlink(path="x/y/up", target="../.."), Symlink(path="l", target="x/y/up/..")], "leaves the root"),
    ],
)
def test_refused(entries: list[Entry], words: str) -> None:
    with pytest.raises(EntryError) as error:
        plan(entries)
    assert words in str(error.value)


def test_links_inside_are_kept() -> None:
    entries = plan(
        [Symlink(path="lib/a.so", target="a.so.1"), file("lib/a.so.1"), Symlink(path="b", target="lib/../lib")]
    )
    assert [entry.path for entry in entries] == ["b", "lib", "lib/a.so", "lib/a.so.1"]
    check_targets(entries)


def test_a_link_to_nothing() -> None:
    entries = plan([Symlink(path="a", target="b")])
    with pytest.raises(EntryError, match="not in the image"):
        check_targets(entries)


def test_an_explicit_parent_keeps_its_mode() -> None:
    folder, _ = plan([file("d/x"), Directory(path="d", mode=0o700)])
    assert folder == Directory(path="d", mode=0o700)


def test_resolving_follows_links_and_stays_inside() -> None:
    tree: dict[str, Entry] = {"a": Symlink(path="a", target="b/c"), "b/c/l": Symlink(path="b/c/l", target="../x")}
    assert resolve("a/l", tree) == "b/x"
    assert resolve("..", tree) is None
    assert resolve("", tree) == ""
    assert resolve("a/..", tree) == "b"
