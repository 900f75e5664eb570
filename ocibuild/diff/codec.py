"""What compressed a layer: told from the blob's own bytes, by compressing its beginning again with each codec known here.

The blob is read through once, in bounded memory. It is hostile, but what it expands to was bounded before, by whoever
verified its archive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from ocibuild.errors import LayerError
from ocibuild.layer.compress import GZIP_LEVEL, MEMBER_SIZE, ZSTD_LEVEL
from ocibuild.layer.read import LAYER_CODECS

from .blob import BLOCKS_LIMIT, KEPT, Source, frame_body, frame_header, gzip_header, read_member, skip
from .difference import Difference
from .encoders import WITH_WORKERS, GzipTrial, in_words, zstd_encoders

__all__ = ["CodecFacts", "codec_differences", "describe_codec"]


_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\0": "xz"}
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_FORMAT_1 = {
    "gzip": ({"mtime": "0", "XFL": "0", "OS": "255 (unknown)", "flags": "0"}, ("libdeflate", GZIP_LEVEL)),
    "zstd": ({"checksum": "yes", "content size": "no", "dictionary": "none"}, (WITH_WORKERS, ZSTD_LEVEL)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecFacts:
    """How a blob was compressed, as far as that is certain.

    Attributes:
        codec: `gzip`, `zstd`, `xz` or `none`, by its first bytes.
        media_type: The media type it goes by.
        encoders: Encoder and level of each one that writes these bytes; none where no one known here does. Several where
            they write the same: short or simple data.
        told: Enough could be compared: where there are no encoders, it is none of those known here.
        stray: The number of the first member that those encoders, which wrote the ones before it, do not write; else 0.
        members: How many gzip members or zstd frames there are.
        member_size: The uncompressed bytes of each gzip member but the last, if they are equal and there are several.
        size: The uncompressed bytes of all gzip members.
        header: The fields of the first member's header, by name.
    """

    codec: str
    media_type: str
    encoders: tuple[tuple[str, int], ...] = ()
    told: bool = True
    stray: int = 0
    members: int = 1
    member_size: int | None = None
    size: int = field(default=0, compare=False)
    header: tuple[tuple[str, str], ...] = ()

    @property
    def agrees(self) -> bool:
        """The media type names the codec."""
        return LAYER_CODECS.get(self.media_type) == self.codec

    @property
    def is_format_1(self) -> bool:
        """Nothing speaks against this project's own codec settings."""
        if self.codec not in _FORMAT_1:
            return self.codec == "none"
        fields, encoder = _FORMAT_1[self.codec]
        known = dict(self.header)
        if self.codec == "zstd":
            sizes = self.members == 1 and "skippable frames" not in known
        else:
            sizes = self.member_size == MEMBER_SIZE or (self.members == 1 and self.size <= MEMBER_SIZE)
        same = all(known.get(name) == value for name, value in fields.items())
        return sizes and same and encoder in self.encoders and not self.stray

    @property
    def encoder(self) -> str:
        """The encoder and its level in words, as `libdeflate level 4`."""
        if self.codec not in _FORMAT_1:
            return ""
        if not self.told:
            return "an encoder that cannot be told"
        text = in_words((_FORMAT_1[self.codec][1],) if self.is_format_1 else self.encoders)
        return (text or "an encoder that is not known here") + f", but not member {self.stray}" * bool(self.stray)

    @property
    def parts(self) -> str:
        """The members in words, as `members of 1 MiB`."""
        if self.codec not in _FORMAT_1:
            return ""
        noun = "frame" if self.codec == "zstd" else "member"
        if self.members == 1:
            return f"one {noun}"
        if self.member_size is not None:
            return f"members of {_size(self.member_size)}"
        return f"{self.members:,} {noun}s" + " of various sizes" * (noun == "member")

    def __str__(self) -> str:
        text = ", ".join(part for part in (self.encoder, self.parts) if part) or self.codec
        return text + " (format 1)" * (self.is_format_1 and self.codec in _FORMAT_1)


def describe_codec(blob: BinaryIO, media_type: str) -> CodecFacts:
    """How a blob was compressed.

    Args:
        blob: The blob, read to its end in bounded memory.
        media_type: The media type it goes by, which may be wrong.

    Raises:
        LayerError: It is damaged. What a zstd block holds is looked at in the first MiB only.
    """
    source = Source(blob)
    head = source.peek(6)
    codec = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "none")
    if codec == "zstd" or int.from_bytes(head[:4], "little") in _SKIPPABLE:
        return _describe_zstd(source, media_type)
    if codec == "gzip":
        return _describe_gzip(source, media_type)
    return CodecFacts(codec=codec, media_type=media_type)


def codec_differences(a: CodecFacts, b: CodecFacts) -> tuple[Difference, ...]:
    """How two blobs were compressed in other ways, the most telling first."""
    found = []
    if a.codec != b.codec:
        texts = [item.codec if str(item) == item.codec else f"{item.codec}, {item}" for item in (a, b)]
        found.append(Difference(kind="codec", a=texts[0], b=texts[1]))
    else:
        found += _same_codec(a, b)
    if a.media_type != b.media_type:
        wrong = [side for side, item in (("first", a), ("second", b)) if not item.agrees]
        note = f"the {' and the '.join(wrong)} is not what the bytes are" if wrong else ""
        found.append(Difference(kind="codec", where="media type", a=a.media_type, b=b.media_type, note=note))
    return tuple(found)


def _same_codec(a: CodecFacts, b: CodecFacts) -> Iterator[Difference]:
    texts = [item.encoder + " (format 1)" * item.is_format_1 for item in (a, b)]
    # Where both may be the work of one encoder, they are not told apart.
    apart = a.told and b.told and not set(a.encoders) & set(b.encoders)
    if a.codec in _FORMAT_1 and apart and a.encoder != b.encoder:
        names = [{name for name, _ in item.encoders} for item in (a, b)]
        where = "level" if names[0] == names[1] and len(names[0]) == 1 else "encoder"
        yield Difference(kind="codec", where=where, a=texts[0], b=texts[1])
    elif a.stray != b.stray:
        yield Difference(kind="codec", where="encoder", a=texts[0], b=texts[1])
    if a.parts != b.parts and not (_may_have(a, b) or _may_have(b, a)):
        noun = "frames" if a.codec == "zstd" else "members"
        yield Difference(kind="codec", where=noun, a=a.parts, b=b.parts)
    ours, theirs = dict(a.header), dict(b.header)
    for name in sorted(ours.keys() | theirs.keys(), key=[*ours, *theirs].index):
        if ours.get(name) != theirs.get(name):
            where = f"{a.codec} header {name}"
            yield Difference(kind="codec", where=where, a=ours.get(name), b=theirs.get(name))


def _may_have(single: CodecFacts, other: CodecFacts) -> bool:
    """A single member is what the other's encoder would have made of so few bytes."""
    return single.members == 1 and other.member_size is not None and single.size <= other.member_size


def _describe_gzip(source: Source, media_type: str) -> CodecFacts:
    trial = GzipTrial()
    members = size = last = 0
    member_size: int | None = None
    equal = True
    header: tuple[tuple[str, str], ...] = ()
    while source.peek(1):
        # All members before the last have the size of the first.
        equal = equal and last == (member_size or 0)
        kept, content, last = read_member(source)
        start, fields = gzip_header(kept)
        if not members:
            member_size, header = last, fields
        members += 1
        size += last
        # The checksum and the size come last.
        whole = len(content) == last and len(kept) < KEPT
        trial.add(kept[start:-8] if whole else kept[start:], content, whole=whole)
    equal = equal and members > 1 and last <= (member_size or 0)
    return CodecFacts(
        codec="gzip",
        media_type=media_type,
        encoders=trial.encoders,
        told=trial.told,
        stray=trial.stray,
        members=members,
        member_size=member_size if equal else None,
        size=size,
        header=header,
    )


def _describe_zstd(source: Source, media_type: str) -> CodecFacts:
    frames = skippable = 0
    blocks = BLOCKS_LIMIT
    content_size: int | None = None
    header: dict[str, str] = {}
    encoders: tuple[tuple[str, int], ...] = ()
    while source.peek(1):
        magic = source.take(4)
        if int.from_bytes(magic, "little") in _SKIPPABLE:
            skippable += 1
            skip(source)
            continue
        if _MAGIC.get(magic) != "zstd":
            raise LayerError("compressed data that is damaged: no zstd frame")
        frames += 1
        head, fields, size, checksum = frame_header(source)
        body, blocks = frame_body(source, blocks)
        source.take(4 * checksum)
        if frames == 1:
            header, content_size = fields, size
            encoders = zstd_encoders(magic + head, body, content_size, whole=len(body) < KEPT)
    if skippable:
        header["skippable frames"] = str(skippable)
    return CodecFacts(
        codec="zstd",
        media_type=media_type,
        encoders=encoders,
        # Of long data in one call no beginning can be written again.
        told=bool(encoders) or (content_size or 0) <= MEMBER_SIZE,
        members=frames,
        header=tuple(header.items()),
    )


def _size(size: int) -> str:
    for unit, name in ((1024 * 1024, "MiB"), (1024, "KiB")):
        if size and size % unit == 0:
            return f"{size // unit:,} {name}"
    return f"{size:,} bytes"
