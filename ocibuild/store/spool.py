"""A store that lives as long as the artifact that was built into it."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

from .layout import LayoutStore

__all__ = ["Spool"]


class Spool(LayoutStore):
    """A layout in the system's temporary folder, removed when nothing refers to it any more.

    Example:
        >>> spool = Spool()
        >>> with spool.ingest() as blob:
        ...     _ = blob.write(b"hello")
        ...     descriptor = blob.commit("text/plain")
        >>> spool.fetch(descriptor).read()
        b'hello'
    """

    def __init__(self) -> None:
        import tempfile

        folder = tempfile.mkdtemp(prefix="ocibuild-spool-")
        self._finalizer = weakref.finalize(self, _remove, folder, os.getpid())
        super().__init__(Path(folder) / "layout", sync=False)


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
