"""Progress on standard error: a bar on a terminal, for work long enough to wait for; elsewhere a line for each blob."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import msgspec

from ocibuild.cli.render import human_size, message
from ocibuild.oci import Descriptor, Digest
from ocibuild.oci.media_types import CONFIGS, INDEXES, MANIFESTS

__all__ = ["BlobProgress", "blob_progress", "progress"]

_BAR_FROM = 16 * 1024 * 1024
_TIMED_FROM = 64 * 1024


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None] | None]:
    """A progress bar for so many bytes. None where there is no terminal, or too little to do."""
    if total < _BAR_FROM or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda size: bar.advance(task, size)


class BlobProgress(msgspec.Struct):
    """What `copy` is told to call.

    Attributes:
        advance_bar: The bar, if there is one.
        has_lines: Print a line for each blob.
        outcome: What became of each blob, where the store knows.
    """

    advance_bar: Callable[[int], None] | None
    has_lines: bool
    outcome: Mapping[Digest, str]
    _begun: dict[Digest, float] = msgspec.field(default_factory=dict)
    _told: set[Digest] = msgspec.field(default_factory=set)
    _lock: threading.Lock = msgspec.field(default_factory=threading.Lock)

    def advance(self, descriptor: Descriptor, size: int) -> None:
        """Bytes of a blob were handled."""
        self._begun.setdefault(descriptor.digest, time.monotonic())
        if self.advance_bar is not None:
            with self._lock:
                self.advance_bar(size)

    def done(self, descriptor: Descriptor) -> None:
        """A blob is there."""
        with self._lock:  # the same blob may be a part of several images
            if not self.has_lines or descriptor.digest in self._told:
                return
            self._told.add(descriptor.digest)
        begun = self._begun.get(descriptor.digest)
        how = self.outcome.get(descriptor.digest) or ("there" if begun is None else "copied")
        line = f"{how:<8}{_kind(descriptor.media_type):<9} {descriptor.digest[:19]} {human_size(descriptor.size):>10}"
        if how in ("sent", "copied") and begun is not None and descriptor.size >= _TIMED_FROM:
            line += f"  {human_size(descriptor.size / max(time.monotonic() - begun, 1e-6))}/s"
        with self._lock:
            message(line)


@contextmanager
def blob_progress(
    title: str, total: int, *, has_lines: bool, outcome: Mapping[Digest, str] | None = None
) -> Iterator[BlobProgress]:
    """Show how a copy of so many bytes goes.

    Args:
        title: What is being done, such as `pushing`.
        total: The bytes of all blobs.
        has_lines: Whether to print a line a blob where there is no terminal.
        outcome: What became of each blob, as the store fills it in.
    """
    with progress(title, total) as advance:
        yield BlobProgress(advance, has_lines and not sys.stderr.isatty(), {} if outcome is None else outcome)


def _kind(media_type: str) -> str:
    kinds = {"config": CONFIGS, "manifest": MANIFESTS, "index": INDEXES}
    return next(
        (kind for kind, types in kinds.items() if media_type in types), "layer" if "layer" in media_type else "blob"
    )
