"""Archives and Debian packages made for tests, from the files of a tree."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import zstandard

__all__ = ["CODECS", "ar", "deb", "tar", "tree_files", "zipped"]

CODECS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda raw: gzip.compress(raw, mtime=0),
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}

Files = Mapping[str, bytes | str]
"""Content by path; a text is the target of a symbolic link, `=PATH` of a hard one, None a folder."""


def tree_files(folder: Path, prefix: str = "") -> dict[str, bytes | str]:
    """The files of a folder."""
    return {
        f"{prefix}{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def tar(files: Files, suffix: str = "") -> bytes:
    """A tar archive, compressed as its name's ending says."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type = tarfile.LNKTYPE if content.startswith("=") else tarfile.SYMTYPE
                info.linkname = content.removeprefix("=")
                archive.addfile(info)
    return CODECS[suffix](buffer.getvalue())


def zipped(files: Files) -> bytes:
    """A zip archive; links as Info-ZIP stores them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            info = zipfile.ZipInfo(path)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o120777 if isinstance(content, str) else 0o100644) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def ar(members: Mapping[str, bytes]) -> bytes:
    """An ar archive."""
    parts = [b"!<arch>\n"]
    for name, content in members.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
        parts.append(content + b"\n" * (len(content) % 2))
    return b"".join(parts)


def deb(
    files: Files,
    *,
    package: str = "postgresql-18-hello",
    version: str = "0.2.0-1",
    architecture: str = "amd64",
    postinst: str = "",
    suffix: str = ".xz",
) -> bytes:
    """A Debian package."""
    fields = (
        f"Package: {package}\nVersion: {version}\nArchitecture: {architecture}\nDescription: says hello\n at length\n"
    )
    control: dict[str, bytes | str] = {"./control": fields.encode(), "./postinst": postinst.encode()}
    data = {f"./{path}": content for path, content in files.items()}
    return ar({
        "debian-binary": b"2.0\n", f"control.tar{suffix}": tar(control, suffix), f"data.tar{suffix}": tar(data, suffix),
    })  # fmt: skip
