"""Decompression in bounded memory: gzip with any number of members, zstd, xz."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from functools import partial
from typing import BinaryIO, Protocol

from ocibuild.errors import CodecError, LayerError, OcibuildError

from .stream import PullStream

__all__ = ["decompressed"]

_CHUNK = 256 * 1024
_PIECE = 1024
_WINDOW_LIMIT = 128 * 1024 * 1024


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


def decompressed(stream: BinaryIO, codec: str) -> BinaryIO:
    """The uncompressed bytes of a stream, which raises `LayerError` where it is damaged.

    Args:
        stream: The compressed bytes.
        codec: `none`, `gzip`, `zstd` or `xz`.
    """
    if codec == "none":
        return stream
    sources: dict[str, Callable[[BinaryIO], _Source]] = {"gzip": _Gunzip, "zstd": _Unzstd, "xz": _Unxz}
    try:
        source = sources[codec](stream)
    except ImportError as error:
        raise CodecError(
            f"{error.name} is not installed", wanted=f"it, to read {codec}", hint="pip installs it."
        ) from None
    return io.BufferedReader(_Decompressed(source), _CHUNK)


class _Gunzip:
    """Joined gzip members, decompressed in bounded pieces."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._codec = zlib.decompressobj(wbits=31)
        self._pending = memoryview(b"")
        self._piece = _PIECE
        self._begun = False

    def read(self, size: int) -> bytes:
        while True:
            if self._codec.eof:
                self._codec = zlib.decompressobj(wbits=31)
                # Small at first: what is behind a short member would be copied for each of many.
                self._piece = _PIECE
                self._begun = False
            if not self._pending:
                self._pending = memoryview(self._stream.read(_CHUNK))
            if not self._pending:
                if self._begun:
                    raise LayerError("a gzip member that ends too early")
                return b""
            self._begun = True
            data = self._pending[: self._piece]
            out = self._codec.decompress(data, size)
            rest = len(self._codec.unused_data if self._codec.eof else self._codec.unconsumed_tail)
            self._pending = self._pending[len(data) - rest :]
            self._piece = min(2 * self._piece, _CHUNK)
            if out:
                return out


class _Unxz:
    """Joined xz streams, decompressed in bounded pieces and bounded memory."""

    def __init__(self, stream: BinaryIO) -> None:
        from lzma import FORMAT_XZ, LZMADecompressor

        self._stream = stream
        self._new = partial(LZMADecompressor, format=FORMAT_XZ, memlimit=_WINDOW_LIMIT)
        self._codec = self._new()
        self._begun = False

    def read(self, size: int) -> bytes:
        pending = b""
        while True:
            if self._codec.eof:
                pending = self._codec.unused_data.lstrip(b"\0")
                self._codec = self._new()
                self._begun = False
            data = pending or (self._stream.read(_CHUNK) if self._codec.needs_input else b"")
            pending = b""
            if not data and self._codec.needs_input:
                if self._begun:
                    raise LayerError("an xz stream that ends too early")
                return b""
            self._begun = True
            if out := self._codec.decompress(data, size):
                return out


class _Unzstd:
    """Joined zstd frames. A piece is small because all that comes out of it is in memory at once: 32 MiB at most."""

    def __init__(self, stream: BinaryIO) -> None:
        import zstandard

        self._stream = stream
        self._new = zstandard.ZstdDecompressor(max_window_size=_WINDOW_LIMIT).decompressobj
        self._codec = self._new()
        self._pieces: list[bytes] = []
        self._out = memoryview(b"")
        self._begun = False

    def read(self, size: int) -> bytes:
        while not self._out:
            pending = b""
            if self._codec.eof:
                pending = self._codec.unused_data
                self._codec = self._new()
                self._begun = False
            data = pending or self._next_piece()
            if not data:
                if self._begun:
                    raise LayerError("a zstd frame that ends too early")
                return b""
            self._begun = True
            self._out = memoryview(self._codec.decompress(data))
        out, self._out = self._out[:size], self._out[size:]
        return bytes(out)

    def _next_piece(self) -> bytes:
        if not self._pieces:
            chunk = self._stream.read(_CHUNK)
            self._pieces = [chunk[at : at + _PIECE] for at in range(0, len(chunk), _PIECE)][::-1]
        return self._pieces.pop() if self._pieces else b""


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
