"""What compressed a layer: real encoders at every level, headers, members, and damage."""

from __future__ import annotations

import gzip
import io
import random
import shutil
import subprocess
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from deflate import gzip_compress
from hypothesis import given, settings
from hypothesis import strategies as st

from ocibuild.diff.codec import CodecFacts, codec_differences, describe_codec
from ocibuild.errors import LayerError
from ocibuild.layer.compress import GZIP_LEVEL, MEMBER_SIZE, Compression, compress
from ocibuild.oci import media_types
from tests.support.tools import TREES, missing

LIBRARY = (TREES[0] / "usr/lib/postgresql/18/lib/pgrx_hello.so").read_bytes()
LONG = (LIBRARY + random.Random(1).randbytes(100_000) + LIBRARY[::-1]) * 4
GZIP, ZSTD = media_types.LAYER_GZIP, media_types.LAYER_ZSTD


def facts(blob: bytes, media_type: str = GZIP) -> CodecFacts:
    return describe_codec(io.BytesIO(blob), media_type)


def blocks(data: bytes, size: int = MEMBER_SIZE) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def gzipped(data: bytes, level: int = 6, *, mtime: int = 0, speed: int = 0) -> bytes:
    """What Python's own writes, but for the header, which depends on its version."""
    head = b"\x1f\x8b\x08\0" + mtime.to_bytes(4, "little") + bytes([speed, 255])
    return head + gzip.compress(data, level, mtime=0)[10:]


def layer(data: bytes, codec: Compression) -> bytes:
    return b"".join(compress(blocks(data), codec))


def rows(a: CodecFacts, b: CodecFacts) -> list[tuple[str, str | None, str | None]]:
    found = codec_differences(a, b)
    assert {item.kind for item in found} <= {"codec"}
    return [(item.where, item.a, item.b) for item in found]


def test_format_1_is_named() -> None:
    assert len(LONG) > 2 * MEMBER_SIZE
    assert str(facts(layer(LONG, Compression.GZIP))) == "libdeflate level 4, members of 1 MiB (format 1)"
    assert str(facts(layer(LIBRARY, Compression.GZIP))) == "libdeflate level 4, one member (format 1)"
    assert str(facts(layer(LONG, Compression.ZSTD), ZSTD)) == "zstd level 3 with workers, one frame (format 1)"
    assert str(facts(layer(LIBRARY, Compression.ZSTD), ZSTD)) == "zstd level 3 with workers, one frame (format 1)"
    assert str(facts(LONG, media_types.LAYER)) == "none"


CASES = [pytest.param(LIBRARY, level, id=f"whole-{level}") for level in range(1, 13)]
BEGUN = [pytest.param(LONG, level, id=f"begun-{level}") for level in (1, 6, 9)]


@pytest.mark.parametrize(("data", "level"), [*CASES, *BEGUN])
def test_libdeflate(level: int, data: bytes) -> None:
    found = facts(bytes(gzip_compress(data, level)))
    assert ("libdeflate", level) in found.encoders
    assert {name for name, _ in found.encoders} == {"libdeflate"}
    assert len(found.encoders) <= 2
    assert found.is_format_1 == (level == GZIP_LEVEL and data is LIBRARY)


@pytest.mark.parametrize(("data", "level"), [*CASES[:9], *BEGUN])
def test_zlib(level: int, data: bytes) -> None:
    found = facts(gzipped(data, level))
    assert found.encoders == (("zlib", level),)
    assert found.encoder == f"zlib level {level}"
    assert not found.is_format_1


def one_piece(level: int, workers: int, data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=level, threads=workers).compress(data)


def streamed(level: int, workers: int, data: bytes) -> bytes:
    codec = zstandard.ZstdCompressor(level=level, threads=workers, write_checksum=True).compressobj()
    return b"".join([codec.compress(block) for block in blocks(data, 100_000)]) + codec.flush()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("data", "level"), [(LIBRARY, level) for level in range(1, 13)] + [(LONG, 1), (LONG, 3), (LONG, 12), (LONG, 15)]
)
def test_zstd(level: int, workers: int, data: bytes) -> None:
    found = facts(streamed(level, workers, data), ZSTD)
    assert ("zstd with workers" if workers else "zstd", level) in found.encoders
    assert found.is_format_1 == (level == 3 and workers == 2)
    assert found.agrees
    assert dict(found.header)["content size"] == "no"


@pytest.mark.parametrize("level", [1, 3, 9])
def test_zstd_in_one_call(level: int) -> None:
    found = facts(one_piece(level, 0, LIBRARY), ZSTD)
    assert ("zstd", level) in found.encoders
    assert dict(found.header) == {
        "window": "as the content",
        "checksum": "no",
        "content size": "yes",
        "dictionary": "none",
    }
    long = facts(one_piece(level, 0, LONG), ZSTD)
    assert ("zstd", level) in long.encoders or not long.told


def test_short_data_names_every_level_that_writes_it() -> None:
    found = facts(gzipped(b"", 9, speed=2))
    assert found.encoder == "zlib level 1 to 9"
    # So it may be the same level, and only the headers differ.
    other = facts(gzipped(b"", 1, mtime=5, speed=4))
    assert rows(found, other) == [
        ("gzip header mtime", "0", "5"),
        ("gzip header XFL", "2 (slowest)", "4 (fastest)"),
    ]


def test_what_cannot_be_told_is_not_said() -> None:
    zeros = facts(gzipped(bytes(3 * MEMBER_SIZE), 9))
    assert zeros.encoder == "an encoder that cannot be told"
    assert all(where != "encoder" for where, _, _ in rows(zeros, facts(gzipped(LONG, 9))))


def test_levels_differ() -> None:
    a, b = (facts(bytes(gzip_compress(LIBRARY, level))) for level in (4, 6))
    assert rows(a, b) == [("level", "libdeflate level 4 (format 1)", "libdeflate level 6")]


def test_encoder_members_and_header_differ() -> None:
    a, b = facts(layer(LONG, Compression.GZIP)), facts(gzipped(LONG, 6, mtime=7))
    assert rows(a, b) == [
        ("encoder", "libdeflate level 4 (format 1)", "zlib level 6"),
        ("members", "members of 1 MiB", "one member"),
        ("gzip header mtime", "0", "7"),
    ]


def test_codecs_differ() -> None:
    a, b = facts(layer(LONG, Compression.GZIP)), facts(layer(LONG, Compression.ZSTD), ZSTD)
    assert rows(a, b) == [
        ("", f"gzip, {a}", f"zstd, {b}"),
        ("media type", GZIP, ZSTD),
    ]
    assert rows(a, facts(LONG, media_types.LAYER))[0] == ("", f"gzip, {a}", "none")


def test_a_media_type_that_is_wrong() -> None:
    a, b = facts(gzipped(b"x")), facts(gzipped(b"x"), ZSTD)
    [found] = codec_differences(a, b)
    assert (found.where, found.note) == ("media type", "the second is not what the bytes are")
    [docker] = codec_differences(a, facts(gzipped(b"x"), media_types.DOCKER_LAYER_GZIP))
    assert not docker.note


def test_nothing_tells_them_apart() -> None:
    a = facts(layer(LONG, Compression.GZIP))
    assert codec_differences(a, a) == ()


def test_members_of_other_sizes() -> None:
    small = [bytes(gzip_compress(block, 4)) for block in blocks(LONG, 300_000)]
    assert facts(b"".join(small)).parts == "members of 300,000 bytes"
    assert not facts(b"".join(small)).is_format_1
    assert facts(b"".join(small[::-1])).parts == f"{len(small)} members of various sizes"
    pieces = [bytes(gzip_compress(block, 4)) for block in (LONG[:5], LONG[5:7], LONG[7:20])]
    assert facts(b"".join(pieces)).parts == "3 members of various sizes"
    # One more member at the end that is empty.
    assert facts(small[0] + gzipped(b"")).parts == "members of 300,000 bytes"


def test_few_bytes_are_no_other_member_size() -> None:
    long, short = facts(layer(LONG, Compression.GZIP)), facts(layer(LIBRARY, Compression.GZIP))
    assert all(where != "members" for where, _, _ in rows(long, short))


def test_a_stray_member() -> None:
    pieces = blocks(LONG)
    good = b"".join(bytes(gzip_compress(piece, 4)) for piece in pieces)
    bad = b"".join(bytes(gzip_compress(piece, 6 if at == 1 else 4)) for at, piece in enumerate(pieces))
    assert facts(bad).encoder == "libdeflate level 4, but not member 2"
    assert rows(facts(good), facts(bad)) == [
        ("encoder", "libdeflate level 4 (format 1)", "libdeflate level 4, but not member 2")
    ]


def test_header_fields(tmp_path: Path) -> None:
    path = tmp_path / "layer.tar"
    with gzip.GzipFile(path, "wb", mtime=1_000) as out:
        out.write(LIBRARY)
    raw = path.read_bytes()
    found = facts(raw)
    assert dict(found.header) == {
        "mtime": "1000",
        "XFL": "2 (slowest)",
        "OS": "255 (unknown)",
        "flags": "8",
        "name": "layer.tar",
    }
    assert found.encoder == "zlib level 9"
    # An extra field, a name and a comment that are not UTF-8, a checksum of the header.
    head = bytes([*raw[:3], 30, *raw[4:10]]) + b"\x03\0abc" + b"na\xff\0" + b"co\xfe\0"
    body = raw[raw.index(b"layer.tar\0") + 10 :]
    checksum = (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little")
    found = facts(head + checksum + body)
    assert dict(found.header).items() >= {"extra": "616263", "name": r"na\xff", "comment": r"co\xfe"}.items()
    assert found.encoder == "zlib level 9"


def test_a_name_of_megabytes() -> None:
    raw = gzipped(LIBRARY, 6)
    blob = bytes([*raw[:3], 8, *raw[4:10]]) + b"n" * (3 * MEMBER_SIZE) + b"\0" + raw[10:]
    assert dict(facts(blob).header)["name"] == "n" * 100 + "…"


def test_the_gzip_command(tmp_path: Path) -> None:
    command = shutil.which("gzip") or missing("needs gzip")
    path = tmp_path / "layer.tar"
    path.write_bytes(LONG)
    found = facts(subprocess.run([command, "-c", path], capture_output=True, check=True).stdout)
    fields = dict(found.header)
    assert (fields["name"], fields["OS"]) == ("layer.tar", "3 (Unix)")
    assert found.encoder == "an encoder that is not known here"
    assert found.parts == "one member"


def test_an_encoder_that_is_not_known() -> None:
    """Flushed where none of those known flushes, as pigz and Go do; no name is guessed."""
    codec = zlib.compressobj(6, zlib.DEFLATED, 31)
    *pieces, last = blocks(LONG, 128 * 1024)
    out = [codec.compress(piece) + codec.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    found = facts(b"".join([*out, codec.compress(last), codec.flush()]))
    assert found.encoder == "an encoder that is not known here"
    assert not found.is_format_1


def test_frames_and_skippable_frames() -> None:
    frame = one_piece(3, 0, LIBRARY)
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    assert facts(frame * 2, ZSTD).parts == "2 frames"
    found = facts(skippable + frame + skippable, ZSTD)
    assert (found.codec, found.members, dict(found.header)["skippable frames"]) == ("zstd", 1, "2")
    assert rows(facts(frame, ZSTD), facts(frame * 2, ZSTD)) == [("frames", "one frame", "2 frames")]


@pytest.mark.parametrize("codec", [Compression.GZIP, Compression.ZSTD])
def test_truncated(codec: Compression) -> None:
    blob = layer(LIBRARY, codec)
    for end in (7, 12, 100, len(blob) // 2, len(blob) - 1):
        with pytest.raises(LayerError):
            facts(blob[:end])


@pytest.mark.parametrize("end", [b"x", b"\0\0", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"])
def test_what_comes_after(end: bytes) -> None:
    for codec in (Compression.GZIP, Compression.ZSTD):
        with pytest.raises(LayerError):
            facts(layer(LIBRARY, codec) + end)


SMALL = [
    bytes(gzip_compress(LIBRARY[:3_000], 4)),
    layer(LIBRARY[:3_000], Compression.ZSTD),
    one_piece(3, 0, b"a" * 500),
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SMALL), st.data())
def test_any_mutation_is_told_or_a_layer_error(blob: bytes, data: st.DataObject) -> None:
    changed = bytearray(blob)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = facts(bytes(changed))
    except LayerError:
        return
    assert str(found)
    assert all(item.kind == "codec" for item in codec_differences(facts(blob), found))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([b"", b"\x1f\x8b", b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18", b"\xfd7zXZ\0"]),
    st.binary(),
)
def test_any_bytes_are_told_or_a_layer_error(magic: bytes, rest: bytes) -> None:
    with suppress(LayerError):
        assert str(facts(magic + rest))


class Trickle(io.RawIOBase):
    """A stream that gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        out, self._data = self._data[:7], self._data[7:]
        return out


@pytest.mark.parametrize("codec", [Compression.GZIP, Compression.ZSTD])
def test_short_reads_tell_the_same(codec: Compression) -> None:
    blob = layer(LIBRARY[:20_000], codec)
    assert describe_codec(Trickle(blob), GZIP) == facts(blob)  # type: ignore[arg-type]


def test_many_tiny_members_take_no_time_each() -> None:
    found = facts(gzipped(b"") * 20_000)
    assert (found.members, found.parts) == (20_000, "members of 0 bytes")
