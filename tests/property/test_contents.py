"""The files of a stack of layers, against a slow and obvious reading of image-spec, layer.md."""

from __future__ import annotations

import itertools
import random

import msgspec
import pytest

from ocibuild.applied import AppliedTree, Placed
from ocibuild.contents import place_members
from ocibuild.errors import LayerError
from ocibuild.layer import Member

Stack = list[list[Member]]


def member(path: str, kind: str, link: str = "") -> Member:
    return Member(
        path=path, kind=kind, size=0, mode=0o644, mtime=0, uid=0, gid=0, uname="", gname="", link=link
    )  # fmt: skip


def stack(seed: int) -> Stack:
    """Few names, so that members meet; links have names of their own, so that no path leads through one."""
    chance = random.Random(seed)

    def path() -> str:
        return "/".join(chance.choice("abc") for _ in range(chance.choice((1, 1, 2, 2, 3))))

    def one() -> Member:
        kind = chance.choice(("file", "file", "directory", "symlink", "hardlink", "whiteout", "opaque"))
        if kind == "symlink":
            return member(f"{path()}/{chance.choice('xy')}", "symlink", "a")
        if kind == "hardlink":
            return member(path(), "hardlink", path())
        if kind == "whiteout":
            folder, _, name = path().rpartition("/")
            return member(f"{folder}/.wh.{name}".lstrip("/"), "file")
        if kind == "opaque":
            return member(f"{path()}/.wh..wh..opq", "file")
        return member(path(), kind)

    return [[one() for _ in range(chance.randrange(1, 6))] for _ in range(chance.randrange(1, 4))]


Files = dict[str, tuple[str, int, tuple[int, int]]]


def model(layers: Stack) -> dict[str, tuple[str, tuple[int, int]]] | None:
    """The kind and content of each path; None where a layer makes no sense."""
    files: Files = {}
    for number, layer in enumerate(layers):
        for count, item in enumerate(layer):
            folder, _, name = item.path.rpartition("/")
            if name.startswith(".wh."):
                hidden = folder if name == ".wh..wh..opq" else f"{folder}/{name[4:]}".lstrip("/")
                for path in list(files):
                    below = path.startswith(f"{hidden}/") or (path == hidden and name != ".wh..wh..opq")
                    if below and files[path][1] < number:
                        del files[path]
                continue
            parts = item.path.split("/")
            above = ["/".join(parts[:end]) for end in range(1, len(parts))]
            if any(path in files and files[path][0] != "directory" for path in above):
                return None
            kind, content = item.kind, (number, count)
            if kind == "hardlink":
                if item.link not in files or files[item.link][0] != "file":
                    return None
                kind, content = "file", files[item.link][2]
            if kind != "directory":
                for path in list(files):
                    if path.startswith(f"{item.path}/"):
                        del files[path]
            files[item.path] = (kind, number, content)
    return {path: (kind, content) for path, (kind, _, content) in files.items()}


def ours(layers: Stack) -> dict[str, tuple[str, tuple[int, int]]] | None:
    tree = AppliedTree(strict=True)
    try:
        for number, layer in enumerate(layers):
            for count, item in enumerate(layer):
                tree.apply(Placed(member=item, layer=number, content=(number, count), headers=(number, count)))
    except LayerError:
        return None
    return {path: (placed.member.kind, placed.content) for path, placed in tree.placed.items()}


@pytest.mark.parametrize("first", range(0, 20_000, 4_000))
def test_as_the_specification_says(first: int) -> None:
    understood = 0
    for seed in range(first, first + 4_000):
        layers = stack(seed)
        expected = model(layers)
        assert ours(layers) == expected, (
            f"seed {seed}: {[(item.path, item.kind, item.link) for part in layers for item in part]}"
        )
        understood += expected is not None
    assert understood > 800


def inodes(layers: Stack) -> dict[str, tuple[str, int, int]]:
    """As a runtime does it, member by member: the kind, mode and layer of each path; whiteouts are not looked at here."""
    files: dict[str, tuple[int, int]] = {}
    told: dict[tuple[int, int], tuple[str, int]] = {}
    for number, layer in enumerate(layers):
        for count, item in enumerate(layer):
            node, kind = (number, count), item.kind
            if kind == "hardlink":
                node = files[item.link]
                kind = told[node][0]
            told[node] = kind, item.mode
            files[item.path] = node
    return {path: (*told[node], node[0]) for path, node in files.items()}


@pytest.mark.parametrize("seed", range(300))
def test_hard_links_as_a_runtime_makes_them(seed: int) -> None:
    chance, modes = random.Random(seed), itertools.count()
    names: list[str] = []
    layers: Stack = []
    for _ in range(chance.randrange(1, 4)):
        layers.append([])
        for _ in range(chance.randrange(1, 8)):
            name = chance.choice("abcdef")
            others = [other for other in names if other != name]
            kind = chance.choice(("file", "symlink", "char", "fifo", "hardlink", "hardlink")) if others else "file"
            link = chance.choice(others) if kind == "hardlink" else "to" if kind == "symlink" else ""
            layers[-1].append(msgspec.structs.replace(member(name, kind, link), mode=next(modes)))
            names.append(name)
    tree = place_members(
        (number, count, item) for number, layer in enumerate(layers) for count, item in enumerate(layer)
    )
    assert {path: (item.member.kind, item.member.mode, item.content[0]) for path, item in tree.items()} == inodes(
        layers
    )
    for item in tree.values():
        number, count = item.headers
        assert layers[number][count].mode == item.member.mode
