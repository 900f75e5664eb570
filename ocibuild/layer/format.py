"""The codecs that the format names, and the canary: known answers that tell when an installed codec writes other bytes.

A distribution may build a codec's package against a library of its own. The version then looks right and the bytes are not,
so what counts is the answer to a known input, asked once in a process before a codec is first used.
"""

from __future__ import annotations

import hashlib
import importlib
import warnings

import msgspec

from ocibuild.errors import CodecError

from .compress import GZIP_LEVEL, MEMBER_SIZE, ZSTD_LEVEL, Compression, compress

__all__ = ["CODECS", "Codec", "CodecWarning", "check_codec", "known_answer"]


class CodecWarning(UserWarning):
    """An installed codec writes other bytes than the format names."""


class Codec(msgspec.Struct, frozen=True, kw_only=True):
    """A codec of the format.

    Attributes:
        package: The Python package.
        series: The series of versions that gives the known answer.
        settings: What it is called with.
        repeats: How often the known input is compressed as one: zstd divides only what is longer than 8 MiB.
        answer: The SHA-256 of what it makes of that.
    """

    package: str
    series: str
    settings: str
    repeats: int
    answer: str

    @property
    def version(self) -> str:
        """The version installed, with that of the library in it where the package tells it."""
        try:
            module = importlib.import_module(self.package)
        except ImportError:
            return "not installed"
        library = getattr(module, "ZSTD_VERSION", None)
        inside = f" (zstd {'.'.join(map(str, library))})" if library else ""
        return f"{module.__version__}{inside}"


CODECS = {
    Compression.GZIP: Codec(
        package="deflate",
        series="0.9",
        settings=f"level {GZIP_LEVEL}, members of {MEMBER_SIZE} bytes",
        repeats=1,
        answer="366d0d9e7696e979534ca5d7678ebf85b7d1d62b63339269bbf32192a899092c",
    ),
    Compression.ZSTD: Codec(
        package="zstandard",
        series="0.25",
        settings=f"level {ZSTD_LEVEL}, one frame, with workers",
        repeats=56,
        answer="3fbb8b0be331c4803c38cf72216ddbdacc156f920cf3ab252705e633615044f6",
    ),
}

_checked: dict[Compression, str] = {}


def check_codec(compression: Compression, *, reproducible: bool = True) -> None:
    """See that a codec gives the bytes of the format, once a process.

    Args:
        compression: The codec; without one there is nothing to see.
        reproducible: Other bytes are an error; a `CodecWarning` when false.

    Raises:
        CodecError: The codec gives other bytes.

    Example:
        >>> check_codec(Compression.GZIP)
    """
    codec = CODECS.get(compression)
    if codec is None:
        return
    if compression not in _checked:
        found = known_answer(compression)
        wanted = f"{codec.package} {codec.series}, whose answer is {codec.answer[:12]}…"
        _checked[compression] = "" if found == codec.answer else wanted
        if found != codec.answer and not reproducible:
            warnings.warn(f"{_found(codec, found)}, wanted {wanted}: digests will differ", CodecWarning, stacklevel=2)
    if reproducible and _checked[compression]:
        raise CodecError(
            _found(codec, known_answer(compression)),
            wanted=_checked[compression],
            where=f"compression {compression.value}",
            hint=f"Install {codec.package}=={codec.series}.* from its wheel, or build with --no-reproducible.",
        )


def known_answer(compression: Compression) -> str:
    """The SHA-256 of what the installed codec makes of the known input."""
    if CODECS[compression].version == "not installed":
        return "nothing"
    data = _known_input() * CODECS[compression].repeats
    blocks = (data[start : start + MEMBER_SIZE] for start in range(0, len(data), MEMBER_SIZE))
    return hashlib.sha256(b"".join(compress(blocks, compression))).hexdigest()


def _found(codec: Codec, answer: str) -> str:
    return f"{codec.package} {codec.version}, which compresses a known input to {answer[:12]}…"


def _known_input() -> bytes:
    """Words in a chaotic order, noise, zeros, and the words again beyond gzip's window: 180,728 bytes."""
    noise = b"".join(hashlib.sha256(b"ocibuild %d" % number).digest() for number in range(128))
    words = [b"%x" % (number * number) for number in range(256)]
    text = b" ".join(words[item] for item in noise)
    return text + noise + bytes(100_000) + text * 3
