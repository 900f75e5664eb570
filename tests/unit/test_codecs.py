"""Compression: the same bytes for any number of threads, read back by others."""

from __future__ import annotations

import gzip
import io
import random

import pytest
import zstandard

from ocibuild import Compression, File, MemoryStore, build_layer
from ocibuild.errors import LayerError
from ocibuild.layer import open_layer
from ocibuild.layer.compress import MEMBER_SIZE, ZSTD_LEVEL, compress
from ocibuild.layer.workers import Workers
from ocibuild.oci import media_types

CHANCE = random.Random(1)
DATA = CHANCE.randbytes(700_000) + b"select 1;\n" * 300_000 + CHANCE.randbytes(10)


def blocks(data: bytes) -> list[bytes]:
    return [data[start : start + MEMBER_SIZE] for start in range(0, len(data), MEMBER_SIZE)]


def test_threads_do_not_change_the_bytes() -> None:
    assert len(blocks(DATA)) > 3
    found = set()
    for count in (1, 2, 9):
        with Workers(count) as workers:
            found.add(b"".join(compress(blocks(DATA), Compression.GZIP, workers=workers)))
    assert found == {b"".join(compress(blocks(DATA), Compression.GZIP))}


def test_zstd_workers_do_not_change_the_bytes() -> None:
    """Format 1 names workers, not how many: one and more give the same frame."""
    ours = b"".join(compress(blocks(DATA), Compression.ZSTD))
    for workers in (1, 3):
        codec = zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=workers, write_checksum=True).compressobj()
        assert codec.compress(DATA) + codec.flush() == ours


def test_gzip_is_read_by_the_standard_library_member_by_member() -> None:
    data = b"".join(compress(blocks(DATA), Compression.GZIP))
    assert gzip.decompress(data) == DATA
    # A fixed header: deflate, no flags, no time, no name, unknown system.
    assert data.startswith(bytes.fromhex("1f8b08000000000000ff"))
    assert data.count(bytes.fromhex("1f8b08000000000000ff")) == len(blocks(DATA))


def test_zstd_is_one_frame_with_a_checksum() -> None:
    data = b"".join(compress(blocks(DATA), Compression.ZSTD))
    assert zstandard.ZstdDecompressor().decompressobj().decompress(data) == DATA
    parameters = zstandard.get_frame_parameters(data)
    assert parameters.has_checksum


@pytest.mark.parametrize("compression", Compression)
def test_our_own_reader(compression: Compression) -> None:
    data = b"".join(compress(blocks(DATA), compression))
    assert open_layer(io.BytesIO(data), compression.media_type).read() == DATA


@pytest.mark.parametrize("cut", [1, 10, 1000, -1])
def test_a_truncated_gzip_stream(cut: int) -> None:
    data = b"".join(compress(blocks(DATA), Compression.GZIP))
    with pytest.raises(LayerError):
        open_layer(io.BytesIO(data[:cut]), media_types.LAYER_GZIP).read()


def test_a_media_type_that_is_no_layer() -> None:
    with pytest.raises(LayerError, match="text/plain"):
        open_layer(io.BytesIO(b""), "text/plain")


def test_members_do_not_depend_on_where_files_begin() -> None:
    """The same archive, told apart in other pieces, has the same members."""
    one, two = MemoryStore(), MemoryStore()
    entries = [File(path=f"f{number}", content=b"x" * 300_000) for number in range(10)]
    assert build_layer(entries, into=one, threads=1) == build_layer(reversed(entries), into=two, threads=2)
