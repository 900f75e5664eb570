"""The cases whose digests `tests/golden` pins, without pytest: any Python that has ocibuild can build them.

    python -m tests.support.golden          # write tests/golden anew: format 1 forbids it for `layers` and `images`

`layers.json` and `images.json` pin layers of trees that touch every rule; `pgrx_hello.json` pins the fixture's image, whose labels are
input: those digests move when the fixture or its labels do, and the layers' must not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ocibuild import (
    Compression,
    Directory,
    File,
    MemoryStore,
    Platform,
    Symlink,
    build_image,
    build_index,
    build_layer,
    postgres,
)
from ocibuild.describe import describe
from ocibuild.layer import Entry

ROOT = Path(__file__).parent.parent.parent
GOLDEN = ROOT / "tests" / "golden"
TREES = tuple(ROOT / "fixtures" / "packages" / name / "pgrx_hello-pg18" for name in ("amd64", "arm64"))


def counter(size: int) -> bytes:
    """Bytes that compress a little, made without a random generator."""
    return b"".join(b"%d " % (number * number) for number in range(size // 8))[:size]


CASES: dict[str, tuple[list[Entry], int]] = {
    "nothing": ([], 0),
    "one file": ([File(path="a.sql", content=b"select 1;\n")], 0),
    "an extension": (
        [
            File(path="lib/x.so", content=counter(100_000)),
            File(path="share/extension/x.control", content=b"default_version = '1'\n"),
            File(path="share/extension/x--1.sql", content=b""),
            File(path="bin/tool", content=b"#!/bin/sh\n", mode=0o755),
        ],
        1_700_000_000,
    ),
    "links and folders": (
        [Symlink(path="lib/x.so", target="x.so.1"), File(path="lib/x.so.1", content=b"x"), Directory(path="empty", mode=0o700)],
        1,
    ),
    "names": (
        [
            File(path="é/日本語", content=b"1"),
            File(path="n" * 101, content=b"2"),
            File(path="p" * 150 + "/" + "n" * 100, content=b"3"),
            File(path="p" * 156 + "/" + "n" * 100, content=b"4"),
            Directory(path="d" * 100),
            Symlink(path="link", target="t" * 200),
        ],
        0,
    ),
    "several members": ([File(path="big", content=counter(3 * 1024 * 1024 + 17)), File(path="small", content=b"x")], 0),
}  # fmt: skip


def layers() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name, (entries, mtime) in CASES.items():
        built = {item: build_layer(entries, into=MemoryStore(), compression=item, mtime=mtime) for item in Compression}
        found[name] = {item.value: layer.descriptor.digest for item, layer in built.items()}
        found[name]["diff_id"] = built[Compression.GZIP].diff_id
        assert found[name]["none"] == found[name]["diff_id"]
    return found


def images() -> dict[str, str]:
    store = MemoryStore()
    layer = build_layer(CASES["an extension"][0], into=store)
    made = [
        build_image([layer], platform=Platform.parse(name), into=store, labels={"a": "é"}, user="65532:65532")
        for name in ("linux/arm64/v8", "amd64", "linux/arm/v7")
    ]
    dated = build_image([layer], platform=Platform.parse("amd64"), into=store, created="2024-01-01T00:00:00Z")
    index = build_index(made, into=store, annotations={"b": "2", "a": "1"})
    return {"index": index.digest, "dated": dated.digest, **{str(item.root.platform): item.digest for item in made}}


def pgrx_hello() -> dict[str, object]:
    image = postgres.build_extension([postgres.open_source(tree) for tree in TREES])
    shown = describe(image)
    return {
        "index": image.digest,
        **{
            str(item.platform): {
                "manifest": item.descriptor.digest,
                "config": item.manifest.config.digest,
                "layer": item.layers[0].descriptor.digest,
                "diff_id": item.layers[0].diff_id,
            }
            for item in shown.images
        },
    }


MAKERS: tuple[Callable[[], Mapping[str, object]], ...] = (layers, images, pgrx_hello)
"""Each writes the file of its name in `tests/golden`."""


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for make in MAKERS:
        (GOLDEN / f"{make.__name__}.json").write_text(json.dumps(make(), indent=2) + "\n", encoding="utf-8")
