"""A campaign against the second implementation of format 1: both write the same trees and images, to the byte.

    python -m tests.property.oracle [--count 10000] [--seed 1]

Each case is a tree with the names, sizes, links and times at which the format's rules turn, and images of it for some
platforms. The archive and the documents are compared with those of `tests.support.oracle`, which is written from
`docs/reference/format-1.md` alone; compressed layers are walked by hand too, and archives read by Python's `tarfile`.
A case that differs prints its first differing byte and its seed: `--seed N --count 1` repeats it.
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
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import deflate
import zstandard

from ocibuild import (
    Artifact,
    Compression,
    Descriptor,
    Digest,
    Directory,
    File,
    MemoryStore,
    Platform,
    Symlink,
    build_image,
    build_index,
    build_layer,
    copy,
    open_store,
)
from ocibuild.errors import OcibuildError
from ocibuild.layer import Entry
from tests.support import oracle, oracle_documents
from tests.support.oracle import MIB, BrokenError, Node, file, folder, link
from tests.support.oracle_documents import Blob, Target

ALPHABETS = (
    "abc",
    "ab.-_0 ",
    "\n\t\\\"'=;*$",
    "\x01\x1f\x7f\x80",
    "éßüe\u0301",
    "日本語",
    "\ue000\uffff\U0001f600\U0001d4b3\U0010ffff\u2028",
)
NAMES = ("a", "a-", "a.", "a0", "a b", "bin", "lib", "share", "é", "e\u0301", "...", ".hidden", "PaxHeaders", "@", "-")
SIZES = (0, 0, 1, 10, 100, 511, 512, 513, 1023, 1024, 1025, 2000)
MODES = (0o644, 0o755, 0o600, 0o444, 0o777, 0)
TIMES = (0, 1, 1_700_000_000, 2**31 - 1, 2**31, 2**32, 8**11 - 1)
CREATED = ("", "", "2026-03-01T12:00:00Z", "1970-01-01T00:00:00Z", "2026-03-01T12:00:00.5+02:00")
TAGS = ("latest", "1.2.3", "1", "Z", "_", "a-b", "a.b", "a", "x" * 128)
TARGETS = (
    Target("linux", "amd64"),
    Target("linux", "amd64", "v1"),
    Target("linux", "amd64", "v3"),
    Target("linux", "arm64"),
    Target("linux", "arm64", "v8"),
    Target("linux", "arm64", "v9"),
    Target("linux", "arm"),
    Target("linux", "arm", "v6"),
    Target("linux", "arm", "v7"),
    Target("linux", "s390x"),
    Target("linux", "ppc64le"),
    Target("linux-rt", "amd64"),
    Target("windows", "amd64"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """What both are given.

    Attributes:
        seed: The seed; -1 where the case is not of one.
        tree: The entries of every layer.
        mtime: Their time.
        compressions: One layer for each, lowest first.
        targets: One image for each.
        labels, user, created: Of the images; what is empty is not given.
        annotations: Of the manifests and the index.
        tags: The names of the index in an archive of a layout, the last that of the first image; without any, no archive.
    """

    seed: int
    tree: Mapping[str, Node]
    mtime: int
    compressions: tuple[str, ...]
    targets: tuple[Target, ...]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    user: str
    created: str
    tags: tuple[str, ...] = ()


def make_case(seed: int) -> Case:
    """The case of a seed."""
    source = random.Random(seed)
    tree = make_tree(source)
    compressions = ["none", "gzip", "zstd"] if seed % 4 == 0 else ["none", "gzip"]
    source.shuffle(compressions)
    targets = {target.text(): target for target in source.sample(TARGETS, source.choice((0, 1, 1, 1, 2, 2, 3, 5)))}
    return Case(
        seed=seed,
        tree=tree,
        mtime=source.choice(TIMES) if source.random() < 0.8 else source.randrange(8**11),
        compressions=tuple(compressions),
        targets=tuple(targets.values()),
        labels=_texts(source),
        annotations=_texts(source),
        user=source.choice(("", "65532:65532", _name(source, 20))),
        created=source.choice(CREATED),
        tags=tuple(source.sample(TAGS, source.randint(1, 4))) if seed % 20 == 0 else (),
    )


def make_tree(source: random.Random) -> dict[str, Node]:
    """A tree: nothing below a file or link, links that stay inside and do not run in circles."""
    tree: dict[str, Node] = {}
    if source.random() < 0.003:  # an archive that ends at the boundary of a member, or beside it
        size = source.choice((1, 1, 2)) * MIB - 1536 + source.choice((-513, -512, -1, 0, 1, 512, 1024))
        return {
            "lib/x.so" if source.random() < 0.5 else "x": file(
                source.randbytes(1024) * (size // 1024) + b"x" * (size % 1024)
            )
        }
    taken: set[str] = set()
    for _ in range(source.choice((0, 1, 1, 2, 3, 4, 6, 9))):
        path = _path(source, [item for item in taken if item not in tree or tree[item].kind == b"5"])
        parents = [path[:at] for at, character in enumerate(path) if character == "/"]
        if path in taken or any(tree[parent].kind != b"5" for parent in parents if parent in tree):
            continue
        taken.update(parents, [path])
        kind = source.random()
        if kind < 0.5:
            tree[path] = file(source.randbytes(source.choice(SIZES)), _mode(source))
        elif kind < 0.7:
            tree[path] = folder(_mode(source))
        else:
            known = [item for item in taken if item != path and not path.startswith(item + "/")]
            tree[path] = link(_target(source, path, sorted(known)))
    return tree


def _mode(source: random.Random) -> int:
    return source.choice(MODES) if source.random() < 0.8 else source.randrange(0o1000)


def _path(source: random.Random, parents: list[str]) -> str:
    """A path of at most 4,096 bytes; many have just the length at which a field is full."""
    chance, letters = source.random(), source.choice(ALPHABETS) if source.random() < 0.4 else "abc"
    if chance < 0.25:
        total = source.choice((98, 99, 100, 101, 102, 155, 156, 157, 254, 255, 256, 257, 258))
        return _parts(source, total, letters)
    if chance < 0.5:
        before, after = source.choice((99, 100, 101, 154, 155, 156)), source.choice((1, 2, 98, 99, 100, 101))
        return f"{_parts(source, before, letters)}/{_name(source, after, letters)}"
    if chance < 0.55:
        return "/".join(_name(source, source.randint(1, 6), letters) for _ in range(source.randint(10, 40)))
    if chance < 0.555:
        return _parts(source, 4096, letters)
    name = source.choice(NAMES) if source.random() < 0.6 else _name(source, source.randint(1, 15), letters)
    short = sorted(parent for parent in parents if len(parent.encode()) < 3000)
    if short and chance > 0.9:  # a folder's neighbour, which its children come before or after
        near = source.choice(short) + source.choice("-. 0\n")
        return near if len(near.rpartition("/")[2].encode()) <= 255 else name
    return f"{source.choice(short)}/{name}" if short and source.random() < 0.5 else name


def _parts(source: random.Random, total: int, letters: str) -> str:
    """A path of so many bytes."""
    parts, longest = [], source.choice((10, 60, 120, 255)) if total < 1000 else 255
    while total > 0:
        size = min(total, source.randint(1, longest))
        size += (-1 if size > 1 else 1) if total - size == 1 else 0
        parts.append(_name(source, size, letters))
        total -= size + 1
    return "/".join(parts)


def _name(source: random.Random, size: int, letters: str = "abc") -> str:
    """A name of so many bytes."""
    text = "".join(source.choices(letters, k=size)).encode()[:size].decode(errors="ignore")
    text += "x" * (size - len(text.encode()))
    return "x" * size if text in (".", "..") or text.startswith(".wh.") else text


def _target(source: random.Random, path: str, known: list[str]) -> str:
    up = "../" * path.count("/")
    if known and source.random() < 0.4:
        target = up + source.choice(known)
        return target if len(target.encode()) <= 4096 else up + "to-"
    size = max(4, source.choice((4, 10, 97, 98, 99, 100, 101, 102, 300)) - len(up))
    letters = source.choice(ALPHABETS) if source.random() < 0.3 else "abc"
    return f"{up}to-{_name(source, size - 3, letters)}"  # no name of a tree starts so: it leads nowhere


def _texts(source: random.Random) -> dict[str, str]:
    return {_text(source): _text(source) for _ in range(source.choice((0, 0, 1, 2, 5)))}


def _text(source: random.Random) -> str:
    if source.random() < 0.3:  # UTF-8 and UTF-16 sort these otherwise
        return source.choice(ALPHABETS[-1])
    letters = "".join(ALPHABETS) + "\0\b\f\r\n/<>&"
    return "".join(source.choices(letters, k=source.choice((0, 1, 1, 2, 5, 20))))


def entries_of(tree: Mapping[str, Node]) -> Iterator[Entry]:
    for path, node in tree.items():
        if node.kind == b"0":
            yield File(path=path, content=node.content, mode=node.mode)
        elif node.kind == b"5":
            yield Directory(path=path, mode=node.mode)
        else:
            yield Symlink(path=path, target=node.target)


def built(case: Case) -> dict[str, bytes]:
    """What the package makes of a case, by name."""
    store, found = MemoryStore(), {}
    layers = []
    for name in case.compressions:
        layer = build_layer(entries_of(case.tree), into=store, compression=Compression(name), mtime=case.mtime)
        layers.append(layer)
        found[f"layer {name}"] = _read(store, layer.descriptor)
        found[f"size in {name}"] = str(layer.uncompressed_size).encode()
    images = []
    for target in case.targets:
        platform = Platform(os=target.os, architecture=target.architecture, variant=target.variant or None)
        image = build_image(
            layers,
            platform=platform,
            into=store,
            labels=case.labels,
            annotations=case.annotations,
            user=case.user or None,
            created=case.created or None,
        )
        images.append(image)
        raw = _read(store, image.root)
        config = json.loads(raw)["config"]
        config = Descriptor(media_type=config["mediaType"], digest=Digest(config["digest"]), size=config["size"])
        found[f"config {target.text()}"] = _read(store, config)
        found[f"manifest {target.text()}"] = raw
    index = build_index(images, into=store, annotations=case.annotations)
    if case.tags:
        found["archive"] = _archive(case, index, images)
    return {**found, "index": _read(store, index.root), "digest": str(index.digest).encode()}


def _archive(case: Case, index: Artifact, images: list[Artifact]) -> bytes:
    with tempfile.TemporaryDirectory() as parent:
        with open_store(f"oci-archive:{parent}/image.tar") as store:
            copy(index, store, tags=case.tags[:-1] or case.tags)
            if images and case.tags[1:]:
                copy(images[0], store, tags=case.tags[-1:])
        return Path(parent, "image.tar").read_bytes()


def _read(store: MemoryStore, descriptor: Descriptor) -> bytes:
    with store.fetch(descriptor) as content:
        return content.read()


def expected(case: Case) -> dict[str, bytes]:
    """What the page says, in the order in which one depends on the other; the codecs that it names write the layers."""
    archive = oracle.tar(case.tree, case.mtime)
    blobs = [Blob(name, _compressed(name, archive), archive) for name in case.compressions]
    found = {}
    for blob in sorted(blobs, key=lambda blob: blob.compression != "none"):
        found[f"layer {blob.compression}"] = blob.data
        found[f"size in {blob.compression}"] = str(len(archive)).encode()
    manifests = {}
    for target in case.targets:
        config = oracle_documents.config(target, blobs, labels=case.labels, user=case.user, created=case.created)
        manifests[target] = oracle_documents.manifest(config, blobs, annotations=case.annotations)
        found[f"config {target.text()}"] = config
        found[f"manifest {target.text()}"] = manifests[target]
    index = oracle_documents.index(manifests, annotations=case.annotations)
    found |= {"index": index, "digest": oracle_documents.digest(index).encode()}
    if case.tags:
        found["archive"] = oracle.tar(_layout(case, blobs, found), 0)
    return found


def _layout(case: Case, blobs: list[Blob], found: Mapping[str, bytes]) -> dict[str, Node]:
    reached = [data for name, data in found.items() if name.startswith(("config ", "manifest ", "index"))]
    tags = dict.fromkeys(case.tags[:-1] or case.tags, (oracle_documents.INDEX, found["index"]))
    if case.targets:
        reached += [blob.data for blob in blobs]
        if case.tags[1:]:
            tags[case.tags[-1]] = (oracle_documents.MANIFEST, found[f"manifest {case.targets[0].text()}"])
    return {path: file(data) for path, data in oracle_documents.layout(reached, tags).items()}


def _compressed(name: str, archive: bytes) -> bytes:
    if name == "gzip":
        blocks = (archive[at : at + MIB] for at in range(0, len(archive), MIB))
        return b"".join(deflate.gzip_compress(block, 4) for block in blocks)
    if name == "zstd":
        codec = zstandard.ZstdCompressor(level=3, threads=1, write_checksum=True, write_content_size=False)
        stream = codec.compressobj()  # it is not told the size: the parameters of a level depend on it
        return stream.compress(archive) + stream.flush()
    return archive


def difference(case: Case, made: Mapping[str, bytes]) -> str:
    """The first byte of what was made that is not as the page says; empty when there is none."""
    wanted = expected(case)
    for name, data in wanted.items():
        said = _broken(name, made[name], wanted["layer none"])
        if said or made[name] != data:
            pairs = enumerate(zip(data, made[name], strict=False))
            at = next((at for at, (one, other) in pairs if one != other), min(len(data), len(made[name])))
            spot = f" ({oracle.place(case.tree, case.mtime, at)})" if name == "layer none" else ""
            near = slice(max(0, at - 20), at + 40)
            return (
                f"{name}: {said or 'other bytes'}, first at {at}{spot}\n"
                f"  page:  {data[near]!r} ({len(data)} bytes)\n  built: {made[name][near]!r} ({len(made[name])} bytes)"
            )
    return "" if set(made) == set(wanted) else f"names: {sorted(set(made) ^ set(wanted))}"


def _broken(name: str, data: bytes, archive: bytes) -> str:
    """What is wrong in the form of a compressed layer, or with what is in it."""
    try:
        if name == "layer gzip" and oracle.gunzip(data) != archive:
            return "another archive"
        if name == "layer zstd":
            oracle.zstd_frame(data)
            if zstandard.ZstdDecompressor().decompressobj().decompress(data) != archive:
                return "another archive"
    except (BrokenError, zstandard.ZstdError) as error:
        return str(error)
    return ""


def misread(case: Case) -> str:
    """What Python's reader finds otherwise in the oracle's own archive; empty when it agrees."""
    archive, found = oracle.tar(case.tree, case.mtime), []
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", encoding="utf-8", errors="strict") as reader:
        for member in reader:
            content = reader.extractfile(member) if member.isreg() else None
            data = content.read() if content else b""
            found.append((member.name, Node(member.type, member.mode, data, member.linkname, member.size)))
            owner = (member.uid, member.gid, member.uname, member.gname, member.mtime)
            if owner != (0, 0, "", "", case.mtime):
                return f"{member.name!r} of {owner}"
        end = reader.offset
    wanted = oracle.complete(case.tree)
    for one, other in zip(wanted, found, strict=False):
        if one != other:
            return f"tarfile reads {other}, wanted {one}"[:1000]
    if len(wanted) != len(found):
        return f"tarfile finds {len(found)} entries, wanted {len(wanted)}"
    return "" if end + 512 <= len(archive) else "tarfile finds no end"


def campaign(count: int, seed: int) -> tuple[list[str], Counter[str]]:
    """Run cases: what differs, and how much was compared."""
    problems, seen = [], Counter[str]()
    for number in range(seed, seed + count):
        case = make_case(number)
        try:
            said = difference(case, built(case)) or misread(case)
        except OcibuildError as error:
            said = f"refused: {type(error).__name__}: {error}"[:1000]
        if said:
            problems.append(f"SEED {number} (python -m tests.property.oracle --seed {number} --count 1)\n{said}")
        parts = list(oracle.pieces(case.tree, case.mtime))
        headers = [piece for part, piece in parts if part.startswith("header")]
        seen.update(
            {
                "trees": 1,
                "entries": len(headers),
                "prefixes": sum(piece[345] > 0 for piece in headers),
                "pax headers": sum(part.startswith("pax header") for part, _ in parts),
                "archive bytes": sum(len(piece) for _, piece in parts),
                "archives of several gzip members": sum(len(piece) for _, piece in parts) > MIB,
                "images": len(case.targets),
                "layouts": bool(case.tags),
            }
        )
    return problems, seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    problems, seen = campaign(options.count, options.seed)
    print("\n".join(problems[:20]), end="\n" if problems else "")
    print(", ".join(f"{times:,} {what}" for what, times in seen.items()))
    print(f"{options.count} trees, {len(problems)} disagreements, {time.monotonic() - began:.1f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
