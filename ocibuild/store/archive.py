"""OCI archives: a layout in one tar file.

What is written goes to a temporary layout beside the file. When the store is closed without an error it becomes one tar
archive of format 1 (members sorted, one mtime), which replaces the file at once.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from ocibuild.errors import ContentError, NotFoundError, StoreError
from ocibuild.layer.entry import Entry, File
from ocibuild.layer.plan import plan
from ocibuild.layer.stream import drain
from ocibuild.layer.tar import tar_chunks
from ocibuild.oci import Descriptor, Digest, Index
from ocibuild.oci.annotations import CONTAINERD_NAME
from ocibuild.oci.canonical import DOCUMENT_LIMIT, decode

from .archive_file import ArchiveFile, file_state
from .blobs import FileWriter
from .entries import document_descriptor, entry_name, referrers_in, resolve_in, tags_in
from .files import Staging, exclusive_folder, make_parents, remove_folders, store_errors, sync_folder
from .layout import LayoutStore
from .verify import verifying

__all__ = ["ArchiveStore", "write_archive"]

_BLOB = re.compile(r"blobs/(sha256/[a-f0-9]{64}|sha512/[a-f0-9]{128})")


class ArchiveStore:
    """An archive file as a store.

    Args:
        path: The file; it need not exist.
        name: The image's full reference, kept for `ctr`, k3s and kind (`io.containerd.image.name`), without its tag.

    Raises:
        LayoutError: The file exists and is not an OCI archive.

    Example:
        >>> import tempfile, ocibuild
        >>> image = ocibuild.build_image([], platform=ocibuild.Platform.parse("linux/amd64"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with ArchiveStore(Path(folder) / "out.tar") as archive:
        ...         _ = ocibuild.copy(image, archive, tags=["1.0"])
        ...     list(ArchiveStore(Path(folder) / "out.tar").tags())
        ['1.0']
    """

    is_carried = True
    """What was carried here may have suffered: `copy` to a registry reads all of it before it sends any."""

    def __init__(self, path: Path | str, *, name: str | None = None) -> None:
        with store_errors(path):
            # A link stays one: what it points to is read and replaced.
            self.path = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
        self._name = name
        self._file: ArchiveFile | None = None
        self._staging: Staging | None = None
        self._layout: LayoutStore | None = None
        self._lock = threading.RLock()
        self._parents: list[Path] = []
        self._open_file()

    def fetch(self, descriptor: Descriptor) -> BinaryIO:
        """See `Fetcher.fetch`."""
        if self._layout is not None:
            try:
                return self._layout.fetch(descriptor)
            except NotFoundError:
                pass
        key = _key(descriptor.digest)
        if self._file is None or key not in self._file.members:
            raise NotFoundError("no such blob in the archive", where=descriptor.digest)
        return verifying(self._file.open_member(key), descriptor, where=f"{self.path}, {descriptor.digest}")

    def exists(self, descriptor: Descriptor) -> bool:
        """See `Store.exists`."""
        if self._layout is not None and self._layout.exists(descriptor):
            return True
        try:
            with self.fetch(descriptor) as stream:
                drain(stream)
        except (NotFoundError, ContentError):
            return False
        return True

    def push(self, descriptor: Descriptor, content: BinaryIO) -> None:
        """See `Store.push`."""
        self._writable().push(descriptor, content)

    @contextmanager
    def ingest(self) -> Iterator[FileWriter]:
        """See `LocalStore.ingest`."""
        with self._writable().ingest() as writer:
            yield writer

    def resolve(self, name: str) -> Descriptor:
        """See `Store.resolve`; a digest need not be named in `index.json`."""
        found = resolve_in(self.index(), name, where=self.path)
        if found is not None:
            return found
        if self._layout is not None:
            return self._layout.resolve(name)
        digest = Digest(name)
        if self._file is None or _key(digest) not in self._file.members:
            raise NotFoundError(f"no image {digest}", where=self.path)
        return document_descriptor(self, digest, self._file.members[_key(digest)][1], where=self.path)

    def tag(self, descriptor: Descriptor, name: str) -> None:
        """See `Store.tag`."""
        self._writable().tag(descriptor, name)

    def retag(self, descriptor: Descriptor, name: str, expected: Descriptor | None) -> bool:
        """See `Retagging.retag`; another process's change is found when the store is closed."""
        return self._writable().retag(descriptor, name, expected)

    def tags(self) -> dict[str, Descriptor]:
        """See `LocalStore.tags`."""
        return tags_in(self.index())

    def referrers(self, descriptor: Descriptor, *, artifact_type: str | None = None) -> list[Descriptor]:
        """See `Store.referrers`."""
        return referrers_in(self, self.index(), descriptor, artifact_type=artifact_type)

    def index(self) -> Index:
        """The archive's `index.json`, with what was added since it was opened.

        Raises:
            NotFoundError: There is no archive yet.
        """
        if self._layout is not None:
            return self._layout.index()
        if self._file is None:
            raise NotFoundError("no OCI archive", where=self.path)
        return decode(self._file.read("index.json", DOCUMENT_LIMIT), Index, where=f"{self.path}, index.json")

    def close(self) -> None:
        """Write the archive, if anything was put into the store: what its index reaches, and nothing else.

        Raises:
            StoreError: The file cannot be written, or another process has changed it since it was opened.
        """
        if self._layout is None or self._staging is None:
            return
        try:
            if self._name:
                self._add_names()
            self._layout.close()
            self._layout.gc()
            with store_errors(self.path), exclusive_folder(self.path.parent):
                if file_state(self.path) != (self._file and self._file.state):
                    raise StoreError(
                        "changed by another process while this one was at work",
                        where=self.path,
                        hint="Run it again: what the other one wrote is kept then.",
                    )
                write_archive(self._layout.path, self.path, staging=self._staging.path)
        finally:
            self.discard()
        self._open_file()

    def discard(self) -> None:
        """Forget what was put into the store since it was opened; the file stays as it was."""
        if self._layout is not None:
            self._layout.close()
        if self._staging is not None:
            self._staging.close()
        self._layout = self._staging = None
        # Gone if nothing came of it.
        remove_folders(self._parents)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard() if error is not None else self.close()

    def _open_file(self) -> None:
        self._file = ArchiveFile.open(self.path)
        if self._file is not None:
            self._file.read("oci-layout", 1024)
            self.index()

    def _writable(self) -> LayoutStore:
        with self._lock:
            if self._layout is None:
                self._layout = self._begin()
            return self._layout

    def _begin(self) -> LayoutStore:
        """A temporary layout with all that the archive holds."""
        with store_errors(self.path):
            self._parents = make_parents(self.path)
            self._staging = Staging(self.path.parent, self.path.name)
            layout = LayoutStore(self._staging.path / "layout", sync=False)
            if self._file is not None:
                for key in sorted(self._file.members):
                    if _BLOB.fullmatch(key):
                        self._import(layout, self._file, key)
                layout.replace_index(self.index())
        return layout

    def _import(self, layout: LayoutStore, file: ArchiveFile, key: str) -> None:
        algorithm, _, encoded = key.removeprefix("blobs/").partition("/")
        descriptor = Descriptor(
            media_type="application/octet-stream",
            digest=Digest(f"{algorithm}:{encoded}"),
            size=file.members[key][1],
        )
        layout.push(descriptor, file.open_member(key))

    def _add_names(self) -> None:
        layout = self._writable()
        for item in layout.index().manifests:
            if tag := entry_name(item):
                layout.add(item.with_annotation(CONTAINERD_NAME, f"{self._name}:{tag}"))


def _key(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.encoded}"


def write_archive(folder: Path, path: Path, *, staging: Path, also: tuple[Entry, ...] = ()) -> None:
    """Write the files of a layout, and others, as one sorted tar archive that replaces `path` at once."""
    entries: list[Entry] = [
        File(path=file.relative_to(folder).as_posix(), content=file) for file in folder.rglob("*") if file.is_file()
    ]
    temporary = staging / "archive.tar"
    with store_errors(path):
        with open(temporary, "wb") as stream:
            stream.writelines(tar_chunks(plan([*entries, *also])))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
