"""Files that are there whole or not at all: locks, staging folders, synced writes."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ocibuild.errors import StoreError

__all__ = ["Staging", "exclusive", "replace_file", "store_errors", "sync_folder"]

_MARK = ".ocibuild-"
_LOCK = "lock"


@contextmanager
def store_errors(where: object) -> Iterator[None]:
    """Turn the system's errors into `StoreError`s that say what to do.

    Raises:
        StoreError: In place of an `OSError`.
    """
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        hint = {
            errno.ENOSPC: "The disk is full: free some space and run it again.",
            errno.EDQUOT: "The quota is used up: free some space and run it again.",
            errno.EFBIG: "The file would be larger than this system or its limits allow.",
            errno.EACCES: "Check who may write there.",
            errno.EROFS: "The file system is read-only.",
            errno.ENOTDIR: "A file stands where a folder is needed.",
        }.get(error.errno or 0, "")
        found = f"cannot be written or read: {error.strerror or error}"
        raise StoreError(found, where=where, hint=hint) from error


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Take the exclusive lock of an open file; False when it is taken and `wait` is not asked for."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        # A byte far beyond the end, so that nobody's reading is barred.
        os.lseek(descriptor, 2**30, os.SEEK_SET)
        while True:
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            except OSError:
                if not wait:
                    return False
                time.sleep(0.05)
            else:
                return True
    else:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of an existing file; it is given up when the block or the process ends, however it ends."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        _lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


class Staging:
    """A temporary folder beside what it will become, locked while its owner lives.

    Folders of the same name whose owner has died are swept when the next one is made.
    """

    def __init__(self, parent: Path, name: str) -> None:
        prefix = f".{name}{_MARK}"
        sweep(parent, prefix)
        while True:
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            lock = _claim(folder)
            if lock is not None:
                break
        self.path = folder
        # Also when its owner is forgotten, or the interpreter ends.
        self._finalizer = weakref.finalize(self, _remove, folder, lock)

    def close(self) -> None:
        """Remove the folder and what is left in it."""
        self._finalizer()


def _claim(folder: Path) -> int | None:
    """The lock of a folder just made; None when a sweeper, seeing it without a lock, took it for a dead one's."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    _lock(lock, wait=True)
    if (folder / _LOCK).exists():
        return lock
    os.close(lock)
    return None


def _remove(folder: Path, lock: int) -> None:
    """Remove a folder whose lock is held; the lock goes last, so that what a kill leaves can still be told for dead."""
    with contextlib.suppress(OSError):
        for item in folder.iterdir():
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item, ignore_errors=True)
            elif item.name != _LOCK:
                item.unlink()
    with contextlib.suppress(OSError):
        (folder / _LOCK).unlink()
    os.close(lock)
    with contextlib.suppress(OSError):
        # Windows does not remove an open file.
        (folder / _LOCK).unlink(missing_ok=True)
        folder.rmdir()


def sweep(parent: Path, prefix: str = f".tmp{_MARK}") -> int:
    """Remove staging folders whose owner is dead; the number of those whose owner lives."""
    alive = 0
    for folder in parent.glob(f"{glob.escape(prefix)}*"):
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR)
        except OSError:
            # Only an empty folder has no lock: one that is just being made or removed.
            with contextlib.suppress(OSError):
                folder.rmdir()
            continue
        if _lock(lock, wait=False):
            _remove(folder, lock)
        else:
            os.close(lock)
            alive += 1
    return alive


def replace_file(path: Path, data: bytes, *, staging: Path) -> None:
    """Put a file in place at once: written and synced in the staging folder, then renamed."""
    temporary = staging / path.name
    with open(temporary, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder last; where the system cannot sync a folder, nothing is done."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
