"""Files that are there whole or not at all: locks, staging folders, synced writes."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ocibuild.errors import StoreError

__all__ = [
    "Staging",
    "exclusive",
    "exclusive_folder",
    "make_parents",
    "open_regular",
    "remove_folders",
    "replace_file",
    "store_errors",
    "sweep",
    "sweep_beside",
    "sync_file",
    "sync_folder",
]

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
    except ValueError as error:
        if "null" not in str(error):
            raise
        raise StoreError("a NUL in a path", where=repr(where)) from error
    except OSError as error:
        hint = {
            errno.ENOSPC: "The disk is full: free some space and run it again.",
            errno.EDQUOT: "The quota is used up: free some space and run it again.",
            errno.EFBIG: "The file would be larger than this system or its limits allow.",
            errno.EACCES: "Check who may read and write there.",
            errno.EROFS: "Name another place.",
            errno.ENAMETOOLONG: "Name another place.",
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
    """Hold the lock of an existing file; it is given up when the block or the process ends, however it ends.

    Raises:
        FileNotFoundError: The file is not there, also when it was moved away while this waited for its lock.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        _lock(descriptor, wait=True)
        if not os.path.samestat(os.fstat(descriptor), os.stat(path)):
            raise FileNotFoundError(errno.ENOENT, "moved away", str(path))
        yield
    finally:
        os.close(descriptor)


@contextmanager
def exclusive_folder(path: Path) -> Iterator[None]:
    """Hold the lock of a folder, where the system has one: Windows opens no folders, NFS locks none."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            _lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def open_regular(path: Path) -> io.FileIO:
    """Open a regular file to read; a pipe or device, which could wait for ever, is an error.

    Raises:
        StoreError: It is not a regular file.
        OSError: It cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StoreError("neither a file nor a folder", wanted="a regular file", where=path)
    return io.FileIO(descriptor, "rb")


class Staging:
    """A temporary folder beside what it will become, locked while its owner lives.

    Folders of the same name whose owner has died are swept when the next one is made.
    """

    def __init__(self, parent: Path, name: str) -> None:
        prefix = _prefix(name)
        sweep(parent, prefix)
        while True:
            folder = parent / f"{prefix}{os.urandom(6).hex()}"
            folder.mkdir(0o700)
            lock = _claim(folder)
            if lock is not None:
                break
        self.path = folder
        # Also when its owner is forgotten, or the interpreter ends.
        self._finalizer = weakref.finalize(self, _remove, folder, lock, os.getpid())

    def close(self) -> None:
        """Remove the folder and what is left in it."""
        self._finalizer()


def _prefix(name: str) -> str:
    # Cut, so that a name as long as the system takes has room for the mark.
    return f".{name[:100]}{_MARK}"


def _claim(folder: Path) -> int | None:
    """The lock of a folder just made; None when a sweeper, seeing it without a lock, took it for a dead one's."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    try:
        _lock(lock, wait=True)
    except OSError:
        os.close(lock)
        raise
    if (folder / _LOCK).exists():
        return lock
    os.close(lock)
    return None


def _remove(folder: Path, lock: int, owner: int) -> None:
    """Remove a folder whose lock is held; the lock goes last, so that what a kill leaves can still be told for dead."""
    if os.getpid() != owner:
        return  # a forked child: the folder is its parent's
    with contextlib.suppress(OSError):
        for item in folder.iterdir():
            if item.is_dir() and not item.is_symlink():
                _remove_tree(item)
            elif item.name != _LOCK:
                item.unlink()
        if [item.name for item in folder.iterdir()] == [_LOCK]:
            (folder / _LOCK).unlink()
    os.close(lock)
    with contextlib.suppress(OSError):
        # Windows does not remove an open file.
        if os.name == "nt":
            (folder / _LOCK).unlink(missing_ok=True)
        folder.rmdir()


def _remove_tree(folder: Path) -> None:
    """Remove a folder, also where its owner took away his own right to write."""
    for path, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            os.chmod(path, 0o700)
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path, prefix: str = f".tmp{_MARK}") -> list[Path]:
    """Remove staging folders whose owner is dead; those whose owner lives, or may live, are returned."""
    alive = []
    for folder in [parent / name for name in os.listdir(parent) if name.startswith(prefix)]:
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR)
        except FileNotFoundError:
            # Only an empty folder has no lock: one that is just being made or removed.
            with contextlib.suppress(OSError):
                folder.rmdir()
            continue
        except OSError:
            alive.append(folder)  # another user's
            continue
        try:
            free = _lock(lock, wait=False)
        except OSError:
            free = False  # a file system without locks
        if free:
            _remove(folder, lock, os.getpid())
        else:
            os.close(lock)
            alive.append(folder)
    return alive


def sweep_beside(path: Path) -> None:
    """Remove the staging folders of the dead beside a place: one may have died when the place was just made."""
    with contextlib.suppress(OSError):
        sweep(path.parent, _prefix(path.name))


def make_parents(path: Path) -> list[Path]:
    """Make the folders above a path; those that were not there, the deepest first."""
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    return made


def remove_folders(folders: list[Path]) -> None:
    """Remove those that are empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def replace_file(path: Path, data: bytes, *, staging: Path, sync: bool = True) -> None:
    """Put a file in place at once: written and synced in the staging folder, then renamed."""
    temporary = staging / path.name
    with open(temporary, "wb") as stream:
        stream.write(data)
        stream.flush()
        if sync:
            os.fsync(stream.fileno())
    os.replace(temporary, path)
    if sync:
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Make a file's content last."""
    descriptor = os.open(path, os.O_RDWR)  # Windows syncs no file that cannot be written
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
