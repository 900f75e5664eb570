"""Threads that work side by side on what is handed to them. concurrent.futures would do, but takes 3 ms to load."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

__all__ = ["StoppedError", "Task", "Workers", "available_cores"]

T = TypeVar("T")


class StoppedError(Exception):
    """The work is not wanted any more."""


class Task(Generic[T]):
    """Something that a worker does, and what came of it."""

    __slots__ = ("_call", "_done", "_error", "_value")

    def __init__(self, call: Callable[[], T]) -> None:
        self._call: Callable[[], T] | None = call
        self._done = threading.Lock()
        self._done.acquire()
        self._value: T | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do it; called once, by a worker."""
        assert self._call is not None
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
            self._error = error
        finally:
            self._call = None
            self._done.release()

    def result(self) -> T:
        """Wait for what came of it.

        Raises:
            BaseException: What the call raised.
        """
        with self._done:
            if self._error is not None:
                raise self._error
            return self._value  # type: ignore[return-value]


class Workers:
    """Some threads, as a context manager: they have ended when it is left.

    Args:
        count: How many; each starts when there is work for it.

    Attributes:
        stopped: The context was left by an error: who works may give up.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.stopped = False
        self._tasks: SimpleQueue[Task[Any] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, call: Callable[[], T]) -> Task[T]:
        """Hand over a call; the workers take them in order."""
        task = Task(call)
        self._tasks.put(task)
        if len(self._threads) < self.count:
            thread = threading.Thread(target=self._work, name=f"worker-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return task

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.run()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped = error is not None
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()


def available_cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
