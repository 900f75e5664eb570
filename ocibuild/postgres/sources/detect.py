"""Finding out what a source is, by what it holds and not by its name."""

from __future__ import annotations

from pathlib import Path

from ocibuild.errors import NotFoundError, SourceError
from ocibuild.layer.tree import read_tree
from ocibuild.oci import Platform

from .base import Source, make_source
from .pgrx import map_pgrx_tree

__all__ = ["open_source"]


def open_source(path: Path | str, *, platform: Platform | str | None = None) -> Source:
    """What an extension's build left at a path, for one platform.

    A folder with a control file under a folder `extension` that is not `share/extension` itself is what `cargo pgrx
    package` wrote, whatever prefix `pg_config` gave it. With a platform, any other folder is a plain tree, taken as it
    is.

    Args:
        path: The folder.
        platform: What it is for, where it does not tell; where it does, it must agree.

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
    if not folder.exists():
        raise NotFoundError("no such folder", where=folder, hint="Run cargo pgrx package first?")
    if not folder.is_dir():
        raise SourceError("a file", wanted="the folder that cargo pgrx package wrote", where=folder)
    entries = read_tree(folder)
    mapped = map_pgrx_tree(entries, where=folder)
    if mapped is not None:
        return make_source(folder, "pgrx", list(mapped[0]), platform=given, left_out=mapped[1])
    if given is not None:
        return make_source(folder, "plain", entries, platform=given)
    raise SourceError(
        "no control file under a folder named extension, and no library",
        wanted="what cargo pgrx package writes",
        where=folder,
        hint=f"A plain tree is given with its platform: linux/amd64={folder}",
    )
