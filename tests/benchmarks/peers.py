"""The tools that ocibuild is measured beside: where they are, and how each packs the same trees.

What each leaves behind: umoci and buildah a complete layout, crane an image in a registry on loopback, and the pipelines a
compressed archive with the two digests that a layout would need. None of them waits for the disk; ocibuild does (`fsync`).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .workloads import Workload

__all__ = ["Tool", "find_tools", "folder_size"]

_TAR = "tar --create --format=ustar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --directory={tree} ."
_CLOCK = "trap 'echo $EPOCHREALTIME >> clock' EXIT; echo $EPOCHREALTIME > clock"


@dataclass(frozen=True, slots=True)
class Tool:
    """A way to pack a workload.

    Attributes:
        name: What it is called in tables.
        steps: The commands, started in a fresh folder, for a workload.
        kind: `layout` for what leaves a complete image with gzip, else `zstd` or `pipeline`.
        output: The folder with what was written, in the fresh folder.
        again: The name of the same commands, run once more over what they left.
        needs_registry: Whether it pushes.
    """

    name: str
    steps: Callable[[Workload], list[list[str]]]
    kind: str = "layout"
    output: Path = field(default=Path("out"))
    again: str | None = None
    needs_registry: bool = False

    @property
    def once(self) -> Tool:
        """The same without the second time."""
        return replace(self, again=None)


def folder_size(folder: Path) -> int:
    """The bytes of the blobs below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and "sha256" in path.parts)


def find_tools(address: str | None, place: Path) -> list[Tool]:
    """ocibuild, and every peer that is here.

    Args:
        address: A registry for crane, `127.0.0.1:PORT`.
        place: The registry's storage.
    """
    found = [
        Tool("ocibuild", _ocibuild, again="ocibuild again"),
        Tool("ocibuild zstd", lambda work: _ocibuild(work, "--compression", "zstd"), kind="zstd"),
    ]
    if umoci := program("umoci"):
        found.append(Tool("umoci", lambda work: _umoci(umoci, work)))
    crane = program("crane", "version")
    if crane and address:
        found.append(Tool("crane", lambda work: _crane(crane, work, address), output=place, needs_registry=True))
    if buildah := _in_root("buildah"):
        found.append(Tool("buildah", lambda work: _buildah(buildah, work)))
    if pigz := program("pigz"):
        found.append(Tool("tar, pigz -6", lambda work: _pipeline(work, [*pigz, "-6"]), kind="pipeline"))
    if zstd := program("zstd"):
        found.append(Tool("tar, zstd -3 -T2", lambda work: _pipeline(work, [*zstd, "-q", "-3", "-T2"]), kind="zstd"))
    return found


def program(name: str, ask: str = "--version") -> list[str] | None:
    """A program that runs here without a root of its own: the peers' one, by its own loader if need be, or PATH's."""
    root = _root()
    if root is not None and (path := root / "usr/bin" / name).is_file():
        loader = root / "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
        libraries = f"{loader.parent}:{root / 'usr/lib'}"
        for command in ([str(path)], [str(loader), "--library-path", libraries, str(path)]):
            if _runs([*command, ask]):
                return command
    path_of = shutil.which(name)
    return [path_of] if path_of else None


def _root() -> Path | None:
    if not os.environ.get("OCIBUILD_PEERS"):
        return None
    return Path(os.environ.get("PEERS_ROOT") or Path.home() / ".cache/peers")


def _runs(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def _in_root(name: str) -> list[str] | None:
    """A program that starts itself again, and so needs its root: the command that enters it. Else nothing, on PATH."""
    peers = os.environ.get("OCIBUILD_PEERS")
    if peers and _runs([f"{peers}/run", name, "--version"]):
        return [f"{peers}/run"]
    return [] if shutil.which(name) else None


def _sources(work: Workload) -> list[str]:
    return [f"{platform}={tree}" for platform, tree in work.trees]


def _ocibuild(work: Workload, *options: str) -> list[list[str]]:
    script = Path(sys.executable).parent / "ocibuild"
    command = [str(script)] if script.is_file() else [sys.executable, "-m", "ocibuild"]
    return [[*command, "build", *_sources(work), "--name", "bench", "-o", "oci:out:1", *options]]


def _umoci(umoci: Sequence[str], work: Workload) -> list[list[str]]:
    """One image a platform in one layout: umoci makes no index."""
    steps = [[*umoci, "init", "--layout", "out"]]
    for platform, tree in work.trees:
        name = f"out:{platform.rpartition('/')[2]}"
        steps += [[*umoci, "new", "--image", name], [*umoci, "insert", "--image", name, str(tree), "/"]]
    return steps


def _crane(crane: Sequence[str], work: Workload, address: str) -> list[list[str]]:
    """An archive first, since crane takes no folder; an index where there are several platforms."""
    steps, names = [], []
    for platform, tree in work.trees:
        archive = f"{platform.rpartition('/')[2]}.tar"
        names.append(f"{address}/bench:{platform.rpartition('/')[2]}")
        steps.append([*shlex.split(_TAR.format(tree=shlex.quote(str(tree)))), f"--file={archive}"])
        steps.append([*crane, "append", "--insecure", "--oci-empty-base", "-f", archive, "-t", names[-1]])
    if len(names) > 1:
        manifests = [item for name in names for item in ("-m", name)]
        steps.append([*crane, "index", "append", "--insecure", *manifests, "-t", f"{address}/bench:1"])
    return steps


def _buildah(enter: Sequence[str], work: Workload) -> list[list[str]]:
    """In one shell in its root: to get there is none of its work, so the shell tells when it begins and ends."""
    buildah = "buildah --root $PWD/storage --runroot $PWD/run --storage-driver $driver"
    lines = ["set -e", "driver=overlay", f"{buildah} info >/dev/null 2>&1 || driver=vfs", _CLOCK]
    for platform, tree in work.trees:
        lines += [
            f"made=$({buildah} from --quiet --platform {platform} scratch)",
            f"{buildah} copy --quiet $made {shlex.quote(str(tree))} /",
            f"{buildah} commit --quiet --disable-compression=false --format oci $made oci:out:{platform.rpartition('/')[2]}",
        ]
    return [[*enter, "bash", "-c", "\n".join(lines)]]


def _pipeline(work: Workload, codec: Sequence[str]) -> list[list[str]]:
    """Each byte read once: archive, its digest, codec, the file, its digest."""
    digest = shlex.join(program("sha256sum") or ["sha256sum"])
    steps = [["mkdir", "-p", "out/sha256"]]
    for platform, tree in work.trees:
        name = f"out/sha256/{platform.rpartition('/')[2]}"
        tar = _TAR.format(tree=shlex.quote(str(tree)))
        line = f"{tar} | tee >({digest} > {name}.diff-id) | {shlex.join(codec)} | tee {name} | {digest} > {name}.digest"
        steps.append(["bash", "-c", f"set -e -o pipefail; {line}; wait $!"])
    return steps
