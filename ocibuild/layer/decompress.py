"""Decompression in bounded memory: gzip with any number of members, zstd."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol

from ocibuild.errors import LayerError, OcibuildError

from .stream import PullStream

__all__ = ["decompressed"]

_CHUNK = 256 * 1024
_WINDOW_LIMIT = 128 * 1024 * 1024


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


def decompressed(stream: BinaryIO, codec: str) -> BinaryIO:
    """The uncompressed bytes of a stream, which raises `LayerError` where it is damaged.

    A zstd stream that is cut off ends early without an error: the caller knows a digest or a size.

    Args:
        stream: The compressed bytes.
        codec: `none`, `gzip` or `zstd`.
    """
    if codec == "none":
        return stream
    sources: dict[str, Callable[[BinaryIO], _Source]] = {"gzip": _Gunzip, "zstd": _unzstd}
    return io.BufferedReader(_Decompressed(sources[codec](stream)), _CHUNK)


class _Gunzip:
    """Joined gzip members, decompressed in bounded pieces."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._codec = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._begun = False

    def read(self, size: int) -> bytes:
        while True:
            if self._codec.eof:
                self._pending = self._codec.unused_data
                self._codec = zlib.decompressobj(wbits=31)
                self._begun = False
            data = self._pending or self._stream.read(_CHUNK)
            if not data:
                if self._begun:
                    raise LayerError("a gzip member that ends too early")
                return b""
            self._begun = True
            out = self._codec.decompress(data, size)
            self._pending = self._codec.unconsumed_tail
            if out:
                return out


def _unzstd(stream: BinaryIO) -> BinaryIO:
    import zstandard

    codec = zstandard.ZstdDecompressor(max_window_size=_WINDOW_LIMIT)
    return codec.stream_reader(stream, read_across_frames=True)


class _Decompressed(PullStream):
    """A decompressor as a stream whose every failure is a `LayerError`."""

    def __init__(self, source: _Source) -> None:
        self._source = source

    def pull(self, size: int) -> bytes:
        try:
            return self._source.read(size)
        except OcibuildError:
            raise
        except Exception as error:  # zlib.error, ZstdError, and what else a codec has: one kind for the caller
            raise LayerError(f"compressed data that is damaged: {error}") from error
