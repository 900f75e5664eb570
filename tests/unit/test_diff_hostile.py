"""`diff` on images that are made to crash it, to be called equal when they are not, or to fill memory and time."""

from __future__ import annotations

import gzip
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ocibuild import open_artifact
from ocibuild.diff import Comparison, Difference, compare
from ocibuild.diff.content import content_difference
from ocibuild.diff.documents import document_differences, is_same
from ocibuild.diff.functions import Functions
from ocibuild.diff.records import Archive, _Headers, _plain, read_archive
from ocibuild.errors import LayerError, StoreError
from ocibuild.layer.read import Member as Read
from ocibuild.oci import media_types
from tests.support.planted import Member, canonical, content, field, join, rename

MODULES = Path(__file__).parents[2] / "fixtures" / "modules"
AMD64 = {"os": "linux", "architecture": "amd64"}
END = bytes(1024)


class Maker:
    """Writes layouts by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs: dict[str, bytes] = {}

    def blob(
        self, data: bytes, media_type: str = "application/x", algorithm: str = "sha256", **more: Any
    ) -> dict[str, Any]:
        digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data), **more}

    def image(
        self,
        *archives: bytes,
        config: dict[str, Any] | None = None,
        manifest: dict[str, Any] | None = None,
        layer: dict[str, Any] | None = None,
        algorithm: str = "sha256",
        media_type: str = media_types.LAYER_GZIP,
    ) -> dict[str, Any]:
        diff_ids = [f"sha256:{hashlib.sha256(item).hexdigest()}" for item in archives]
        layers = [
            self.blob(gzip.compress(item, 6, mtime=0), media_type, algorithm, **(layer or {})) for item in archives
        ]
        document = {**AMD64, "rootfs": {"type": "layers", "diff_ids": diff_ids}, **(config or {})}
        about = self.blob(canonical(document), media_types.IMAGE_CONFIG)
        whole = {"schemaVersion": 2, "mediaType": media_types.IMAGE_MANIFEST, "config": about, "layers": layers}
        return self.blob(canonical({**whole, **(manifest or {})}), media_types.IMAGE_MANIFEST)

    def index(self, *entries: dict[str, Any], **more: Any) -> dict[str, Any]:
        document = {"schemaVersion": 2, "mediaType": media_types.IMAGE_INDEX, "manifests": entries, **more}
        return self.blob(canonical(document), media_types.IMAGE_INDEX)

    def compare(self, a: dict[str, Any], b: dict[str, Any], *, semantic: bool = False) -> Comparison:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        for digest, data in self.blobs.items():
            path = folder / "blobs" / digest.replace(":", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        roots = [
            {**item, "annotations": {"org.opencontainers.image.ref.name": tag}} for item, tag in ((a, "a"), (b, "b"))
        ]
        (folder / "index.json").write_bytes(canonical({"schemaVersion": 2, "manifests": roots}))
        (folder / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
        one, other = (open_artifact(f"oci:{folder}:{tag}") for tag in "ab")
        return compare(one, other, semantic=semantic)


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


def entry(path: str, data: bytes = b"", **fields: bytes) -> Member:
    block = bytearray(512)
    for start, text in ((100, b"0000644"), (108, b"0000000"), (116, b"0000000"), (136, b"00000000000"), (156, b"0")):
        block[start : start + len(text)] = text
    block[257:265] = b"ustar\x0000"
    member = rename(path)(content(lambda _: data)(Member(bytes(block))))
    for name, value in fields.items():
        member = field(name, value)(member)
    return member


def records(*pairs: tuple[str, bytes], kind: bytes = b"x") -> bytes:
    data = b""
    for key, value in pairs:
        rest = b" " + key.encode() + b"=" + value + b"\n"
        size = next(size for size in range(len(rest), len(rest) + 9) if size == len(rest) + len(str(size)))
        data += str(size).encode() + rest
    return join([entry("PaxHeader", data, type=kind)])[: -len(END)]


def said(found: Comparison) -> list[tuple[str, str, str | None, str | None]]:
    items = [item for top in found.differences for item in top.walk()]
    return [(item.kind, item.where, item.a, item.b) for item in items if item.kind != "image"]


FILE = join([entry("lib/a", b"hello")])
HEADER = "SCHILY.xattr.user.x"


# Crashes


@pytest.mark.parametrize("semantic", [False, True])
def test_what_is_no_image_in_an_index(make: Maker, semantic: bool) -> None:
    one, other = (make.index({**make.index(note), "platform": AMD64}) for note in (make.image(FILE), make.image(END)))
    assert [kind for kind, *_ in said(make.compare(one, other, semantic=semantic))] == ["blob"]
    one, other = (make.index({**make.blob(data), "platform": AMD64}) for data in (b"1", b"2"))
    assert [(kind, where) for kind, where, *_ in said(make.compare(one, other, semantic=semantic))] == [
        ("blob", "application/x")
    ]


def test_no_folder_for_temporary_files(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = make.image(FILE), make.image(join([entry("lib/a", b"jello")]))
    monkeypatch.setattr(tempfile, "tempdir", str(make.folder / "none"))
    with pytest.raises(StoreError, match="temporary files"):
        make.compare(a, b)


# Untruths


PAIRS = {
    "pax uid": (FILE, records(("uid", b"1000")) + FILE),
    "hard link's mode": tuple(
        join([entry("x", b"ELF"), entry("y", type=b"1", link=b"x", mode=mode)]) for mode in (b"0000644", b"0004755")
    ),
    "end of a long value": tuple(records((HEADER, b"a" * 250 + end)) + FILE for end in (b"1", b"2")),
    "record 65": tuple(
        records(*((f"c{number:02}", b"x") for number in range(64)), (HEADER, end)) + FILE for end in (b"1", b"2")
    ),
    "order of one key": tuple(records((HEADER, x), (HEADER, y)) + FILE for x, y in ((b"1", b"2"), (b"2", b"1"))),
    "byte and its escape": tuple(records((HEADER, value)) + FILE for value in (b"\xff", b"\\xff")),
    "global record": (
        join([entry("t"), entry("lib/a"), entry("t")]),
        records((HEADER, b"1"), kind=b"g") + join([entry("t"), entry("lib/a"), entry("t")]),
    ),
    "root's mode": tuple(join([entry("./", type=b"5", mode=mode), entry("lib/a")]) for mode in (b"0000755", b"0000700")),
    "content of a name that ends in a slash": tuple(join([entry("lib/x/", data)]) for data in (b"hello", b"jello")),
    "device and file": (join([entry("dev/x", type=b"3")]), FILE),
    "hard link to a link": (
        join([entry("l", type=b"2", link=b"lib"), entry("m", type=b"1", link=b"l")]),
        FILE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("semantic", [False, True])
def test_archives_that_differ_to_a_container(make: Maker, name: str, semantic: bool) -> None:
    a, b = PAIRS[name]
    found = make.compare(make.image(a), make.image(b), semantic=semantic)
    assert not found.is_equal
    assert "JSON" not in [kind for kind, *_ in said(found)]


def test_what_no_header_says(make: Maker) -> None:
    padded = bytearray(FILE)
    padded[512 + 5] = 1
    found = make.compare(make.image(FILE), make.image(bytes(padded)))
    assert "outside what their headers say" in found.differences[0].below[0].note
    assert make.compare(make.image(FILE), make.image(bytes(padded)), semantic=True).is_equal
    after = [FILE[: -len(END)] + records(("comment", value)) + END for value in (b"1", b"2")]
    [(kind, where, one, other)] = said(make.compare(*(make.image(item) for item in after)))
    assert (kind, where) == ("tar", "headers after the last entry")
    assert one != other


@pytest.mark.parametrize(
    "more",
    [{"os.version": "1"}, {"architecture": "arm64"}, {"os.features": ["x"]}],
    ids=["version", "architecture", "features"],
)
@pytest.mark.parametrize("semantic", [False, True])
def test_the_platform_that_an_index_says(make: Maker, more: dict[str, Any], semantic: bool) -> None:
    image = make.image(FILE)
    a, b = (make.index({**image, "platform": {**AMD64, **item}}) for item in ({}, more))
    [(kind, where, *_)] = said(make.compare(a, b, semantic=semantic))
    assert (kind, where.partition("[")[0]) == ("index entry", f"platform.{next(iter(more))}")


def test_a_platform_that_is_called_as_the_second_of_another(make: Maker) -> None:
    images = make.image(FILE), make.image(join([entry("lib/a", b"jello")]))
    odd = {**make.image(FILE), "platform": {**AMD64, "architecture": "amd64 #2"}}
    a, b = (make.index(*({**item, "platform": AMD64} for item in (images[0], second)), odd) for second in images)
    for semantic in (False, True):
        assert ("file", "lib/a") in [item[:2] for item in said(make.compare(a, b, semantic=semantic))]


def test_attestations_have_no_effect(make: Maker) -> None:
    unknown = {"os": "unknown", "architecture": "unknown"}
    a, b = (
        make.index(
            {**make.image(FILE), "platform": AMD64}, {**make.image(END, config={"author": name}), "platform": unknown}
        )
        for name in "ab"
    )
    assert not make.compare(a, b).is_equal
    assert make.compare(a, b, semantic=True).is_equal


@pytest.mark.parametrize("semantic", [False, True])
def test_what_descriptors_say(make: Maker, semantic: bool) -> None:
    a, b = make.image(FILE), make.image(FILE, layer={"annotations": {"x": "y"}})
    assert said(make.compare(a, b, semantic=semantic)) == [("manifest", "layers[0].annotations.x", None, "y")]
    image = {**make.image(FILE), "platform": AMD64}
    a, b = make.index(image), make.index({**image, "x": "1"})
    assert said(make.compare(a, b, semantic=semantic)) == [("index entry", "x", None, "1")]
    a, b = (
        make.blob(
            canonical(
                {
                    "schemaVersion": 2,
                    "mediaType": media_types.IMAGE_MANIFEST,
                    "config": make.blob(b"{}", "application/vnd.oci.empty.v1+json"),
                    "layers": [make.blob(b"data", kind)],
                }
            ),
            media_types.IMAGE_MANIFEST,
        )
        for kind in ("application/x", "application/y")
    )
    assert said(make.compare(a, b, semantic=semantic)) == [
        ("manifest", "layers[0].mediaType", "application/x", "application/y")
    ]


def test_one_blob_under_two_media_types(make: Maker) -> None:
    a, b = make.image(FILE), make.image(FILE, media_type=media_types.LAYER_ZSTD)
    for semantic in (False, True):
        with pytest.raises(LayerError):
            make.compare(a, b, semantic=semantic)


def test_one_blob_told_by_two_algorithms(make: Maker) -> None:
    found = said(make.compare(make.image(FILE), make.image(FILE, algorithm="sha512")))
    assert [where for _, where, *_ in found] == ["layers[0].digest"]


def test_what_json_tells_apart(make: Maker) -> None:
    for one, other in ((1, True), (0, False), (None, ""), (1, "1"), ([], {}), (["a"], "a")):
        assert not is_same({"x": one}, {"x": other})
        [found] = document_differences({"x": one}, {"x": other}, kind="config")
        assert found.a != found.b
    a, b = (make.image(FILE, config={"config": item}) for item in ({}, {"Labels": None, "User": None}))
    assert {item[1:] for item in said(make.compare(a, b))} == {
        ("config.Labels", None, "null"),
        ("config.User", None, "null"),
    }
    assert make.compare(a, b, semantic=True).is_equal
    # What differs is shown of a long text too.
    [found] = document_differences({"x": "a" * 2_000 + "1"}, {"x": "a" * 2_000 + "2"}, kind="config")
    assert found.a != found.b


def test_an_annotation_of_one_image_is_not_that_of_all(make: Maker) -> None:
    arm = {"os": "linux", "architecture": "arm64"}
    same = {**make.image(FILE, config=arm), "platform": arm}
    a, b = (
        make.index(
            {**make.image(FILE, manifest={"annotations": {"k": value}}), "platform": AMD64},
            same,
            annotations={"k": value},
        )
        for value in "12"
    )
    found = make.compare(a, b)
    assert said(found) == [("annotation", "k", "1", "2")] * 2
    assert not any(item.note for item in found.differences)


def test_a_label_that_is_called_as_a_date(make: Maker) -> None:
    a, b = (
        make.image(FILE, config={"created": date, "config": {"Labels": {"history[0].created": date}}})
        for date in ("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z")
    )
    for semantic in (False, True):
        assert "history[0].created" in [where for _, where, *_ in said(make.compare(a, b, semantic=semantic))]


def test_all_names_of_a_changed_file(make: Maker) -> None:
    a, b = (make.image(join([entry("a", data), entry("b", type=b"1", link=b"a")])) for data in (b"1\n", b"2\n"))
    [image] = make.compare(a, b, semantic=True).differences
    assert [(item.where, item.note) for item in image.below] == [("a", ""), ("b", "as a")]


# What is said


def test_folders_of_files_that_are_added(make: Maker) -> None:
    folders = [entry(path, type=b"5", mode=b"0000755") for path in ("new", "new/er")]
    added = join([entry("lib/a", b"hello"), *folders, entry("new/er/b", b"x")])
    for semantic in (False, True):
        found = make.compare(make.image(FILE), make.image(added), semantic=semantic)
        assert [item.where for item in found.differences[0].below] == ["new/er/b"]
    # One that is not as runtimes make it is said.
    odd = join([entry("lib/a", b"hello"), entry("new", type=b"5", mode=b"0000700"), entry("new/b", b"x")])
    found = make.compare(make.image(FILE), make.image(odd))
    assert [item.where for item in found.differences[0].below] == ["new", "new/b"]


def test_many_changed_files(make: Maker) -> None:
    a, b = (join([entry(f"s{number:03}", data) for number in range(300)]) for data in (b"1\n", b"2\n"))
    [image] = make.compare(make.image(a), make.image(b)).differences
    assert len(image.below) == 201
    assert sum(bool(item.lines) for item in image.below) == 20
    assert image.below[-1].note == "and 100 more whose content differs"


def test_bytes_that_are_no_text() -> None:
    found = content_difference("x", b"\0abc", b"\0xbd")
    assert found.note == "2 of 4 bytes differ, the first at 0x1 (61 → 78)"


# Bounds


def test_headers_are_not_kept() -> None:
    headers = _Headers()
    member = join([entry("a")])[:512]
    for _ in range(3):
        headers(bytes(64 * 1024))
    assert headers.zeros == 3 * 64 * 1024
    for _ in range(10):
        headers(records(("comment", b"x"))[:512])
        headers(b"%d comment=%s\n" % (1_000_000, b"x" * 999_984))
    headers(member)
    assert len(str(headers.take())) < 1_000
    assert headers.block == member


def test_a_path_of_dots() -> None:
    member = Read(
        path="./" * 2_000 + "x", kind="file", size=0, mode=0, mtime=0, uid=0, gid=0, uname="", gname="", link=""
    )
    assert _plain(member).path == "x"


def test_many_differences_of_a_document(make: Maker) -> None:
    notes = [{f"k{number}": value for number in range(5_000)} for value in "12"]
    a, b = (make.image(FILE, config={"config": {"Labels": item}}, manifest={"annotations": item}) for item in notes)
    [image] = make.compare(a, b).differences
    assert len(image.below) < 500
    assert "and 4,800 more" in [item.note for item in image.below]


def test_one_image_for_many_platforms(make: Maker) -> None:
    a, b = (
        make.index(*({**image, "platform": {"os": "linux", "architecture": str(number)}} for number in range(3_000)))
        for image in (make.image(FILE), make.image(join([entry("lib/a", b"jello")])))
    )
    [image] = make.compare(a, b).differences
    assert image.where.endswith(" and 2,980 more")


def test_one_layer_many_times(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []

    def reading(*arguments: Any) -> Archive:
        read.append(arguments)
        return read_archive(*arguments)

    monkeypatch.setattr("ocibuild.diff.layers.read_archive", reading)
    a, b = make.image(*[FILE] * 50), make.image(*[join([entry("lib/a", b"jello")])] * 50)
    for semantic in (False, True):
        read.clear()
        assert not make.compare(a, b, semantic=semantic).is_equal
        assert len(read) == 2
    assert "as layer 1" in [item.note for item in make.compare(a, b).differences[0].below]


def test_few_functions_are_named() -> None:
    from ocibuild.elf.headers import ElfFile

    functions = Functions(ElfFile((MODULES / "debug.so").read_bytes(), "x"))
    looked_at = iter((start, start + 1) for start in sorted(functions._places))
    assert len(functions.within(looked_at, 2)) == 2
    assert next(looked_at, None) is not None


def test_differences_are_json(make: Maker) -> None:
    found = make.compare(make.image(FILE), make.image(END))
    assert json.loads(json.dumps(found.to_dict()))["equal"] is False
    assert isinstance(found.differences[0], Difference)
