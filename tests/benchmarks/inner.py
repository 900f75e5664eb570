"""The inner loops of a build, one by one, by pytest-benchmark.

    pytest -p no:xdist --benchmark-columns=median,ops,rounds tests/benchmarks/inner.py

It is no part of the tests: its name is not one that pytest collects by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocibuild.layer import Compression, File, build_layer, plan, read_tree, tar_chunks
from ocibuild.layer.compress import MEMBER_SIZE, compress
from ocibuild.layer.entry import Entry
from ocibuild.layer.workers import Workers
from ocibuild.store import LayoutStore
from tests.support.tools import TREES

from .workloads import machine_code, make, small_text

Benchmark = Callable[..., Any]
COUNT = 2000


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two thousand small files."""
    return make(f"files-{COUNT}", tmp_path_factory.mktemp("small")).trees[0][1]


@pytest.fixture(scope="module")
def code() -> list[bytes]:
    """16 MiB that compress as machine code does, in blocks."""
    (library,) = TREES[0].rglob("*.so")
    data = b"".join(machine_code(library.read_bytes(), 16 * MEMBER_SIZE, seed=0))
    return [data[start : start + MEMBER_SIZE] for start in range(0, len(data), MEMBER_SIZE)]


def test_read_tree(benchmark: Benchmark, small: Path) -> None:
    assert len(benchmark(read_tree, small)) > COUNT


def test_plan(benchmark: Benchmark, small: Path) -> None:
    entries = read_tree(small)
    assert len(benchmark(plan, entries)) == len(entries)


def test_headers(benchmark: Benchmark) -> None:
    """The archive of empty files: headers alone."""
    entries = plan([File(path=f"share/data/{number:06}.txt", content=b"") for number in range(COUNT)])
    assert benchmark(lambda: sum(map(len, tar_chunks(entries)))) == (COUNT + 2 + 2) * 512


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_archive(benchmark: Benchmark, small: Path, kind: str) -> None:
    """Small files from memory, and from files."""
    planned: tuple[Entry, ...] = plan(read_tree(small))
    if kind == "memory":
        planned = plan([File(path=f"share/{at:06}.txt", content=text) for at, text in enumerate(small_text(COUNT))])
    assert benchmark(lambda: sum(map(len, tar_chunks(planned)))) > COUNT * 4096


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("codec", [Compression.GZIP, Compression.ZSTD], ids=lambda codec: codec.value)
def test_compress(benchmark: Benchmark, code: list[bytes], codec: Compression, threads: int) -> None:
    with Workers(threads) as workers:
        assert benchmark(lambda: sum(map(len, compress(iter(code), codec, workers=workers)))) < 8 * MEMBER_SIZE


def test_sha256(benchmark: Benchmark, code: list[bytes]) -> None:
    """What no build can be quicker than."""

    def run() -> str:
        hasher = hashlib.sha256()
        for block in code:
            hasher.update(block)
        return hasher.hexdigest()

    assert benchmark(run)


@pytest.mark.parametrize("sync", [True, False], ids=["synced", "unsynced"])
def test_build_layer(benchmark: Benchmark, code: list[bytes], tmp_path: Path, sync: bool) -> None:
    """A whole layer of one library into a layout, with and without waiting for the disk."""
    entry = File(path="lib/x.so", content=b"".join(code))
    with LayoutStore(tmp_path / "out", sync=sync) as store:
        benchmark(build_layer, [entry], into=store)
