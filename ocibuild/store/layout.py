"""OCI image layouts: a folder of blobs and an `index.json` that names some (image-spec, image-layout.md).

Blobs are written to a staging folder, hashed, synced and renamed. `index.json` is replaced at once, under the lock of
the `oci-layout` file. Killed at any moment, a process leaves a layout that opens, or none.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator
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
from .entries import add_entry, digests_of, document_descriptor, referrers_in, resolve_in, tags_in
from .files import (
    Staging,
    exclusive,
    exclusive_folder,
    make_parents,
    open_regular,
    remove_folders,
    replace_file,
    store_errors,
    sweep,
    sweep_beside,
    sync_file,
    sync_folder,
)
from .graph import DOCUMENTS, read_blob, referrer_of, walk

__all__ = ["LayoutStore"]

_TRIES = 20
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
        self._created = self._existed = self._synced = False
        self._sync = sync
        self._parents: list[Path] = []
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
            with open_regular(path) as stream:
                raw = stream.read(DOCUMENT_LIMIT + 1)
            return decode(raw, Index, where=path)
        except (DocumentError, OSError) as error:
            found = error.found if isinstance(error, DocumentError | StoreError) else error.strerror
            raise LayoutError(f"a layout whose index.json cannot be read: {found}", where=self.path) from error

    # Writing

    def exists(self, descriptor: Descriptor) -> bool:
        """See `Store.exists`; a manifest with a `subject` exists once it is named as a referrer too."""
        if not self._check():
            return False
        with contextlib.suppress(StoreError):
            self._session()  # so that nobody collects it; where nothing can be written, nothing can be removed either
        return self._blobs.exists(descriptor) and (descriptor.media_type not in DOCUMENTS or self._is_named(descriptor))

    def _is_named(self, descriptor: Descriptor) -> bool:
        link = referrer_of(read_blob(self, descriptor), descriptor)
        return link is None or any(item.digest == descriptor.digest for item in self.index().manifests)

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

    def retag(self, descriptor: Descriptor, name: str, expected: Descriptor | None) -> bool:
        """See `Retagging.retag`; other processes are waited for."""
        entry = descriptor.bare.with_annotation(REF_NAME, check_tag(name))
        return self._add(entry, lambda index: digests_of(index, name) == ({expected.digest} if expected else set()))

    def replace_index(self, index: Index) -> None:
        """Put a whole `index.json` in place of the one there is."""
        staging = self._session()
        with self._lock, store_errors(self.path), exclusive(self.path / "oci-layout"):
            self._write_index(index, staging)

    def _write_index(self, index: Index, staging: Path) -> None:
        """Replace `index.json`, once all that it may name lasts."""
        self._blobs.sync()
        if self._created and self._sync and not self._synced:
            sync_file(self.path / "oci-layout")
            sync_folder(self.path.parent)
            self._synced = True
        replace_file(self.path / "index.json", encode(index), staging=staging, sync=self._sync)

    def add(self, entry: Descriptor) -> None:
        """Put an entry into `index.json`, in place of the one of the same name, or of the same unnamed manifest.

        Raises:
            NotFoundError: Its blob is not here.
        """
        self._add(entry, lambda _: True)

    def _add(self, entry: Descriptor, is_wanted: Callable[[Index], bool]) -> bool:
        staging = self._session()
        if not self._blobs.exists(entry):
            raise NotFoundError("no such blob in the layout", where=entry.digest)
        with self._lock, store_errors(self.path), exclusive(self.path / "oci-layout"):
            index = self.index()
            if not is_wanted(index):
                return False
            new = add_entry(index, entry)
            if new != index:
                self._write_index(new, staging)
            return True

    def gc(self) -> tuple[int, int]:
        """Remove every blob that nothing in `index.json` reaches; the number of blobs and of bytes removed.

        Raises:
            StoreError: Somebody is writing to the layout, or its blobs lie elsewhere.
            NotFoundError, ContentError: An image is incomplete, damaged or of an unknown kind; nothing is removed.
        """
        self.index()
        with self._lock, store_errors(self.path), exclusive(self.path / "oci-layout"):
            if self._staging is not None:
                raise StoreError("this store is writing to it", where=self.path, hint="Close it first.")
            if writers := sweep(self.path):
                hint = f"Try again when it is done; if it was killed as another user, remove {writers[0]}."
                raise StoreError("another process is writing to it", where=self.path, hint=hint)
            reached: set[Digest] = set()
            for root in self.index().manifests:
                if root.media_type not in DOCUMENTS:
                    raise DocumentError(f"a manifest of unknown type {root.media_type}", where=root.digest)
                reached.update(item.digest for item in walk(self, root.bare))
            return self._blobs.collect(reached)

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
        self.close()
        if error is not None and self._created:
            with contextlib.suppress(OSError, LayoutError, NotFoundError):
                self._abandon()
            remove_folders(self._parents)

    def _abandon(self) -> None:
        """Remove the layout that a failed build has made, unless somebody else has come to use it."""
        with self._lock, exclusive_folder(self.path), exclusive(self.path / "oci-layout"):
            if sweep(self.path) or self.index().manifests:
                return
            if self._existed:
                # In this order a kill leaves a layout, or what counts as nothing.
                import shutil

                shutil.rmtree(self.path / "blobs")
                for name in ("oci-layout", "index.json"):
                    (self.path / name).unlink()
                return
            # At once: whoever waits for the lock finds the layout gone and makes a new one.
            staging = Staging(self.path.parent, self.path.name)
            try:
                os.rename(self.path, staging.path / "abandoned")
            finally:
                staging.close()

    def _check(self) -> bool:
        """Whether the folder is a layout; False when it can become one."""
        raw = self._layout_file()
        if raw is None:
            return False
        try:
            version = decode(raw, dict, where=self.path / "oci-layout").get("imageLayoutVersion")
        except DocumentError as error:
            raise LayoutError(f"a damaged oci-layout file: {error.found}", where=self.path) from None
        if version != "1.0.0":
            raise LayoutError(f"layout version {version!r}", wanted="1.0.0", where=self.path)
        return True

    def _layout_file(self) -> bytes | None:
        """The bytes of `oci-layout`; None where there is room for a layout."""
        for _ in range(_TRIES):
            try:
                if (raw := self._read_file("oci-layout", 1024)) is not None:
                    return raw
                # Between two looks another process may have put its layout here, or taken it away: look again.
                with contextlib.suppress(FileNotFoundError):
                    if self._has_room():
                        return None
            except LayoutError:
                raise
            except (OSError, ValueError) as error:
                raise LayoutError(f"cannot be read: {error}", where=self.path) from error
        raise LayoutError("exists and is not an OCI layout", where=self.path, hint="Name another place.")

    def _read_file(self, name: str, limit: int) -> bytes | None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), open_regular(self.path / name) as stream:
            return stream.read(limit)
        return None

    def _has_room(self) -> bool:
        """Whether nothing is here, or what a killed process has begun in an empty folder; False for a layout.

        Raises:
            LayoutError: Something else is here.
        """
        if not self.path.exists():
            return True
        names = {item.name for item in self.path.iterdir()} if self.path.is_dir() else {"?"}
        if "oci-layout" in names:
            return False
        foreign = [name for name in names - {"blobs", "index.json"} if not name.startswith(".tmp.")]
        if foreign or any((self.path / "blobs").glob("*/*")):
            raise LayoutError("exists and is not an OCI layout", where=self.path, hint="Name another place.")
        return True

    def _session(self) -> Path:
        """The staging folder of this writer, made with the layout at its first write."""
        with self._lock, store_errors(self.path):
            for attempt in range(_TRIES):
                if self._staging is not None:
                    break
                try:
                    if not self._check():
                        self._create()
                    # Under the lock: nobody collects garbage between this writer's birth and its mark.
                    with exclusive(self.path / "oci-layout"):
                        self._staging = Staging(self.path, "tmp")
                    sweep_beside(self.path.absolute())
                except FileNotFoundError:
                    # Gone in between: another process has given up what it had begun.
                    if attempt == _TRIES - 1:
                        raise
            assert self._staging is not None
            return self._staging.path

    def _create(self) -> None:
        path = self.path.absolute()
        self._parents = make_parents(path)
        if path.is_dir():
            # It stays the folder it is: somebody may stand in it, or point to it.
            with exclusive_folder(path):
                if not self._check():
                    self._make(path, Staging(path, "tmp"))
                    self._existed = True
        else:
            self._make(path, Staging(path.parent, path.name))

    def _make(self, path: Path, staging: Staging) -> None:
        """Put a new layout in place: whole, or into an empty folder with `oci-layout` last."""
        try:
            new = staging.path / "layout"
            (new / "blobs" / "sha256").mkdir(parents=True)
            empty = encode(Index(media_type=media_types.IMAGE_INDEX, manifests=()))
            for name, data in (("index.json", empty), ("oci-layout", LAYOUT_FILE)):
                replace_file(new / name, data, staging=staging.path, sync=False)
            if staging.path.parent == path:
                (path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
                for name in ("index.json", "oci-layout"):
                    os.replace(new / name, path / name)
            else:
                os.rename(new, path)
            self._created = True
        except OSError:
            # Another process was first; if it made a layout, all is well.
            if not self._check():
                raise
        finally:
            staging.close()
