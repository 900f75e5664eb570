"""Trees that are packed ahead: each by a process of its own, while the rest of the program is loaded.

Reading ten thousand small files keeps one Python thread busy, and so does loading a program; two processes do both at
once. A child is forked while the program has one thread. It packs as everybody does (`Packing`) and sends through a pipe
what it has listed and packed. What nobody wants is given up. Where a process cannot be forked, nothing is begun.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import signal
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Queue
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from ocibuild.errors import SourceError

from .compress import Compression, Data
from .entry import Directory, Entry, File, Symlink
from .pack import Packed, Packing
from .tree import read_tree
from .workers import Workers, available_cores

if sys.platform == "linux":
    from fcntl import F_SETPIPE_SZ, fcntl
if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Ahead", "can_fork"]

# What a message is, its bytes, and the bytes of the archive that they stand for.
_HEAD = struct.Struct("<cQQ")
_LISTED, _DATA, _END, _ERROR = b"L", b"D", b"E", b"X"
_PIPE = 1024 * 1024
_HELD = 16
"""How many compressed blocks a child holds before it waits for somebody to ask for them."""


def can_fork() -> bool:
    """Whether this process can be forked: on Linux, and without a second thread, which the child would lack."""
    return sys.platform == "linux" and threading.active_count() == 1


class Ahead:
    """Some trees, being listed and packed with gzip. A context manager: what is not wanted ends when it is left.

    Args:
        trees: The folders; those beyond the number of threads are not begun.
        mtime: The modification time of every entry.
        threads: Compression threads in all, by default one a core.
    """

    def __init__(self, trees: Sequence[str] = (), *, mtime: int = 0, threads: int | None = None) -> None:
        count = threads or available_cores()
        chosen = list({os.path.abspath(tree): tree for tree in trees}.items())[:count]
        self._begun: dict[str, _Begun] = {}
        # A system that has no process to give leaves the rest to this one.
        with contextlib.suppress(OSError):
            for name, tree in chosen:
                self._begun[name] = _Begun(tree, mtime, -(-count // len(chosen)), list(self._begun.values()))

    def read(self, folder: Path | str) -> list[Entry]:
        """The entries of a tree, as `read_tree` gives them.

        Raises:
            NotFoundError, EntryError: As `read_tree`.
        """
        begun = self._begun.get(os.path.abspath(folder))
        return read_tree(folder) if begun is None else begun.entries

    def packed(
        self,
        entries: Sequence[Entry],
        *,
        compression: Compression,
        mtime: int,
        on_progress: Callable[[int], None] | None = None,
    ) -> Packed | None:
        """The layer of entries that are those of one tree, once; None where it has not been begun."""
        for begun in self._begun.values():
            if compression is Compression.GZIP and begun.take(entries, mtime):
                begun.on_progress = on_progress
                return begun
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for begun in self._begun.values():
            begun.close()


class _Begun:
    """A tree and the process that packs it."""

    def __init__(self, tree: str, mtime: int, threads: int, others: Sequence[_Begun]) -> None:
        self.on_progress: Callable[[int], None] | None = None
        self.size, self.diff_id = 0, ""
        self._tree, self._mtime = tree, mtime
        self._entries: list[Entry] | None = None
        self._is_taken = False
        self._buffer = memoryview(bytearray(1024))
        self.pipe, end = os.pipe()
        try:
            self._process = os.fork()
        except OSError:
            os.close(self.pipe)
            os.close(end)
            raise
        if not self._process:
            for descriptor in (self.pipe, *(other.pipe for other in others)):
                os.close(descriptor)
            _run(tree, mtime, threads, end)
        os.close(end)
        with contextlib.suppress(OSError):
            fcntl(self.pipe, F_SETPIPE_SZ, _PIPE)

    @property
    def entries(self) -> list[Entry]:
        if self._entries is None:
            _, _, listed = self._receive()
            make, fields = File._make, len(File._fields)
            items = marshal.loads(listed)  # noqa: S302 - from our own child
            self._entries = [make(item) if len(item) == fields else _other(item) for item in items]
        return self._entries

    def take(self, entries: Sequence[Entry], mtime: int) -> bool:
        """Whether the layer is that of the given entries, and nobody else's yet."""
        if self._is_taken or self._mtime != mtime or self._entries != list(entries):
            return False
        self._is_taken = True
        return True

    def __iter__(self) -> Iterator[Data]:
        while True:
            kind, size, data = self._receive()
            if kind == _END:
                self.diff_id = bytes(data).hex()
                return
            self.size += size
            if self.on_progress is not None:
                self.on_progress(size)
            yield data

    def close(self) -> None:
        """End the process, whatever it does."""
        os.close(self.pipe)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)

    def _receive(self) -> tuple[bytes, int, memoryview]:
        """A message, in a buffer that the next one overwrites."""
        kind, length, size = _HEAD.unpack(self._read(_HEAD.size))
        data = self._read(length)
        if kind == _ERROR:
            import pickle

            raise pickle.loads(data)  # noqa: S301 - from our own child
        return kind, size, data

    def _read(self, size: int) -> memoryview:
        if size > len(self._buffer):
            self._buffer = memoryview(bytearray(size))
        data = rest = self._buffer[:size]
        while rest:
            count = os.readv(self.pipe, [rest])
            if not count:
                raise SourceError("the process that packs it has ended", where=self._tree, hint="Build again.")
            rest = rest[count:]
        return data


def _other(item: tuple[Any, ...]) -> Entry:
    return Symlink._make(item) if isinstance(item[1], str) else Directory._make(item)


def _run(tree: str, mtime: int, threads: int, pipe: int) -> NoReturn:
    """The child: what it sends goes through a queue, so that packing does not wait while nobody reads."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) is not signal.SIG_IGN:
            signal.signal(name, signal.SIG_DFL)  # as the parent ends, silently
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    messages: Queue[tuple[bytes, int, Data] | None] = Queue(_HELD)
    sender = threading.Thread(target=_send, args=(messages, pipe), daemon=True)
    sender.start()
    try:
        entries = read_tree(tree)
        messages.put((_LISTED, 0, marshal.dumps([tuple(entry) for entry in entries])))
        with Workers(threads) as workers:
            packing = Packing(entries, Compression.GZIP, mtime=mtime, workers=workers)
            told = 0
            for data in packing:
                messages.put((_DATA, packing.size - told, data))
                told = packing.size
        messages.put((_END, 0, bytes.fromhex(packing.diff_id)))
    except Exception as error:  # noqa: BLE001 - the parent raises it
        import pickle

        messages.put((_ERROR, 0, pickle.dumps(error)))
    finally:
        messages.put(None)
        sender.join()
        os._exit(0)


def _send(messages: Queue[tuple[bytes, int, Data] | None], pipe: int) -> None:
    while (message := messages.get()) is not None:
        kind, size, data = message
        for part in (_HEAD.pack(kind, len(data), size), data):
            view = memoryview(part)
            while view:
                view = view[os.write(pipe, view) :]
    os.close(pipe)
