"""Unpacking an image's files into a new folder, without trusting them.

Which path gets which content is decided before anything is written (`contents.file_tree`), every blob having been
verified by then. Files are written below folders made here, symbolic links last, so that none is ever followed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from .contents import Placed, file_tree, read_layers
from .errors import StoreError
from .store import Artifact
from .store.files import Staging, store_errors

__all__ = ["unpack"]


def unpack(image: Artifact, folder: Path | str, *, on_progress: Callable[[int], None] | None = None) -> list[str]:
    """Write the files of a single image into a folder that does not exist or is empty.

    Owners are not kept, set-id bits neither; symbolic links are written as they are and may lead anywhere, so do not
    follow those of an image you do not trust. A new folder appears when all is written, or not at all.

    Args:
        image: One platform's image (`single_image` picks it out of an index).
        folder: Where to.
        on_progress: Called with the number of content bytes that were just written.

    Returns:
        The paths written, sorted.

    Raises:
        UsageError: The artifact is not a single image.
        StoreError: The folder exists and is not empty, or cannot be written.
        LayerError, DigestMismatchError: A layer is unsafe or damaged.

    Example:
        >>> import tempfile, ocibuild
        >>> store = ocibuild.MemoryStore()
        >>> layer = ocibuild.build_layer([ocibuild.File(path="lib/x", content=b"1")], into=store)
        >>> image = ocibuild.build_image([layer], platform=ocibuild.Platform.parse("linux/amd64"), into=store)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     unpack(image, Path(folder) / "out")
        ['lib', 'lib/x']
    """
    target = Path(folder)
    with store_errors(target):
        exists = target.exists() or target.is_symlink()
        if exists and not target.is_dir():
            raise StoreError("exists and is not a folder", where=target, hint="Name a folder that does not exist.")
        if exists and any(target.iterdir()):
            raise StoreError("exists and is not empty", where=target, hint="Name a folder that does not exist.")
    tree = file_tree(image)
    for path in tree:
        _check_name(path)
    with store_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        # An empty folder stays the one it is: somebody may stand in it, or point to it.
        staging = Staging(target, "tmp") if exists else Staging(target.parent, target.name)
        try:
            root = staging.path / "files"
            root.mkdir()
            _write(image, tree, root, on_progress or _nobody)
            if exists:
                for item in sorted(root.iterdir()):
                    os.rename(item, target / item.name)
            else:
                os.rename(root, target)
            # Last: a folder that may not be written to may not be moved either.
            for path, placed in reversed(tree.items()):
                if placed.member.kind == "directory":
                    os.chmod(target / path, placed.member.mode & 0o777)
        finally:
            staging.close()
    return list(tree)


def _nobody(_size: int) -> None:
    pass


def _check_name(path: str) -> None:
    """Refuse what Windows would take for another path."""
    if os.name != "nt":
        return
    for part in path.split("/"):
        stem = part.split(".")[0].upper()
        reserved = stem in {"CON", "PRN", "AUX", "NUL"} or stem[:-1] in {"COM", "LPT"}
        if reserved or part.endswith((".", " ")) or any(character in part for character in '\\:*?"<>|'):
            raise StoreError("a name that Windows does not take", where=path, hint="Unpack it on another system.")


def _write(image: Artifact, tree: dict[str, Placed], root: Path, tell: Callable[[int], None]) -> None:
    wanted: dict[tuple[int, int], list[str]] = {}
    folders: set[str] = set()
    for path, placed in tree.items():
        _make_folders(root, path if placed.member.kind == "directory" else path.rpartition("/")[0], folders)
        if placed.member.kind == "file":
            wanted.setdefault(placed.content, []).append(path)
    for layer, number, _, content in read_layers(image) if wanted else ():
        first, *others = wanted.get((layer, number), [""])
        if first:
            _write_file(root / first, content, tree[first].member.mode & 0o777, tell)
        for other in others:
            os.link(root / first, root / other)
    for path, placed in tree.items():
        if placed.member.kind == "symlink":
            os.symlink(placed.member.link, root / path)


def _make_folders(root: Path, path: str, made: set[str]) -> None:
    """A folder and its parents, one after the other: a hostile path may have thousands."""
    missing = []
    while path and path not in made:
        missing.append(path)
        made.add(path)
        path = path.rpartition("/")[0]
    for folder in reversed(missing):
        os.mkdir(root / folder)


def _write_file(path: Path, content: BinaryIO, mode: int, tell: Callable[[int], None]) -> None:
    # "x": an existing file (two names that this file system takes for one) is an error, not overwritten.
    with open(path, "xb") as stream:
        while data := content.read(1024 * 1024):
            stream.write(data)
            tell(len(data))
    os.chmod(path, mode)
