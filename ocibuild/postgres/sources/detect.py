"""Finding out what a source is, by what it holds and not by its name."""

from __future__ import annotations

import os
from pathlib import Path

from ocibuild.errors import NotFoundError, SourceError
from ocibuild.layer.tree import read_tree
from ocibuild.oci import Platform

from .base import Source, make_source
from .pgrx import map_pgrx_tree

__all__ = ["open_source"]


def open_source(path: Path | str, *, platform: Platform | str | None = None) -> Source:
    """What an extension's build left at a path, for one platform.

    A folder with a control file below a folder `extension` is what `cargo pgrx package` wrote, whatever prefix
    `pg_config` gave it, none included. With a platform, a folder is a plain tree, taken as it is.

    Args:
        path: The folder.
        platform: What a plain tree is for; its libraries must agree.

    Raises:
        NotFoundError: Nothing is there.
        SourceError: Nothing that can be packed is there, or it is for another platform.

    Example:
        >>> source = open_source("fixtures/packages/arm64/pgrx_hello-pg18")
        >>> source.name, source.version, source.major, str(source.platform)
        ('pgrx_hello', '0.2.0', 18, 'linux/arm64')
    """
    folder = Path(path)
    given = Platform.parse(platform) if isinstance(platform, str) else platform
    try:
        is_file = folder.is_file()
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot be read: {error}", where=repr(str(path))) from error
    if is_file:
        raise SourceError("a file", wanted="the folder that cargo pgrx package wrote", where=folder)
    if not os.path.isdir(folder):
        raise NotFoundError("no such folder", where=folder, hint="Run cargo pgrx package first?")
    entries = read_tree(folder)
    if given is not None:
        return make_source(folder, "plain", entries, platform=given)
    mapped = map_pgrx_tree(entries, where=folder)
    if mapped is None:
        raise SourceError(
            "no control file under a folder named extension, and no library",
            wanted="what cargo pgrx package writes",
            where=folder,
            hint=f"A plain tree is given with its platform: linux/amd64={folder}",
        )
    return make_source(folder, "pgrx", list(mapped[0]), left_out=mapped[1])
