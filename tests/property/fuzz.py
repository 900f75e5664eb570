"""A fuzz campaign over every parser: mutated real input must end in a value or an `OcibuildError`.

    python -m tests.property.fuzz [--count 100000] [--seed 1] [--parser NAME]

The count is for each parser. It prints the slowest case of each and stops at the first escape, naming its seed.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

from elftools.elf.elffile import ELFFile

from ocibuild import (
    ArchiveStore,
    Compression,
    MemoryStore,
    Platform,
    Reference,
    build_image,
    build_layer,
    copy,
    postgres,
)
from ocibuild.elf import read_shared_object
from ocibuild.errors import OcibuildError
from ocibuild.layer import open_layer, read_members
from ocibuild.locations import parse_location
from ocibuild.oci import Digest, ImageConfig, Index, Manifest
from ocibuild.oci.canonical import decode
from ocibuild.oci.media_types import IMAGE_CONFIG, IMAGE_INDEX, IMAGE_MANIFEST
from ocibuild.postgres import find_project, parse_control, read_magic, read_recipe
from ocibuild.postgres.checks.sql import c_functions
from ocibuild.postgres.project import find_crates
from ocibuild.postgres.sources.alternatives import alternatives
from ocibuild.postgres.tag import expand_tag, tag_fields
from ocibuild.store import walk
from ocibuild.store.graph import read_blob
from tests.property.fuzz_diff import diff_corpus
from tests.property.fuzz_registry import JSON_ANSWERS, registry_corpus
from tests.property.fuzz_sign import SIGNED_JSON, sign_corpus
from tests.support.packages import deb, tar, zipped
from tests.support.tools import TREES
from tests.support.trees import mutate

POSTINST = """#!/bin/sh
set -e
VERSION="18"
DIR=/usr/share/postgresql/${VERSION}/extension
update-alternatives --install $DIR/hello.control hello \\
  $DIR/hello-3.control 30 --slave $DIR/a.control a "$DIR/hello-3.control"
"""
SQL = b"""-- a comment
CREATE OR REPLACE FUNCTION s."F"(int, text DEFAULT 'it''s') RETURNS int AS 'MODULE_PATHNAME', 'f' LANGUAGE C STRICT;
/* and */ DO $body$ BEGIN PERFORM 1; END $body$;
COPY t FROM '/usr/share/x'; LOAD '$libdir/x';
"""


def _source(raw: bytes) -> None:
    def read(path: Path) -> None:
        sources = postgres.open_sources(path)
        postgres.check(sources, platforms=["linux/amd64"])

    _file(raw, read)


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")


def _members(raw: bytes) -> None:
    for _, content in read_members(io.BytesIO(raw)):
        content.read(100)


def _layer(compression: Compression) -> Callable[[bytes], None]:
    def read(raw: bytes) -> None:
        with open_layer(io.BytesIO(raw), compression.media_type) as stream:
            _members(stream.read())

    return read


def _file(raw: bytes, read: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input"
        path.write_bytes(raw)
        read(path)


def _archive(raw: bytes) -> None:
    def read(path: Path) -> None:
        store = ArchiveStore(path)
        for descriptor in store.tags().values():
            for item in walk(store, descriptor):
                with store.fetch(item) as stream:
                    stream.read()

    _file(raw, read)


def _recipe(raw: bytes) -> None:
    _file(raw, read_recipe)


def _project(raw: bytes) -> None:
    def read(path: Path) -> None:
        path.rename(path.parent / "Cargo.toml")
        find_project(path.parent, "x")
        find_crates(path.parent)

    _file(raw, read)


def other_tars() -> list[bytes]:
    """Archives as others write them: GNU and pax names, links, global headers."""
    found = []
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form, pax_headers={"comment": "x"}) as archive:
            for name, kind in (
                ("n" * 150, tarfile.REGTYPE),
                ("é", tarfile.SYMTYPE),
                ("h", tarfile.LNKTYPE),
                ("d", tarfile.DIRTYPE),
            ):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, "n" * 150 if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
                info.mtime = -1 if form == tarfile.GNU_FORMAT else 1.5
                info.size = 700 if kind == tarfile.REGTYPE else 0
                archive.addfile(info, io.BytesIO(bytes(700)))
        found.append(buffer.getvalue())
    return found


def mend_tar(raw: bytes) -> bytes:
    """Checksums made right again after a mutation, so that it is not all that the reader sees."""
    found = bytearray(raw)
    for start in range(0, len(found) - 511, 512):
        block = found[start : start + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            found[start + 148 : start + 156] = b"%06o\0 " % (sum(block) & 0o777777)
    return bytes(found)


ODD: list[object] = [
    None,
    True,
    -1,
    2**70,
    1.5,
    "",
    "x" * 300,
    "\x00",
    [],
    {},
    [[]],
    "sha256:" + "0" * 64,
    "sha256:../x",
    2,
    "application/x",
]


def mutate_json(raw: bytes, seed: int) -> bytes:
    """A document with some of its parts removed, repeated, or replaced by odd ones: still JSON, mostly."""
    chance = random.Random(seed)
    document = json.loads(raw)
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = document
        while isinstance(place, dict | list) and place and chance.random() < 0.8:
            key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
            below = place[key]
            if not isinstance(below, dict | list) or chance.random() < 0.3:
                kind = chance.randrange(3)
                if kind == 0:
                    del place[key]
                elif kind == 1:
                    place[key] = deepcopy(chance.choice(ODD))
                elif isinstance(place, list):
                    place.append(deepcopy(below))
                else:
                    place[chance.choice(list(place)) + chance.choice(("", "x"))] = deepcopy(below)
                break
            place = below
    text = json.dumps(document)
    if chance.random() < 0.2:
        text = text.replace('":', '": ', 1).replace("{", '{"schemaVersion":2,', 1)
    return text.encode()


def _platform(raw: bytes) -> None:
    Platform.parse(_text(raw))


def corpus() -> dict[str, tuple[Callable[[bytes], object], list[bytes]]]:
    """Each parser and the real input to mutate."""
    store = MemoryStore()
    image = postgres.build_extension([postgres.open_source(tree) for tree in TREES], into=store)
    documents: dict[str, bytes] = {}
    for descriptor in walk(store, image.root):
        if descriptor.media_type.endswith("json"):
            documents[descriptor.media_type] = read_blob(store, descriptor)
    entries = [entry for entry in postgres.open_source(TREES[0]).entries if not entry.path.endswith(".so")]
    layers = {}
    for compression in Compression:
        layer = build_layer(entries, into=store, compression=compression)
        layers[compression] = store.fetch(layer.descriptor).read()
    with tempfile.TemporaryDirectory() as folder:
        with ArchiveStore(Path(folder) / "a.tar") as archive:
            copy(build_image([], platform=Platform.parse("amd64")), archive, tags=["1"])
        small = (Path(folder) / "a.tar").read_bytes()
    library = (TREES[0] / "usr/lib/postgresql/18/lib/pgrx_hello.so").read_bytes()
    control = (TREES[0] / "usr/share/postgresql/18/extension/pgrx_hello.control").read_bytes()
    small_files: dict[str, bytes | str] = {
        "usr/share/postgresql/18/extension/hello-3.control": control,
        "usr/share/postgresql/18/extension/hello.control": "/etc/alternatives/hello",
        "etc/alternatives/hello": "/usr/share/postgresql/18/extension/hello-3.control",
        "usr/share/postgresql/18/extension/hello--1.sql": SQL,
        "usr/share/postgresql/18/extension/hello--2.sql": "=usr/share/postgresql/18/extension/hello--1.sql",
    }
    parsers: dict[str, tuple[Callable[[bytes], object], list[bytes]]] = {
        "manifest": (lambda raw: decode(raw, Manifest), [documents[IMAGE_MANIFEST]]),
        "index": (lambda raw: decode(raw, Index), [documents[IMAGE_INDEX]]),
        "config": (lambda raw: decode(raw, ImageConfig), [documents[IMAGE_CONFIG]]),
        "digest": (lambda raw: Digest(_text(raw)), [image.digest.encode()]),
        "platform": (_platform, [b"linux/arm64/v8", b"linux/amd64"]),
        "reference": (
            lambda raw: Reference.parse(_text(raw)),
            [b"ghcr.io/o/r:1@" + image.digest.encode(), b"localhost:5000/a/b"],
        ),
        "location": (
            lambda raw: parse_location(_text(raw)),
            [b"oci:dist/x:1", b"oci-archive:x.tar@" + image.digest.encode(), b"docker://ghcr.io/o/r:1", b"./x:1"],
        ),
        "tar": (_members, [layers[Compression.NONE], *other_tars()]),
        "gzip": (_layer(Compression.GZIP), [layers[Compression.GZIP]]),
        "zstd": (_layer(Compression.ZSTD), [layers[Compression.ZSTD]]),
        "archive": (_archive, [small]),
        "control": (lambda raw: parse_control(raw, name="x"), [control, b"requires = 'a, b'\nschema x # c\n"]),
        "recipe": (_recipe, [b'name = "x"\n[labels]\nlicenses = "MIT"\n']),
        "project": (_project, [b'[workspace]\nmembers = ["a/*", "."]\n[package]\nlicense = {workspace = true}\n']),
        "tag": (
            lambda raw: expand_tag(_text(raw), tag_fields("1.2.3", 18)),
            [b"{version}-{pg}-trixie", b"{major}.{minor}"],
        ),
        "deb": (_source, [deb(small_files, postinst=POSTINST, suffix=suffix) for suffix in ("", ".xz", ".zst")]),
        "sources": (
            _source,
            [tar(small_files), tar(small_files, ".gz"), tar(small_files, ".xz"), zipped(small_files), small],
        ),
        "alternatives": (lambda raw: alternatives(raw.decode(errors="replace")), [POSTINST.encode()]),
        "sql": (lambda raw: list(c_functions(raw.decode(errors="replace"))), [SQL]),
        "magic": (read_magic, [library[0x4D000:0x4D200]]),
        "elf": (read_shared_object, [library]),
    }
    more = registry_corpus() | diff_corpus() | sign_corpus()
    assert not parsers.keys() & more.keys()
    return parsers | more


JSON_PARSERS = {
    "manifest",
    "index",
    "config",
    "diff config",
    "diff manifest",
    "provenance",
    *JSON_ANSWERS,
    *SIGNED_JSON,
}


def tables(library: bytes) -> list[range]:
    """Where an ELF file keeps what its reader reads: headers and the small sections."""
    elf = ELFFile(io.BytesIO(library))
    header = elf.header
    end = header["e_shoff"] + header["e_shnum"] * header["e_shentsize"]
    segments = range(header["e_phoff"], header["e_phoff"] + header["e_phnum"] * header["e_phentsize"])
    kinds = ("DYNAMIC", "DYNSYM", "STRTAB", "HASH", "GNU_HASH", "GNU_verneed", "GNU_verdef", "GNU_versym", "NOTE")
    sections = [section for section in elf.iter_sections() if str(section["sh_type"]).removeprefix("SHT_") in kinds]
    inside = [range(item["sh_offset"], item["sh_offset"] + item["sh_size"]) for item in sections]
    return [range(64), segments, range(header["e_shoff"], end), *inside]


def campaign(name: str, parse: Callable[[bytes], object], seeds: list[bytes], count: int, first: int) -> str:
    """Run one parser's cases; the line to print."""
    spots = tables(seeds[0]) if name in ("elf", "diff elf") else ()
    accepted = 0
    slowest = (0.0, 0)
    for seed in range(first, first + count):
        origin = seeds[seed % len(seeds)]
        raw = mutate_json(origin, seed) if name in JSON_PARSERS and seed % 2 else mutate(origin, seed, spots)
        if name in ("tar", "archive", "deb", "sources", "diff tar") and seed % 4:
            raw = mend_tar(raw)
        start = time.perf_counter()
        try:
            parse(raw)
            accepted += 1
        except OcibuildError:
            pass
        except BaseException as error:
            raise AssertionError(f"{name}: seed {seed}: {type(error).__name__}: {error}") from error
        slowest = max(slowest, (time.perf_counter() - start, seed))
    return (
        f"{name:14} {count:>8} cases, {accepted:>7} accepted, slowest {slowest[0] * 1000:6.1f} ms (seed {slowest[1]})"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parser", action="append")
    options = parser.parse_args()
    for name, (parse, seeds) in corpus().items():
        if options.parser is None or name in options.parser:
            print(campaign(name, parse, seeds, options.count, options.seed), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
