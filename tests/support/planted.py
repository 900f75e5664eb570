"""Planted differences: pairs of images of which the second differs from the first in one known thing.

An image is taken apart into its documents and archives, one thing is changed, and everything is written again. Nothing of
the product writes here: archives, compressed blobs and documents are made by hand, so that what it would refuse or never
make can be planted, too. An image taken apart and written again without a change has the digest it had.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import zstandard
from deflate import gzip_compress

from ocibuild.oci import media_types

__all__ = [
    "AMD64",
    "ARM64",
    "BOTH",
    "FIELDS",
    "Change",
    "Image",
    "Index",
    "Layer",
    "Member",
    "add_file",
    "add_link",
    "both",
    "change_config",
    "change_index",
    "change_manifest",
    "change_member",
    "change_members",
    "content",
    "drop_platform",
    "elf_section",
    "field",
    "flip",
    "join",
    "load",
    "packed",
    "padded",
    "pax",
    "remove_file",
    "rename",
    "repack",
    "reverse_layers",
    "spaced",
    "split_layers",
    "swap_members",
    "take_apart",
    "write",
]

AMD64, ARM64 = ("linux/amd64",), ("linux/arm64",)
BOTH = AMD64 + ARM64

BLOCK = 512
MEMBER_SIZE = 1024 * 1024
RECORD = 10_240
"""What tar pads an archive to, in bytes."""

FIELDS = {
    "name": (0, 100), "mode": (100, 8), "uid": (108, 8), "gid": (116, 8), "size": (124, 12), "mtime": (136, 12),
    "checksum": (148, 8), "type": (156, 1), "link": (157, 100), "magic": (257, 8), "uname": (265, 32), "gname": (297, 32),
}  # fmt: skip
"""Where a header's fields are, and how long."""


# Blobs


def members_of(archive: bytes, level: int = 4) -> list[bytes]:
    """The gzip members of format 1, at any level."""
    return [
        bytes(gzip_compress(archive[start : start + MEMBER_SIZE], level))
        for start in range(0, len(archive), MEMBER_SIZE)
    ]


def _stamped(archive: bytes) -> bytes:
    stamp = struct.pack("<I", 1_700_000_000)
    return b"".join(member[:4] + stamp + member[8:] for member in members_of(archive))


packed: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": (media_types.LAYER_GZIP, lambda archive: b"".join(members_of(archive))),
    "gzip level 6": (media_types.LAYER_GZIP, lambda archive: b"".join(members_of(archive, 6))),
    "zlib level 9": (media_types.LAYER_GZIP, lambda archive: gzip.compress(archive, 9, mtime=0)),
    "gzip with a time": (media_types.LAYER_GZIP, _stamped),
    "zstd": (media_types.LAYER_ZSTD, lambda archive: zstandard.ZstdCompressor(level=3).compress(archive)),
    "none": (media_types.LAYER, bytes),
}
"""Ways to compress an archive: the layer's media type, and the function."""


def canonical(value: Any) -> bytes:
    """JSON as the product writes it; its keys are ASCII, so their order is that of RFC 8785."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def spaced(value: Any) -> bytes:
    """The same JSON as a person would write it."""
    return json.dumps(value, indent=2).encode() + b"\n"


# Images, taken apart


@dataclass(frozen=True, kw_only=True)
class Layer:
    """An archive, and how it is compressed: a key of `packed`."""

    archive: bytes
    codec: str = "gzip"


@dataclass(frozen=True, kw_only=True)
class Image:
    """One platform's image: the documents without the digests and sizes, and the layers.

    Attributes:
        platform: As `linux/amd64`.
        descriptor: What the index says of it, `platform` and perhaps `annotations`.
        manifest: The manifest without `config` and `layers`.
        config: The configuration; its diff IDs are those of the layers.
        layers: Lowest first.
        encode: How the manifest is written.
    """

    platform: str
    descriptor: dict[str, Any]
    manifest: dict[str, Any]
    config: dict[str, Any]
    layers: tuple[Layer, ...]
    encode: Callable[[Any], bytes] = canonical


@dataclass(frozen=True, kw_only=True)
class Index:
    """An index without its manifests, and these."""

    document: dict[str, Any]
    images: tuple[Image, ...]
    tag: str = "1"


Change = Callable[[Index], Index]
"""Something planted."""


def load(layout: Path) -> Index:
    """Take the one image of a layout apart. Layers must be gzip, as the product writes them."""
    [entry] = json.loads((layout / "index.json").read_bytes())["manifests"]

    def blob(descriptor: dict[str, Any]) -> bytes:
        algorithm, _, encoded = descriptor["digest"].partition(":")
        found: bytes = (layout / "blobs" / algorithm / encoded).read_bytes()
        return found

    document = json.loads(blob(entry))
    images = []
    for item in document.pop("manifests"):
        manifest = json.loads(blob(item))
        config = json.loads(blob(manifest.pop("config")))
        layers = tuple(Layer(archive=gzip.decompress(blob(layer))) for layer in manifest.pop("layers"))
        rest = {key: value for key, value in item.items() if key not in ("mediaType", "digest", "size")}
        platform = f"{config['os']}/{config['architecture']}"
        images.append(Image(platform=platform, descriptor=rest, manifest=manifest, config=config, layers=layers))
    return Index(document=document, images=tuple(images))


def write(index: Index, layout: Path, *, claims: Index | None = None) -> Path:
    """Write a layout with the image, tagged; the diff IDs are those of another image where one is given."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def keep(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        encoded = hashlib.sha256(data).hexdigest()
        (blobs / encoded).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{encoded}", "size": len(data), **more}

    manifests = []
    for image, claimed in zip(index.images, (claims or index).images, strict=True):
        diff_ids = [f"sha256:{hashlib.sha256(layer.archive).hexdigest()}" for layer in claimed.layers]
        config = {**image.config, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        layers = [keep(packed[layer.codec][1](layer.archive), packed[layer.codec][0]) for layer in image.layers]
        manifest = {
            **image.manifest,
            "config": keep(canonical(config), media_types.IMAGE_CONFIG),
            "layers": layers,
        }
        manifests.append(keep(image.encode(manifest), media_types.IMAGE_MANIFEST, **image.descriptor))
    root = keep(canonical({**index.document, "manifests": manifests}), media_types.IMAGE_INDEX)
    root["annotations"] = {"org.opencontainers.image.ref.name": index.tag}
    (layout / "index.json").write_bytes(canonical({"schemaVersion": 2, "manifests": [root]}))
    (layout / "oci-layout").write_bytes(canonical({"imageLayoutVersion": "1.0.0"}))
    return layout


# Archives, taken apart


class Member(NamedTuple):
    """A member of an archive: its header, its content without padding, and the extended headers before it."""

    header: bytes
    content: bytes = b""
    extended: bytes = b""

    @property
    def path(self) -> str:
        """The name; those of the fixtures need no prefix."""
        return self.header[:100].split(b"\0")[0].decode()


def take_apart(archive: bytes) -> list[Member]:
    """The members of an archive of format 1 without extended headers."""
    found, at = [], 0
    while archive[at : at + BLOCK].strip(b"\0"):
        header = archive[at : at + BLOCK]
        size = int(header[124:135], 8)
        found.append(Member(header, archive[at + BLOCK : at + BLOCK + size]))
        at += BLOCK + size + -size % BLOCK
    return found


def join(members: Iterable[Member]) -> bytes:
    """The archive of the members: two blocks of zeros at its end."""
    pieces = [item.extended + item.header + item.content + bytes(-len(item.content) % BLOCK) for item in members]
    return b"".join(pieces) + bytes(2 * BLOCK)


def field(name: str, value: bytes) -> Callable[[Member], Member]:
    """Another value in a header's field, and the checksum for it."""
    start, length = FIELDS[name]

    def change(member: Member) -> Member:
        header = bytearray(member.header)
        header[start : start + length] = value.ljust(length, b"\0")
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        return member._replace(header=bytes(header))

    return change


def content(change: Callable[[bytes], bytes]) -> Callable[[Member], Member]:
    """Another content, and the size for it."""

    def changed(member: Member) -> Member:
        data = change(member.content)
        return field("size", b"%011o" % len(data))(member)._replace(content=data)

    return changed


def pax(key: str, value: str) -> Callable[[Member], Member]:
    """A pax header with one record before the member."""
    rest = f" {key}={value}\n"
    length = len(rest) + 1
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    record = f"{length}{rest}".encode()

    def change(member: Member) -> Member:
        # A file's header is as good as any: 0644, owner 0, mtime 0.
        header = field("name", b"././@PaxHeader")(field("type", b"x")(member)).header
        block = field("size", b"%011o" % len(record))(Member(header))
        return member._replace(extended=block.header + record + bytes(-len(record) % BLOCK))

    return change


def rename(path: str) -> Callable[[Member], Member]:
    """Another path."""
    return field("name", path.encode())


# Changes


def _images(change: Callable[[Image], Image], platforms: tuple[str, ...]) -> Change:
    def changed(index: Index) -> Index:
        images = (change(image) if image.platform in platforms else image for image in index.images)
        return replace(index, images=tuple(images))

    return changed


def _archives(change: Callable[[bytes], bytes], platforms: tuple[str, ...]) -> Change:
    """In the lowest layer."""

    def changed(image: Image) -> Image:
        layer, *others = image.layers
        return replace(image, layers=(replace(layer, archive=change(layer.archive)), *others))

    return _images(changed, platforms)


def change_members(change: Callable[[list[Member]], list[Member]], platforms: tuple[str, ...] = BOTH) -> Change:
    """Change the list of members of the lowest layer."""
    return _archives(lambda archive: join(change(take_apart(archive))), platforms)


def change_member(path: str, *changes: Callable[[Member], Member], platforms: tuple[str, ...] = BOTH) -> Change:
    """Change the member at a path, or every one for an empty path."""

    def changed(members: list[Member]) -> list[Member]:
        assert not path or any(item.path == path for item in members), path
        found = []
        for item in members:
            changing = item
            for change in changes if path in ("", item.path) else ():
                changing = change(changing)
            found.append(changing)
        return found

    return change_members(changed, platforms)


def _added(member: Callable[[Member], Member]) -> Callable[[list[Member]], list[Member]]:
    """One more member, made of a file's header, where its path belongs."""

    def changed(members: list[Member]) -> list[Member]:
        pattern = next(item for item in members if item.header[156:157] == b"0")
        new = member(pattern)
        # A folder's name ends in a slash here, which sorts where its key without one does for the fixtures' names.
        return sorted([*members, new], key=lambda item: item.path)

    return changed


def add_file(path: str, data: bytes, platforms: tuple[str, ...] = BOTH) -> Change:
    """A file more, in a folder that is there."""
    return change_members(_added(lambda item: rename(path)(content(lambda _: data)(item))), platforms)


def _link(target: str) -> Callable[[Member], Member]:
    def changed(member: Member) -> Member:
        linked = field("link", target.encode())(field("type", b"2")(field("mode", b"0000777")(member)))
        return content(lambda _: b"")(linked)

    return changed


def add_link(path: str, target: str, platforms: tuple[str, ...] = BOTH) -> Change:
    """A symbolic link at a path: one more member, or in place of the file there."""

    def changed(members: list[Member]) -> list[Member]:
        others = [item for item in members if item.path != path]
        return _added(lambda item: rename(path)(_link(target)(item)))(others)

    return change_members(changed, platforms)


def remove_file(path: str, platforms: tuple[str, ...] = BOTH) -> Change:
    """A file less."""
    return change_members(lambda members: [item for item in members if item.path != path], platforms)


def swap_members(first: str, second: str, platforms: tuple[str, ...] = BOTH) -> Change:
    """Two members, each in the other's place."""

    def changed(members: list[Member]) -> list[Member]:
        a, b = (next(n for n, item in enumerate(members) if item.path == path) for path in (first, second))
        swapped = list(members)
        swapped[a], swapped[b] = members[b], members[a]
        return swapped

    return change_members(changed, platforms)


def padded(platforms: tuple[str, ...] = BOTH) -> Change:
    """More zeros at the end of the archive, up to a whole record."""
    return _archives(lambda archive: archive + bytes(-len(archive) % RECORD), platforms)


def repack(codec: str, platforms: tuple[str, ...] = BOTH) -> Change:
    """The lowest layer compressed in another way."""
    return _images(
        lambda image: replace(image, layers=(replace(image.layers[0], codec=codec), *image.layers[1:])), platforms
    )


def split_layers(folder: str) -> Change:
    """The lowest layer made two: what is not in a folder, and the folder."""

    def changed(image: Image) -> Image:
        members = take_apart(image.layers[0].archive)
        inside = [item for item in members if item.path.startswith(folder + "/")]
        outside = [item for item in members if item not in inside]
        layers = tuple(Layer(archive=join(half)) for half in (outside, inside))
        return replace(image, layers=layers, config={**image.config, "history": image.config["history"] * 2})

    return _images(changed, BOTH)


def reverse_layers(platforms: tuple[str, ...] = BOTH) -> Change:
    """The layers the other way round."""
    return _images(lambda image: replace(image, layers=image.layers[::-1]), platforms)


def change_config(change: Callable[[dict[str, Any]], None], platforms: tuple[str, ...] = BOTH) -> Change:
    """Change the configuration in place; what is given is a copy."""

    def changed(image: Image) -> Image:
        config = json.loads(json.dumps(image.config))
        change(config)
        return replace(image, config=config)

    return _images(changed, platforms)


def change_manifest(
    platforms: tuple[str, ...] = BOTH,
    *,
    annotations: dict[str, str] | None = None,
    described: dict[str, str] | None = None,
    encode: Callable[[Any], bytes] = canonical,
) -> Change:
    """Other annotations, in the manifest or on its descriptor in the index, or another spelling."""

    def changed(image: Image) -> Image:
        manifest, descriptor = dict(image.manifest), dict(image.descriptor)
        if annotations is not None:
            manifest["annotations"] = {**manifest.get("annotations", {}), **annotations}
        if described is not None:
            descriptor["annotations"] = described
        return replace(image, manifest=manifest, descriptor=descriptor, encode=encode)

    return _images(changed, platforms)


def both(*changes: Change) -> Change:
    """One change after the other."""

    def changed(index: Index) -> Index:
        for change in changes:
            index = change(index)
        return index

    return changed


def change_index(*, annotations: dict[str, str] | None = None, reverse: bool = False, tag: str = "1") -> Change:
    """Other annotations, the manifests the other way round, or another tag."""

    def changed(index: Index) -> Index:
        document = {**index.document, "annotations": {**index.document["annotations"], **(annotations or {})}}
        return replace(index, document=document, images=index.images[:: -1 if reverse else 1], tag=tag)

    return changed


def drop_platform(platform: str) -> Change:
    """A platform less."""
    return lambda index: replace(index, images=tuple(item for item in index.images if item.platform != platform))


# Libraries


def elf_section(data: bytes, name: str) -> range:
    """Where a section of a little-endian ELF file of 64 bits is."""
    assert data[:6] == b"\x7fELF\x02\x01"
    [start] = struct.unpack_from("<Q", data, 0x28)
    count, names = struct.unpack_from("<2H", data, 0x3C)
    rows = [struct.unpack_from("<2I4Q", data, start + 64 * number) for number in range(count)]
    table = rows[names][4]
    for row in rows:
        at = table + row[0]
        if data[at : data.index(b"\0", at)] == name.encode():
            return range(row[4], row[4] + row[5])
    raise LookupError(name)


def flip(section: str, *, at: float = 0.5, data: bytes | None = None) -> Callable[[Member], Member]:
    """One byte changed in a section, so far into it; or other bytes written there."""

    def changed(library: bytes) -> bytes:
        found = bytearray(library)
        place = elf_section(library, section)
        spot = place[int(len(place) * at)]
        found[spot : spot + (len(data) if data else 1)] = data or bytes([library[spot] ^ 1])
        return bytes(found)

    return content(changed)
