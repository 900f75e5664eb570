"""Which encoder wrote a piece of compressed data: each one known here compresses the same content again."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable

from ocibuild.errors import LayerError
from ocibuild.layer.compress import MEMBER_SIZE

__all__ = ["WITH_WORKERS", "Encoder", "GzipTrial", "in_words", "zstd_encoders"]

Encoder = tuple[str, int]
"""A name and a level."""

_ZLIB = "zlib-ng" if "ng" in zlib.ZLIB_RUNTIME_VERSION else "zlib"
_GZIP = tuple((name, level) for name, last in (("libdeflate", 12), (_ZLIB, 9)) for level in range(1, last + 1))
WITH_WORKERS = "zstd with workers"
_ZSTD_NAMES = (("zstd", 0), (WITH_WORKERS, 2))
# The slow ones only where no other has written it.
_ZSTD_LEVELS = (range(1, 13), range(13, 20))
_BUDGET = 64 * MEMBER_SIZE
"""The content that is compressed again after the first member, so that a blob of many costs no more than one of a few."""
_LEAST = 64 * 1024
"""What a trial costs at least."""
_TELLING = 1024
"""The compressed bytes that must agree, where not all can be compared."""

_SINGLE_SEGMENT = 0x20
_SIMPLE = 256 * 1024
"""A beginning that compresses to less may be too simple for a codec to have put out what it found."""
_QUICK = 512 * 1024
"""What workers compress at once: a beginning as long has the same blocks, a shorter one has not."""


class GzipTrial:
    """What the members of a blob tell of their encoder, one after the other.

    Attributes:
        encoders: The encoders that write all members tried so far, or all before the stray one.
        told: Enough could be compared: where there are none, it is none of them.
        stray: The number of the first member that none of the encoders writes; 0 while there is none.
    """

    def __init__(self) -> None:
        self.encoders: tuple[Encoder, ...] = ()
        self.told = True
        self.stray = 0
        self._members = 0
        self._budget = _BUDGET

    def add(self, body: bytes, content: bytes, *, whole: bool) -> None:
        """Try the next member.

        Args:
            body: Its compressed data, or the beginning of it, without header.
            content: What it holds, or the first `MEMBER_SIZE` bytes of it.
            whole: Both are all there is.
        """
        self._members += 1
        if self._members == 1:
            self.encoders = _matching(_GZIP, body, content, whole=whole)
            self.told = whole or bool(self.encoders) or len(body) >= _SIMPLE
        elif self.encoders and not self.stray and whole and self._budget > 0:
            self._budget -= len(self.encoders) * (_LEAST + len(content))
            left = _matching(self.encoders, body, content, whole=True)
            self.encoders = left or self.encoders
            self.stray = 0 if left else self._members


def in_words(encoders: Iterable[Encoder]) -> str:
    """Encoders and levels in words; with and without workers only where that makes a difference."""
    levels: dict[str, list[int]] = {}
    for name, level in encoders:
        levels.setdefault(name, []).append(level)
    texts = {name: f"level {_numbers(found)}" for name, found in levels.items()}
    plain, workers = texts.get("zstd"), texts.get(WITH_WORKERS)
    if plain == workers and workers:
        return f"zstd {workers}"
    if workers:
        del texts[WITH_WORKERS]
        texts["zstd"] = " or ".join(
            text for text in (f"{plain} without workers" * bool(plain), f"{workers} with workers") if text
        )
    elif plain:
        texts["zstd"] = f"{plain} without workers"
    return " or ".join(f"{name} {text}" for name, text in texts.items())


def _numbers(levels: list[int]) -> str:
    if len(levels) > 2 and levels[-1] - levels[0] == len(levels) - 1:  # noqa: PLR2004
        return f"{levels[0]} to {levels[-1]}"
    return " or ".join(map(str, levels))


def _matching(encoders: Iterable[Encoder], body: bytes, content: bytes, *, whole: bool) -> tuple[Encoder, ...]:
    from deflate import deflate_compress

    found = []
    for name, level in encoders:
        if name != "libdeflate":
            codec = zlib.compressobj(level, zlib.DEFLATED, -15)
            out = codec.compress(content) + (codec.flush() if whole else b"")
        elif whole:
            out = bytes(deflate_compress(content, level))
        else:
            # What the end of the input has no say in.
            longer, shorter = (bytes(deflate_compress(content[:size], level)) for size in (None, 3 * len(content) // 4))
            out = longer[: _shared(longer, shorter)]
        if body == out if whole else len(out) >= _TELLING and body.startswith(out):
            found.append((name, level))
    return tuple(found)


def _shared(a: bytes, b: bytes) -> int:
    """How many bytes both begin with."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def zstd_encoders(header: bytes, body: bytes, content_size: int | None, *, whole: bool) -> tuple[Encoder, ...]:
    """The encoders that write a zstd frame, or begin one so.

    Args:
        header: The frame's header with its magic.
        body: Its blocks, or the first of them.
        content_size: The size of the content, if the header tells it: it changes what levels mean.
        whole: These are all its blocks.

    Raises:
        LayerError: The blocks are damaged.
    """
    import zstandard

    try:
        content = _unzstd(header + body)
        whole = whole and len(content) <= MEMBER_SIZE
        content = content[:MEMBER_SIZE]
        if not whole and len(content) < MEMBER_SIZE:
            return ()
        if whole and content_size not in (None, len(content)):
            return ()

        # The window is a level's own, but for content of a known size it is what that needs.
        window = None if header[4] & _SINGLE_SEGMENT else zstandard.get_frame_parameters(header).window_size

        def writes(level: int, workers: int, size: int) -> bool:
            known = content_size is not None
            settings = zstandard.ZstdCompressionParameters.from_level(level, source_size=content_size or 0)
            if window not in (None, 1 << settings.window_log):
                return False
            codec = zstandard.ZstdCompressor(level=level, threads=workers, write_content_size=known)
            writer = codec.compressobj(size=-1 if content_size is None else content_size)
            out = writer.compress(content[:size])
            if not whole or size < len(content):
                out += writer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
                return body.startswith(out[zstandard.frame_header_size(out) :])
            outs = [out + writer.flush()]
            if known and not workers:
                outs.append(codec.compress(content))
            return any(body == out[zstandard.frame_header_size(out) :] for out in outs)

        return _zstd_matching(writes, len(content), whole=whole)
    except zstandard.ZstdError as error:
        raise LayerError(f"compressed data that is damaged: {error}") from error


def _zstd_matching(writes: Callable[[int, int, int], bool], size: int, *, whole: bool) -> tuple[Encoder, ...]:
    """Try the beginning first: the slow levels are then tried on no more than that, but the right one."""
    for levels in _ZSTD_LEVELS:
        found = tuple(
            (name, level)
            for name, workers in _ZSTD_NAMES
            for level in levels
            if (whole or writes(level, workers, _QUICK)) and writes(level, workers, size)
        )
        if found:
            return found
    return ()


def _unzstd(frame: bytes) -> bytes:
    """The content of the beginning of a frame, a little more than `MEMBER_SIZE` bytes of it at most."""
    import zstandard

    codec = zstandard.ZstdDecompressor(max_window_size=128 * 1024 * 1024).decompressobj()
    out = bytearray()
    for at in range(0, len(frame), 64):
        out += codec.decompress(frame[at : at + 64])
        if len(out) > MEMBER_SIZE or codec.eof:
            break
    return bytes(out)
