"""`diff` on planted differences: the cause stands in the first lines, and `--semantic` knows what has an effect.

The table was written from the description of the command, not from its output.
"""

from __future__ import annotations

import io
import json
import random
import re
import sys
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ocibuild import File, LayoutStore, Platform, build_image, build_layer, copy, open_artifact, postgres
from ocibuild.describe import describe
from tests.benchmarks.large import watched
from tests.conftest import Result
from tests.support.planted import (
    AMD64,
    ARM64,
    BOTH,
    FIELDS,
    Change,
    Index,
    Member,
    add_file,
    add_link,
    both,
    change_config,
    change_index,
    change_manifest,
    change_member,
    content,
    drop_platform,
    elf_section,
    field,
    flip,
    load,
    packed,
    padded,
    pax,
    remove_file,
    rename,
    repack,
    reverse_layers,
    spaced,
    split_layers,
    swap_members,
    write,
)
from tests.support.tools import ROOT, TREES

Cli = Callable[..., Result]

MB = 1000 * 1000
FIRST = 5
"""The lines in which the cause must stand."""

SO = "lib/pgrx_hello.so"
SCRIPT = "share/extension/pgrx_hello--0.2.0.sql"
UPGRADE = "share/extension/pgrx_hello--0.1.0--0.2.0.sql"
NEXT = "share/extension/pgrx_hello--0.2.0--0.3.0.sql"
CONTROL = "share/extension/pgrx_hello.control"
LICENCE = "org.opencontainers.image.licenses"
LATER = b"%011o" % 1_700_000_000
MODULES = ROOT / "fixtures" / "modules"


def same(index: Index) -> Index:
    return index


def replaced(old: bytes, new: bytes) -> Callable[[Member], Member]:
    def change(data: bytes) -> bytes:
        assert data.count(old), old
        return data.replace(old, new, 1)

    return content(change)


def module(name: str) -> Callable[[Member], Member]:
    return content(lambda _: (MODULES / name).read_bytes())


@cache
def words() -> bytes:
    """Text of some MiB, so that a layer has more than one gzip member."""
    chance = random.Random(1)
    return b"\n".join(b"%x" % chance.getrandbits(64) for _ in range(70_000))


def labelled(config: dict[str, Any]) -> None:
    config["config"]["Labels"][LICENCE] = "MIT"


def wide(index: Index) -> Index:
    return add_file("share/words.txt", words(), AMD64)(index)


LINKED = add_link("lib/plugin.so", "first.so", AMD64)


class Row(NamedTuple):
    """What is planted, and what must be said of it.

    Attributes:
        plant: From A to B.
        moves: The digests that differ then: index, manifest, config, layer (the blob), diff (the archive).
        cause: What must stand in the first lines, upper and lower case alike; `a|b` is either of the two.
        semantic: Whether the two are equal in effect; None where one may argue.
        platforms: Those that differ; where it is one, it is named in the first lines and the other one never.
        values: The old and the new value, in this order, in the first lines.
        beyond: What must stand anywhere.
        base: From the fixture's image to A.
    """

    name: str
    plant: Change
    moves: str
    cause: tuple[str, ...] = ()
    semantic: bool | None = False
    platforms: tuple[str, ...] = AMD64
    values: tuple[str, str] | None = None
    beyond: tuple[str, ...] = ()
    base: Change = same


CONTENT = "index manifest config layer diff"
CODEC = "index manifest layer"
CONFIG = "index manifest config"
MANIFEST = "index manifest"

ROWS = (
    # Libraries
    Row("rodata", change_member(SO, flip(".rodata"), platforms=AMD64), CONTENT, (SO, ".rodata")),
    Row("rodata-arm64", change_member(SO, flip(".rodata"), platforms=ARM64), CONTENT, (SO, ".rodata"), platforms=ARM64),
    Row("text", change_member(SO, flip(".text"), platforms=AMD64), CONTENT, (SO, ".text")),
    Row(
        "build-id",
        change_member(SO, flip(".note.gnu.build-id", at=16 / 36, data=b"\xde\xad\xbe\xef"), platforms=AMD64),
        CONTENT, (SO, "build id|build-id"), values=("3424c96d", "deadbeef"),
    ),
    Row(
        "symbol", change_member(SO, module("definer.so"), platforms=AMD64), CONTENT,
        (SO, "nothing_has_this"), beyond=(".text", ".dynsym"),
        base=change_member(SO, module("good.so"), platforms=AMD64),
    ),
    Row(
        "comment-stripped", change_member(SO, flip(".comment", at=0, data=b"XCC"), platforms=AMD64), CONTENT,
        (SO, ".comment"),
    ),
    # Tar headers
    Row(
        "mode", change_member(SO, field("mode", b"0000755"), platforms=AMD64), CONTENT, (SO, "mode"),
        values=("0644", "0755"),
    ),
    Row(
        "mode-of-a-folder", change_member("lib/", field("mode", b"0000700"), platforms=AMD64), CONTENT,
        ("lib", "mode"), values=("0755", "0700"),
    ),
    Row(
        "mtime", change_member(SCRIPT, field("mtime", LATER), platforms=AMD64), CONTENT, (SCRIPT, "mtime"),
        semantic=True,
    ),
    Row("mtime-of-all", change_member("", field("mtime", LATER)), CONTENT, ("mtime",), True, BOTH),
    Row("uid", change_member(SO, field("uid", b"0023420"), platforms=AMD64), CONTENT, (SO, "uid", "10000")),
    Row("gid", change_member(SO, field("gid", b"0023420"), platforms=AMD64), CONTENT, (SO, "gid", "10000")),
    Row("uname-of-all", change_member("", field("uname", b"builder")), CONTENT, ("uname", "builder"), True, BOTH),
    Row("gname", change_member(SO, field("gname", b"staff"), platforms=AMD64), CONTENT, (SO, "gname", "staff"), True),
    Row("magic-of-all", change_member("", field("magic", b"ustar  ")), CONTENT, ("magic|format", "gnu|ustar  "), True, BOTH),
    Row(
        "pax-mtime", change_member(SCRIPT, pax("mtime", "0.25"), platforms=AMD64), CONTENT,
        (SCRIPT, "pax", "mtime", "0.25"), semantic=True,
    ),
    Row(
        "pax-xattr", change_member(SCRIPT, pax("SCHILY.xattr.user.x", "seven"), platforms=AMD64), CONTENT,
        (SCRIPT, "xattr", "user.x", "seven"),
    ),
    Row("order", swap_members(UPGRADE, CONTROL, platforms=AMD64), CONTENT, ("order",), True),
    Row("padding", padded(), CONTENT, ("padding|padded|zeros",), True, BOTH),
    # Layers and codecs
    Row(
        "layers-swapped", reverse_layers(), CONTENT, ("layer", "order"), True, BOTH, base=split_layers("share"),
    ),
    Row("layers-split", split_layers("share"), CONTENT, ("layer", "1", "2"), None, BOTH),
    Row("gzip-level", repack("gzip level 6", AMD64), CODEC, ("gzip|libdeflate", "level"), True, base=wide),
    Row("gzip-level-small", repack("gzip level 6", AMD64), CODEC, ("gzip|libdeflate", "level"), True),
    Row("zlib", repack("zlib level 9", AMD64), CODEC, ("gzip", "member"), True, base=wide),
    Row("zstd", repack("zstd", AMD64), CODEC, ("gzip", "zstd"), True, values=("gzip", "zstd")),
    Row("uncompressed", repack("none", AMD64), CODEC, ("gzip", "none|uncompressed|not compressed|plain"), True),
    Row("gzip-time", repack("gzip with a time", AMD64), CODEC, ("gzip", "time"), True),
    # Documents
    Row("label", change_config(labelled, ARM64), CONFIG, ("label", LICENCE), platforms=ARM64, values=("Apache-2.0", "MIT")),
    Row(
        "index-annotation", change_index(annotations={LICENCE: "MIT"}), "index", ("index", "annotation", LICENCE),
        platforms=BOTH, values=("Apache-2.0", "MIT"),
    ),
    Row(
        "created", change_config(lambda config: config.update(created="2026-01-02T03:04:05Z")), CONFIG,
        ("created", "2026-01-02T03:04:05Z"), True, BOTH,
    ),
    Row(
        "user", change_config(lambda config: config["config"].update(User="26:26"), AMD64), CONFIG, ("user",),
        values=("65532:65532", "26:26"),
    ),
    Row(
        "env", change_config(lambda config: config["config"].update(Env=["GREETING=hello"]), AMD64), CONFIG,
        ("env", "GREETING=hello"),
    ),
    Row("platform-missing", drop_platform("linux/arm64"), "index", ("linux/arm64",), platforms=BOTH),
    Row(
        "manifest-annotation", change_manifest(ARM64, annotations={LICENCE: "MIT"}), MANIFEST, ("annotation", LICENCE),
        platforms=ARM64, values=("Apache-2.0", "MIT"),
    ),
    Row(
        "descriptor-annotation", change_manifest(ARM64, described={"org.example.built.by": "runner"}), "index",
        ("annotation", "org.example.built.by", "runner"), platforms=ARM64,
    ),
    Row(
        "history", change_config(lambda config: config["history"][0].update(created_by="by hand"), AMD64), CONFIG,
        ("history",), True, values=("ocibuild", "by hand"),
    ),
    Row(
        "white-space", change_manifest(AMD64, encode=spaced), MANIFEST,
        ("manifest", "white|space|spelling|spelled|formatting|encoding|canonical|bytes|written"), True,
    ),
    Row("manifests-swapped", change_index(reverse=True), "index", ("order",), True, BOTH),
    Row("tag", change_index(tag="2"), "", (), True, BOTH),
    # Files
    Row("file-added", add_file(NEXT, b"select 1;\n", AMD64), CONTENT, (NEXT,)),
    Row("file-removed", remove_file(UPGRADE, AMD64), CONTENT, (UPGRADE,)),
    Row("file-renamed", change_member(UPGRADE, rename(NEXT), platforms=AMD64), CONTENT, (UPGRADE, NEXT)),
    Row(
        "script", change_member(SCRIPT, replaced(b"IMMUTABLE STRICT", b"VOLATILE STRICT"), platforms=AMD64), CONTENT,
        (SCRIPT,), beyond=("-IMMUTABLE STRICT PARALLEL SAFE", "+VOLATILE STRICT PARALLEL SAFE"),
    ),
    Row(
        "control",
        change_member(CONTROL, replaced(b"'0.2.0'\n", b"'0.3.0'\nschema = 'greetings'\n"), platforms=AMD64),
        CONTENT, (CONTROL, "default_version"), values=("0.2.0", "0.3.0"), beyond=("schema", "greetings"),
    ),
    Row(
        "link-retargeted", change_member("lib/plugin.so", field("link", b"second.so"), platforms=AMD64), CONTENT,
        ("lib/plugin.so",), values=("first.so", "second.so"), base=LINKED,
    ),
    Row(
        "file-to-link", add_link(UPGRADE, "pgrx_hello--0.2.0.sql", AMD64), CONTENT, (UPGRADE, "link", "file"),
    ),
    Row(
        "data-file", change_member("share/words.txt", content(lambda data: data[:-1] + b"\0"), platforms=AMD64), CONTENT,
        ("share/words.txt",), base=wide,
    ),
)  # fmt: skip

UNEQUAL = tuple(row for row in ROWS if row.moves)


class Pair(NamedTuple):
    a: Path
    b: Path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Index:
    path = tmp_path_factory.mktemp("base") / "layout"
    with LayoutStore(path) as layout:
        sources = [postgres.open_source(tree) for tree in TREES]
        image = postgres.build_extension(sources, into=layout, labels={"licenses": "Apache-2.0"})
        copy(image, layout, tags=["1"])
    index = load(path)
    again = write(index, path.parent / "again")
    # What is planted is all that differs.
    assert open_artifact(str(again)).digest == image.digest
    return index


Pairs = Callable[[Row], Pair]


@pytest.fixture(scope="module")
def pairs(base: Index, tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    """Each pair, made once."""
    folder = tmp_path_factory.mktemp("pairs")

    @cache
    def pair(row: Row) -> Pair:
        # No row's name in the paths: they may be in the output.
        place = folder / str(ROWS.index(row))
        a = row.base(base)
        return Pair(write(a, place / "a"), write(row.plant(a), place / "b"))

    return pair


each = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
each_unequal = pytest.mark.parametrize("row", UNEQUAL, ids=lambda row: row.name)


# The planting itself


def digests(layout: Path) -> dict[tuple[str, str], list[str]]:
    """What could differ, by platform and kind. Reading it verifies every blob and diff ID."""
    found = describe(open_artifact(str(layout)))
    parts = {("", "index"): [str(found.root.digest)]}
    for image in found.images:
        name = str(image.platform)
        parts[name, "manifest"] = [str(image.descriptor.digest)]
        parts[name, "config"] = [str(image.manifest.config.digest)]
        parts[name, "layer"] = [str(layer.descriptor.digest) for layer in image.layers]
        parts[name, "diff"] = [str(layer.diff_id) for layer in image.layers]
    return parts


@each
def test_what_is_planted_moves_the_digests_it_should(row: Row, pairs: Pairs) -> None:
    a, b = (digests(path) for path in pairs(row))
    if row.name == "platform-missing":
        assert a.keys() - b.keys() == {("linux/arm64", kind) for kind in ("manifest", "config", "layer", "diff")}
        a = {key: value for key, value in a.items() if key in b}
    assert a.keys() == b.keys()
    moved = {key for key in a if a[key] != b[key]}
    wanted = {("" if kind == "index" else name, kind) for name in row.platforms for kind in row.moves.split()}
    assert moved == wanted


@each
def test_other_readers_read_what_is_planted(row: Row, pairs: Pairs) -> None:
    for layout in pairs(row):
        for image in load_archives(layout):
            with tarfile.open(fileobj=io.BytesIO(image)) as archive:
                assert archive.getmembers()


def load_archives(layout: Path) -> list[bytes]:
    """Every archive of a layout that is compressed with gzip or not at all."""
    import gzip

    found = []
    for path in sorted((layout / "blobs/sha256").iterdir()):
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            found.append(gzip.decompress(data))
        elif data[257:262] == b"ustar":
            found.append(data)
    return found


@pytest.mark.parametrize(
    ("name", "changed"),
    [("mode", "mode"), ("mtime", "mtime"), ("uid", "uid"), ("gid", "gid"), ("uname-of-all", "uname"),
     ("magic-of-all", "magic"), ("gname", "gname"), ("link-retargeted", "link")],
)  # fmt: skip
def test_only_a_field_and_the_checksum_differ(base: Index, name: str, changed: str) -> None:
    row = next(row for row in ROWS if row.name == name)
    first = row.base(base)
    a, b = first.images[0].layers[0].archive, row.plant(first).images[0].layers[0].archive
    assert len(a) == len(b)
    spots = {at % 512 for at in range(len(a)) if a[at] != b[at]}
    start, length = FIELDS[changed]
    assert spots & set(range(start, start + length))
    assert spots <= set(range(start, start + length)) | set(range(148, 156))


@pytest.mark.parametrize("name", ["rodata", "text", "build-id"])
def test_only_a_section_differs(base: Index, name: str) -> None:
    row = next(row for row in ROWS if row.name == name)
    a, b = (library(index) for index in (base, row.plant(base)))
    place = elf_section(a, {"build-id": ".note.gnu.build-id"}.get(name, f".{name}"))
    spots = [at for at in range(len(a)) if a[at] != b[at]]
    assert len(spots) == (4 if name == "build-id" else 1)
    assert set(spots) <= set(place)


def library(index: Index) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(index.images[0].layers[0].archive)) as archive:
        return archive.extractfile(SO).read()  # type: ignore[union-attr]


def test_the_codecs_are_what_they_say() -> None:
    data = words()
    blobs = {name: pack(data) for name, (_, pack) in packed.items()}
    assert len(set(blobs.values())) == len(blobs)
    for name, blob in blobs.items():
        assert (blob[:4] == b"\x28\xb5\x2f\xfd") == (name == "zstd")
        assert (blob[:3] == b"\x1f\x8b\x08") == (name not in ("zstd", "none"))
    assert blobs["gzip with a time"][4:8] != bytes(4) == blobs["gzip"][4:8]


# The command


def has(text: str, word: str) -> bool:
    return any(choice.casefold() in text.casefold() for choice in word.split("|"))


def check_cause(row: Row, out: str, *, swapped: bool = False) -> None:
    first = "\n".join(out.splitlines()[:FIRST])
    wanted = [*row.cause, *(row.values or ())]
    if len(row.platforms) == 1:
        wanted += row.platforms
        [other] = set(BOTH) - set(row.platforms)
        assert other not in out, out
    lost = [word for word in wanted if not has(first, word)]
    assert not lost, f"{lost} not in the first lines of\n{out}"
    if row.values:
        old, new = reversed(row.values) if swapped else row.values
        place = rf"(?s){re.escape(old)}.*{re.escape(new)}"
        assert re.search(place, first), f"{old!r} before {new!r} in\n{out}"
    beyond = [word.translate(_SWAPPED) if swapped and word[0] in "+-" else word for word in row.beyond]
    assert not [word for word in beyond if not has(out, word)], out


_SWAPPED = str.maketrans("+-", "-+")


@each
def test_the_cause_stands_in_the_first_lines(cli: Cli, row: Row, pairs: Pairs) -> None:
    pair = pairs(row)
    result = cli("diff", pair.a, pair.b)
    assert result.code == bool(row.moves), result
    if row.moves:
        check_cause(row, result.out)


@each_unequal
def test_and_with_the_two_swapped(cli: Cli, row: Row, pairs: Pairs) -> None:
    pair = pairs(row)
    result = cli("diff", pair.b, pair.a)
    assert result.code == 1, result
    check_cause(row, result.out, swapped=True)


@each
def test_what_has_no_effect_is_left_out(cli: Cli, row: Row, pairs: Pairs) -> None:
    pair = pairs(row)
    result = cli("diff", "--semantic", pair.a, pair.b)
    if row.semantic is None:
        assert result.code in (0, 1), result
        return
    assert result.code == (0 if row.semantic else 1), result
    if not row.semantic:
        check_cause(row, result.out)


@each
def test_json(cli: Cli, row: Row, pairs: Pairs) -> None:
    pair = pairs(row)
    for arguments, equal in (([], not row.moves), (["--semantic"], row.semantic)):
        result = cli("diff", "--json", *arguments, pair.a, pair.b)
        found = json.loads(result.out)
        assert found.keys() >= {"equal", "semantic", "a", "b", "differences"}
        assert found["equal"] is (result.code == 0)
        assert equal in (None, found["equal"]), result
        assert bool(found["differences"]) is not found["equal"]
        for side, path in zip("ab", pair, strict=True):
            assert open_artifact(str(path)).digest in json.dumps(found[side])
        sides = check_nodes(found["differences"])
        if row.values and not (arguments and row.semantic):
            old, new = row.values
            assert any(old in a and new in b for a, b in sides), sides


def check_nodes(nodes: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Both sides of every node, which has the keys it should."""
    found = []
    for node in nodes:
        assert node.keys() >= {"kind", "where", "a", "b"}
        assert node.keys() <= {"kind", "where", "a", "b", "note", "lines", "below"}
        assert node["kind"]
        found += [(node["a"] or "", node["b"] or ""), *check_nodes(node.get("below", []))]
    return found


def test_an_image_and_itself(cli: Cli, pairs: Pairs) -> None:
    a = pairs(ROWS[0]).a
    for arguments in ([], ["--semantic"]):
        assert cli("diff", *arguments, a, a).code == 0


def test_the_same_tree_twice_says_the_same(cli: Cli, pairs: Pairs) -> None:
    pair = pairs(next(row for row in ROWS if row.name == "symbol"))
    assert cli("diff", pair.a, pair.b).out == cli("diff", pair.a, pair.b).out


def test_two_planted_differences_are_both_found(cli: Cli, base: Index, tmp_path: Path) -> None:
    """The one that has no effect is left out with `--semantic`, and does not hide the other."""
    planted = both(
        change_member("", field("mtime", LATER)),
        change_member(SO, flip(".rodata"), platforms=AMD64),
        change_config(labelled, ARM64),
    )
    a, b = write(base, tmp_path / "a"), write(planted(base), tmp_path / "b")
    out = cli("diff", a, b).out
    assert all(word in out for word in ("mtime", ".rodata", LICENCE, *BOTH)), out
    result = cli("diff", "--semantic", a, b)
    assert result.code == 1
    assert "mtime" not in result.out
    assert all(word in result.out for word in (".rodata", LICENCE, *BOTH)), result.out


def test_text_of_an_image_cannot_steer_the_terminal(cli: Cli, base: Index, tmp_path: Path) -> None:
    hostile = "\x1b[31mred\u202e\r[bold]"
    planted = both(
        change_config(lambda config: config["config"]["Labels"].update({LICENCE: hostile}), AMD64),
        add_file("share/\x1b[31m\u202e", b"x", AMD64),
        change_member(SCRIPT, replaced(b"-- src/lib.rs:8", f"-- {hostile}".encode()), platforms=AMD64),
    )
    a, b = write(base, tmp_path / "a"), write(planted(base), tmp_path / "b")
    result = cli("diff", a, b)
    assert result.code == 1
    assert LICENCE in result.out
    assert SCRIPT in result.out
    assert not set("\x1b\u202e\r") & set(result.out)
    assert "[bold]" in result.out


# Trouble


def test_an_image_that_is_not_there(cli: Cli, pairs: Pairs, tmp_path: Path) -> None:
    a = pairs(ROWS[0]).a
    for arguments in (
        (a, tmp_path / "none"),
        (f"oci:{tmp_path}/none", a),
        (a, f"{a}:9"),
        (a, f"{a}@sha256:{'0' * 64}"),
    ):
        result = cli("diff", *arguments)
        assert result.code == 2, result
        assert result.err.startswith("ocibuild: ")
        assert "Traceback" not in result.err
        assert result.out == ""


@pytest.mark.parametrize("options", [(), ("--semantic",), ("--json",)])
@pytest.mark.parametrize("name", ["mode", "script", "zstd", "gzip-level"])
def test_a_damaged_layer(cli: Cli, base: Index, tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    row = next(row for row in ROWS if row.name == name)
    a = write(row.base(base), tmp_path / "a")
    b = write(row.plant(row.base(base)), tmp_path / "b")
    [layer] = describe(open_artifact(str(b))).images[0].layers
    path = b / "blobs/sha256" / layer.descriptor.digest.encoded
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for pair in ((a, b), (b, a)):
        result = cli("diff", *options, *pair)
        assert result.code == 2, result
        assert "Traceback" not in result.err
        assert result.err.startswith("ocibuild: ")
        if "--json" in options:
            assert "error" in json.loads(result.out)


@pytest.mark.parametrize("options", [(), ("--semantic",)])
def test_a_diff_id_that_lies(cli: Cli, base: Index, tmp_path: Path, options: tuple[str, ...]) -> None:
    """The blob is the one the manifest names, but the configuration names the other image's archive."""
    row = next(row for row in ROWS if row.name == "rodata")
    a, b = write(base, tmp_path / "a"), write(row.plant(base), tmp_path / "b", claims=base)
    result = cli("diff", *options, a, b)
    assert result.code == 2, result
    assert "diff ID" in result.err


def test_a_layer_that_is_missing(cli: Cli, base: Index, tmp_path: Path) -> None:
    row = ROWS[0]
    a, b = write(base, tmp_path / "a"), write(row.plant(base), tmp_path / "b")
    [layer] = describe(open_artifact(str(b))).images[0].layers
    (b / "blobs/sha256" / layer.descriptor.digest.encoded).unlink()
    result = cli("diff", a, b)
    assert result.code == 2, result
    assert "Traceback" not in result.err


@pytest.mark.parametrize("arguments", [("diff",), ("diff", "a"), ("diff", "a", "b", "c"), ("diff", "a", "b", "--no")])
def test_a_mistyped_command(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli(*arguments).code == 2


# Bounds


def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    source = tmp_path / "zeros"
    for name, spot in (("a", b""), ("b", b"x")):
        with open(source, "wb") as file:
            file.truncate(64 * 1024 * 1024)
            file.seek(40 * 1024 * 1024)
            file.write(spot)
        with LayoutStore(tmp_path / name) as store:
            layer = build_layer([File(path="lib/zeros.bin", content=source)], into=store)
            copy(build_image([layer], platform=Platform.parse("linux/amd64"), into=store), store, tags=["1"])
    source.unlink()
    # The exit code for a difference is 1, which is what is wanted here.
    code = "import sys; from ocibuild.cli import main; print(r := main(sys.argv[1:])); sys.exit(r != 1)"
    for options in ([], ["--json"]):
        command = [sys.executable, "-c", code, "diff", *options, str(tmp_path / "a"), str(tmp_path / "b")]
        assert watched(command, {"PATH": ""}, ROOT).peak < 100 * MB
