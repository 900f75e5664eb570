"""OCI image layouts: a folder of blobs and an `index.json` that names some (image-spec, image-layout.md).

Blobs are written to a staging folder, hashed, synced and renamed. `index.json` is replaced at once, under the lock of
the `oci-layout` file. Killed at any moment, a process leaves a layout that opens, or none.
"""

from __future__ import annotations

import io
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from ocibuild.errors import DocumentError, LayoutError, NotFoundError, StoreError
from ocibuild.oci import Descriptor, Digest, Index, media_types
from ocibuild.oci.annotations import REF_NAME
from ocibuild.oci.canonical import DOCUMENT_LIMIT, decode, encode
from ocibuild.oci.reference import check_tag

from .blobs import BlobFolder, FileWriter
from .entries import add_entry, document_descriptor, referrers_in, resolve_in, tags_in
from .files import Staging, exclusive, replace_file, store_errors, sweep
from .graph import DOCUMENTS, referrer_of, walk

__all__ = ["LayoutStore"]

LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'


class LayoutStore:
    """A layout folder as a store. It is made when something is first put into it.

    Args:
        path: The folder.

    Raises:
        LayoutError: The folder exists, is not empty, and is not a layout.

    Example:
        >>> import tempfile, ocibuild
        >>> image = ocibuild.build_image([], platform=ocibuild.Platform.parse("linux/amd64"))
        >>> with tempfile.TemporaryDirectory() as folder, LayoutStore(Path(folder) / "out") as layout:
        ...     _ = ocibuild.copy(image, layout, tags=["1.0"])
        ...     list(layout.tags())
        ['1.0']
    """

    def __init__(self, path: Path | str, *, sync: bool = True) -> None:
        self.path = Path(path)
        self._blobs = BlobFolder(self.path / "blobs", sync=sync)
        self._staging: Staging | None = None
        self._created = False
        self._lock = threading.RLock()
        self._check()

    # Reading

    def fetch(self, descriptor: Descriptor) -> BinaryIO:
        """See `Fetcher.fetch`."""
        return self._blobs.open(descriptor)

    def resolve(self, name: str) -> Descriptor:
        """See `Store.resolve`; a digest need not be named in `index.json`."""
        found = resolve_in(self.index(), name, where=self.path)
        if found is not None:
            return found
        digest = Digest(name)
        try:
            size = self._blobs.blob_path(digest).stat().st_size
        except OSError:
            raise NotFoundError(f"no image {digest}", where=self.path) from None
        return document_descriptor(self, digest, size, where=self.path)

    def tags(self) -> dict[str, Descriptor]:
        """See `LocalStore.tags`."""
        return tags_in(self.index())

    def referrers(self, descriptor: Descriptor, *, artifact_type: str | None = None) -> list[Descriptor]:
        """See `Store.referrers`."""
        return referrers_in(self, self.index(), descriptor, artifact_type=artifact_type)

    def index(self) -> Index:
        """The layout's `index.json`.

        Raises:
            NotFoundError: There is no layout yet.
            LayoutError: It is damaged.
        """
        if not self._check():
            raise NotFoundError("no OCI layout", where=self.path)
        path = self.path / "index.json"
        try:
            with open(path, "rb") as stream:
                return decode(stream.read(DOCUMENT_LIMIT + 1), Index, where=path)
        except (DocumentError, OSError) as error:
            raise LayoutError(f"a layout whose index.json cannot be read: {error}", where=self.path) from error

    # Writing

    def exists(self, descriptor: Descriptor) -> bool:
        """See `Store.exists`; blobs of other processes' images stay until this store is closed."""
        if not self._check():
            return False
        self._session()
        return self._blobs.exists(descriptor)

    def push(self, descriptor: Descriptor, content: BinaryIO) -> None:
        """See `Store.push`."""
        if descriptor.media_type not in DOCUMENTS:
            self._blobs.put(descriptor, content, self._session())
            return
        raw = content.read(DOCUMENT_LIMIT + 1)
        link = referrer_of(raw, descriptor)
        self._blobs.put(descriptor, io.BytesIO(raw), self._session())
        if link is not None:
            self.add(link[1])

    @contextmanager
    def ingest(self) -> Iterator[FileWriter]:
        """See `LocalStore.ingest`."""
        with self._blobs.ingest(self._session()) as writer:
            yield writer

    def tag(self, descriptor: Descriptor, name: str) -> None:
        """See `Store.tag`."""
        self.add(descriptor.bare.with_annotation(REF_NAME, check_tag(name)))

    def add(self, entry: Descriptor) -> None:
        """Put an entry into `index.json`, in place of the one of the same name, or of the same unnamed manifest.

        Raises:
            NotFoundError: Its blob is not here.
        """
        staging = self._session()
        if not self._blobs.exists(entry):
            raise NotFoundError("no such blob in the layout", where=entry.digest)
        with self._lock, store_errors(self.path), exclusive(self.path / "oci-layout"):
            index = self.index()
            new = add_entry(index, entry)
            if new != index:
                replace_file(self.path / "index.json", encode(new), staging=staging)

    def gc(self) -> tuple[int, int]:
        """Remove every blob that nothing in `index.json` reaches; the number of blobs and of bytes removed.

        Raises:
            StoreError: Another process is writing to the layout.
            NotFoundError, ContentError: An image is incomplete or damaged; nothing is removed.
        """
        index = self.index()
        with self._lock, store_errors(self.path), exclusive(self.path / "oci-layout"):
            self.close()
            if sweep(self.path):
                raise StoreError("another process is writing to it", where=self.path, hint="Try again when it is done.")
            index = self.index()
            reached = {descriptor.digest for root in index.manifests for descriptor in walk(self, root.bare)}
            count = size = 0
            for path in sorted((self.path / "blobs").glob("*/*")):
                if f"{path.parent.name}:{path.name}" not in reached:
                    count, size = count + 1, size + path.stat().st_size
                    path.unlink()
        return count, size

    def close(self) -> None:
        """End the writing: staging files are removed, blobs may be collected again."""
        with self._lock:
            if self._staging is not None:
                self._staging.close()
                self._staging = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A build that fails leaves no layout that was not there before.
        if error is not None and self._created and not self.index().manifests:
            self.close()
            shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    def _check(self) -> bool:
        """Whether the folder is a layout; False when it can become one."""
        try:
            with open(self.path / "oci-layout", "rb") as stream:
                raw = stream.read(1024)
        except (FileNotFoundError, NotADirectoryError):
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise LayoutError(
                    "exists and is not an OCI layout", where=self.path, hint="Name another place, or remove it."
                ) from None
            return False
        except OSError as error:
            raise LayoutError(f"cannot be read: {error.strerror}", where=self.path) from error
        try:
            version = decode(raw, dict, where=self.path / "oci-layout").get("imageLayoutVersion")
        except DocumentError as error:
            raise LayoutError(f"a damaged oci-layout file: {error.found}", where=self.path) from None
        if version != "1.0.0":
            raise LayoutError(f"layout version {version!r}", wanted="1.0.0", where=self.path)
        return True

    def _session(self) -> Path:
        """The staging folder of this writer, made with the layout at its first write."""
        with self._lock, store_errors(self.path):
            if self._staging is None:
                if not self._check():
                    self._create()
                # Under the lock: nobody collects garbage between this writer's birth and its mark.
                with exclusive(self.path / "oci-layout"):
                    self._staging = Staging(self.path, "tmp")
            return self._staging.path

    def _create(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        staging = Staging(self.path.parent, self.path.name)
        try:
            new = staging.path / "layout"
            (new / "blobs" / "sha256").mkdir(parents=True)
            empty = encode(Index(media_type=media_types.IMAGE_INDEX, manifests=()))
            for name, data in (("index.json", empty), ("oci-layout", LAYOUT_FILE)):
                replace_file(new / name, data, staging=staging.path)
            try:
                os.rename(new, self.path)
                self._created = True
            except OSError:
                # Another process was first; if it made a layout, all is well.
                if not self._check():
                    raise
        finally:
            staging.close()
