"""A folder of blobs, `<algorithm>/<hex>`: the `blobs` of a layout, and the spool's."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ocibuild.errors import ContentError, NotFoundError, StoreError
from ocibuild.layer.compress import Data
from ocibuild.layer.stream import drain
from ocibuild.layer.workers import Workers
from ocibuild.oci import Descriptor, Digest
from ocibuild.oci.digest import ALGORITHMS

from .files import open_regular, store_errors, sync_file, sync_folder
from .verify import verifying

__all__ = ["BlobFolder", "FileWriter"]

_CHUNK = 1024 * 1024
_SYNCING = 8


class BlobFolder:
    """Blobs by digest. A blob that is present is believed once its bytes have been hashed in this process."""

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        self.path = path
        self._sync = sync
        self._unsynced: list[Path] = []
        self._verified: dict[Digest, tuple[int, int, int]] = {}
        self._count = 0
        self._lock = threading.Lock()

    def blob_path(self, digest: Digest) -> Path:
        """Where a blob is or would be; a digest is validated, so the path stays inside."""
        return self.path / digest.algorithm / digest.encoded

    def open(self, descriptor: Descriptor) -> BinaryIO:
        """A verifying reader.

        Raises:
            NotFoundError: The blob is not here.
        """
        path = self.blob_path(descriptor.digest)
        try:
            with store_errors(path):
                stream = open_regular(path)
        except OSError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                raise NotFoundError(
                    "no such blob in the layout", where=descriptor.digest, hint="Copy the image here again."
                ) from None
            raise
        return verifying(stream, descriptor)

    def exists(self, descriptor: Descriptor) -> bool:
        """Whether the blob is present with the right bytes; a damaged one is not, and is replaced when pushed."""
        try:
            status = self.blob_path(descriptor.digest).stat()
        except OSError:
            return False
        if status.st_size != descriptor.size:
            return False
        state = (status.st_ino, status.st_size, status.st_mtime_ns)
        with self._lock:
            if self._verified.get(descriptor.digest) == state:
                return True
        try:
            with self.open(descriptor) as stream:
                drain(stream)
        except (ContentError, NotFoundError, OSError):
            return False
        with self._lock:
            self._verified[descriptor.digest] = state
        return True

    @contextmanager
    def ingest(self, staging: Path) -> Iterator[FileWriter]:
        """A writer whose file lies in the staging folder until it is committed."""
        with self._lock:
            self._count += 1
            temporary = staging / f"blob-{self._count}"
        with store_errors(self.path):
            writer = FileWriter(temporary, self._commit)
        try:
            yield writer
        finally:
            writer.discard()

    def put(self, descriptor: Descriptor, content: BinaryIO, staging: Path) -> None:
        """Keep a blob whose digest is known.

        Raises:
            DigestMismatchError: The content is another; nothing is kept.
        """
        with self.ingest(staging) as writer, verifying(content, descriptor, owns=False) as stream:
            while data := stream.read(_CHUNK):
                writer.append(data)  # the stream is hashed already
            writer.commit_as(descriptor)

    def sync(self) -> None:
        """Make blobs and their names last, all at once: what is not named yet is believed by nobody unread."""
        with self._lock:
            unsynced, self._unsynced = self._unsynced, []
        # Side by side: each waits for the disk, and the disk takes several at a time.
        with Workers(min(len(unsynced), _SYNCING)) as workers:
            tasks = [workers.submit(partial(_sync_if_there, path)) for path in unsynced]
            for task in tasks:
                task.result()
        if self._sync:
            for folder in self.path.iterdir():
                sync_folder(folder)

    def collect(self, reached: set[Digest]) -> tuple[int, int]:
        """Remove every blob that is not among those reached; the number of blobs and of bytes removed.

        Raises:
            StoreError: The folder is not this layout's own.
        """
        count = size = 0
        for folder in (self.path, *(self.path / name for name in ALGORITHMS)):
            if folder.is_symlink():
                raise StoreError("a symbolic link", wanted="a folder of this layout's own", where=folder)
        for name in ALGORITHMS:
            for path in sorted((self.path / name).glob("*")):
                status = path.lstat()
                if not stat.S_ISREG(status.st_mode) or not Digest.is_valid(f"{name}:{path.name}"):
                    continue
                if Digest(f"{name}:{path.name}") not in reached:
                    path.unlink()
                    count, size = count + 1, size + status.st_size
        return count, size

    def _commit(self, temporary: Path, stream: BinaryIO, descriptor: Descriptor) -> None:
        path = self.blob_path(descriptor.digest)
        with store_errors(self.path):
            stream.close()
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, path)
            status = path.stat()
        with self._lock:
            self._verified[descriptor.digest] = (status.st_ino, status.st_size, status.st_mtime_ns)
            if self._sync:
                self._unsynced.append(path)


def _sync_if_there(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        sync_file(path)


class FileWriter:
    """A blob being written: hashed as it comes, renamed to its digest when committed."""

    def __init__(self, temporary: Path, commit: Callable[[Path, BinaryIO, Descriptor], None]) -> None:
        self._temporary = temporary
        self._commit = commit
        self._stream: BinaryIO = open(temporary, "wb", buffering=0)  # noqa: SIM115 - commit or discard closes it
        self._hasher = hashlib.sha256()
        self._size = 0

    def write(self, data: Data) -> int:
        """Append bytes."""
        self._hasher.update(data)
        self._size += len(data)
        self.append(data)
        return len(data)

    def append(self, data: Data) -> None:
        """Append bytes whose digest is known, for `commit_as`."""
        view = memoryview(data)
        with store_errors(self._temporary.parent):
            while view:
                view = view[self._stream.write(view) :]

    def commit(self, media_type: str) -> Descriptor:
        """Make the blob present and give its descriptor."""
        return self.commit_as(Descriptor(media_type=media_type, digest=Digest.from_hash(self._hasher), size=self._size))

    def commit_as(self, descriptor: Descriptor) -> Descriptor:
        """Make the blob present under a descriptor that its bytes are known to have."""
        self._commit(self._temporary, self._stream, descriptor)
        return descriptor

    def discard(self) -> None:
        """Remove what was not committed."""
        if not self._stream.closed:
            self._stream.close()
        self._temporary.unlink(missing_ok=True)
