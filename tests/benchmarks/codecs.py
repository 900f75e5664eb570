"""Sizes and speeds of the codecs that format 1 could use, on real extension trees.

    python -m tests.benchmarks.codecs TREE [TREE...]

Each TREE is packed as one layer (libraries and scripts together), then compressed at each level with one thread and
with two. The best of three runs counts. `crane` and `umoci`, where they are on PATH or under OCIBUILD_PEERS, pack the
same tree, for their size and the wall time of the whole process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import zstandard
from deflate import gzip_compress

from ocibuild.layer import plan, read_tree, tar_chunks
from ocibuild.layer.compress import MEMBER_SIZE


def archive(folder: Path) -> bytes:
    return b"".join(tar_chunks(plan(read_tree(folder))))


def best(work: Callable[[], int]) -> tuple[int, float]:
    times = []
    size = 0
    for _ in range(3):
        start = time.perf_counter()
        size = work()
        times.append(time.perf_counter() - start)
    return size, min(times)


def members(data: bytes, level: int, threads: int) -> int:
    blocks = [data[start : start + MEMBER_SIZE] for start in range(0, len(data), MEMBER_SIZE)]
    with ThreadPoolExecutor(threads) as pool:
        return sum(len(item) for item in pool.map(lambda block: gzip_compress(block, level), blocks))


def zstd(data: bytes, level: int, threads: int) -> int:
    return len(zstandard.ZstdCompressor(level=level, threads=threads, write_checksum=True).compress(data))


def tool(name: str) -> list[str] | None:
    if shutil.which(name):
        return [name]
    peers = os.environ.get("OCIBUILD_PEERS")
    return [str(Path(peers) / "run"), name] if peers else None


def go_tools(folder: Path, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "layer.tar").write_bytes(data)
        if crane := tool("crane"):
            start = time.perf_counter()
            subprocess.run(
                [*crane, "append", "--oci-empty-base", "-f", "layer.tar", "-t", "localhost/x:1", "-o", "crane.tar"],
                cwd=scratch,
                check=True,
                capture_output=True,
            )
            wall = time.perf_counter() - start
            print(
                f"  crane append            {(Path(scratch) / 'crane.tar').stat().st_size:>12,}  {wall:8.2f} s process"
            )
        if umoci := tool("umoci"):
            start = time.perf_counter()
            for arguments in (
                ["init", "--layout", "u"],
                ["new", "--image", "u:1"],
                ["insert", "--image", "u:1", str(folder.resolve()), "/"],
            ):
                subprocess.run([*umoci, *arguments], cwd=scratch, check=True, capture_output=True)
            wall = time.perf_counter() - start
            size = max(path.stat().st_size for path in (Path(scratch) / "u/blobs/sha256").iterdir())
            print(f"  umoci insert            {size:>12,}  {wall:8.2f} s three processes")


def main() -> None:
    for folder in map(Path, sys.argv[1:]):
        data = archive(folder)
        print(f"{folder.name}: {len(data):,} bytes of tar")
        size, seconds = best(lambda data=data: len(zlib.compress(data, 6)))  # type: ignore[misc]
        print(f"  zlib 6                  {size:>12,}  {len(data) / seconds / 1e6:8.0f} MB/s")
        for level in range(1, 9):
            rates = []
            for threads in (1, 2):
                size, seconds = best(lambda data=data, level=level, threads=threads: members(data, level, threads))  # type: ignore[misc]
                rates.append(len(data) / seconds / 1e6)
            print(
                f"  libdeflate {level}, 1 MiB     {size:>12,}  {rates[0]:8.0f} MB/s  {rates[1]:8.0f} MB/s with 2 threads"
            )
        for level in (1, 3, 6, 9, 12):
            rates = []
            for threads in (1, 2):
                size, seconds = best(lambda data=data, level=level, threads=threads: zstd(data, level, threads))  # type: ignore[misc]
                rates.append(len(data) / seconds / 1e6)
            print(
                f"  zstd {level:<2}                 {size:>12,}  {rates[0]:8.0f} MB/s  {rates[1]:8.0f} MB/s with 2 threads"
            )
        go_tools(folder, data)


if __name__ == "__main__":
    main()
