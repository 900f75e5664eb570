"""Unpacking an image's files into a new folder, without trusting them.

Which path gets which content is decided before anything is written (`contents.file_tree`), every blob having been
verified by then. Files are written below folders made here, symbolic links last, so that none is ever followed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO

from .contents import Placed, file_tree, layer_members, read_image
from .errors import StoreError
from .store import Artifact
from .store.files import Staging, store_errors

__all__ = ["unpack"]


def unpack(image: Artifact, folder: Path | str) -> list[str]:
    """Write the files of a single image into a folder that does not exist or is empty.

    Owners are not kept, set-id bits neither. The folder appears when all is written, or not at all.

    Args:
        image: One platform's image (`find_platform` picks it out of an index).
        folder: Where to.

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
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StoreError("exists and is not empty", where=target, hint="Name a folder that does not exist.")
    tree = file_tree(image)
    with store_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Staging(target.parent, target.name)
        try:
            root = staging.path / "files"
            root.mkdir()
            _write(image, tree, root)
            os.replace(root, target)
        finally:
            staging.close()
    return list(tree)


def _write(image: Artifact, tree: dict[str, Placed], root: Path) -> None:
    wanted: dict[tuple[int, int], list[str]] = {}
    for path, placed in tree.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if placed.member.kind == "directory":
            (root / path).mkdir(exist_ok=True)
        elif placed.member.kind == "file":
            wanted.setdefault((placed.layer, placed.number), []).append(path)
    _write_files(image, wanted, root)
    for path, placed in tree.items():
        if placed.member.kind == "symlink":
            os.symlink(placed.member.link, root / path)
    for path, placed in reversed(tree.items()):
        if placed.member.kind == "directory":
            os.chmod(root / path, placed.member.mode & 0o777)


def _write_files(image: Artifact, wanted: dict[tuple[int, int], list[str]], root: Path) -> None:
    manifest, config = read_image(image)
    layers = {number for number, _ in wanted}
    for number, (layer, diff_id) in enumerate(zip(manifest.layers, config.rootfs.diff_ids, strict=True)):
        if number not in layers:
            continue
        for count, (member, content) in enumerate(layer_members(image.source, layer, diff_id)):
            first: Path | None = None
            for path in wanted.get((number, count), ()):
                _write_file(root / path, content, first)
                os.chmod(root / path, member.mode & 0o777)
                first = first or root / path


def _write_file(path: Path, content: BinaryIO, first: Path | None) -> None:
    """One file; `first` has the same content already where the image has it under several names."""
    # "x": an existing file (two names that this file system takes for one) is an error, not overwritten.
    with open(path, "xb") as stream:
        if first is None:
            shutil.copyfileobj(content, stream, 1024 * 1024)
        else:
            with open(first, "rb") as copied:
                shutil.copyfileobj(copied, stream)
