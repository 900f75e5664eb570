"""Reading a blob as a stream that is verified while it is read."""

from __future__ import annotations

import io
from typing import BinaryIO

from ocibuild.errors import DigestMismatchError, StoreError
from ocibuild.layer.stream import PullStream
from ocibuild.oci import Descriptor, Digest

__all__ = ["VerifyingReader", "verifying"]

_CHUNK = 256 * 1024


class VerifyingReader(PullStream):
    """A reader that hands on a blob's last bytes only once its size and digest have been found right.

    Raises:
        DigestMismatchError: While reading: too few bytes, too many, or other ones.
        StoreError: While reading: the place they come from cannot be read.
    """

    def __init__(self, stream: BinaryIO, descriptor: Descriptor, *, where: object = "", owns: bool = True) -> None:
        self._stream = stream
        self._owns = owns
        self._descriptor = descriptor
        self._where = where or descriptor.digest
        self._left = descriptor.size
        self._hasher = descriptor.digest.hasher()
        self._verified = False

    def pull(self, size: int) -> bytes:
        if self._verified:
            return b""
        data = self._read(min(size, self._left)) if self._left else b""
        if self._left and not data:
            whole = self._descriptor.size
            raise self._mismatch(f"a blob that ends after {whole - self._left} bytes", f"{whole} bytes")
        self._hasher.update(data)
        self._left -= len(data)
        if not self._left:
            self._verify()
        return data

    def seekable(self) -> bool:
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to an offset from the start, reading all before it anew: what is handed on is verified as a whole."""
        if whence != 0 or not 0 <= offset <= self._descriptor.size:
            raise StoreError(f"a seek to {offset}", wanted="an offset from the start", where=self._where)
        if offset == self.tell():
            return offset
        self._stream.seek(0)
        self._left = self._descriptor.size
        self._hasher = self._descriptor.digest.hasher()
        self._verified = False
        while self.tell() < offset:
            self.pull(min(_CHUNK, offset - self.tell()))
        return offset

    def tell(self) -> int:
        return self._descriptor.size - self._left

    def _verify(self) -> None:
        if self._read(1):
            raise self._mismatch("a blob with bytes after its end", f"{self._descriptor.size} bytes")
        digest = Digest.from_hash(self._hasher)
        if digest != self._descriptor.digest:
            raise self._mismatch(f"a blob with digest {digest}", self._descriptor.digest)
        self._verified = True

    def _read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except OSError as error:
            raise StoreError(f"cannot be read: {error.strerror or error}", where=self._where) from error

    def _mismatch(self, found: str, wanted: str) -> DigestMismatchError:
        hint = "The blob is damaged: copy the image here again from where it came from."
        return DigestMismatchError(found, wanted=wanted, where=self._where, hint=hint)

    def close(self) -> None:
        if self._owns and not self.closed:
            self._stream.close()
        super().close()


def verifying(stream: BinaryIO, descriptor: Descriptor, *, where: object = "", owns: bool = True) -> BinaryIO:
    """A buffered `VerifyingReader`; closing it closes the stream where it owns it."""
    return io.BufferedReader(VerifyingReader(stream, descriptor, where=where, owns=owns), 256 * 1024)
