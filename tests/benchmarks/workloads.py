"""The trees that builds are measured on: the same bytes on every machine, made from the fixtures and a seed.

    python -m tests.benchmarks.workloads DIR [NAME...]

| name | what |
|---|---|
| p1 | two platforms, a library of 8 MB and 31 scripts each; an extension that passes every check |
| p2 | 10,000 small files, 40 MB |
| p3 | 512 MiB in eight files |
| big | 4 GiB in eight files |
| files-N | N small files, as those of p2 |
| bytes-N | N bytes in eight files, as those of p3 |

What looks like machine code is the fixtures' libraries over and over, each time with the byte values changed about, so that
nothing repeats and a codec finds in every copy what it finds in the first; and tables of relocations in between. That
compresses as large libraries do: with pigz -6 to 0.41 to 0.42, with crane and umoci to 1.17 and 1.05 times that, with zstd -3
to 0.97. The small files are a table of numbers each and a line that repeats.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import random
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.tools import TREES

__all__ = ["NAMES", "Workload", "machine_code", "make", "small_text"]

NAMES = ("p1", "p2", "p3", "big")
GIB = 1024**3

_LIBRARY = 8_000_000
_SMALL, _ROWS = 4000, 25
_FOLDER = 100


@dataclass(frozen=True, slots=True)
class Workload:
    """Trees to build an image of.

    Attributes:
        name: As in the table above.
        trees: Each platform and its folder.
        files: How many files there are in all.
        size: How many bytes they have.
    """

    name: str
    trees: tuple[tuple[str, Path], ...]
    files: int
    size: int


def make(name: str, folder: Path) -> Workload:
    """The workload of that name, below a folder; what is there already is taken."""
    place = folder / name
    mark = place / "made"
    if not mark.is_file() or mark.read_text() != _recipe():
        shutil.rmtree(place, ignore_errors=True)
        _maker(name)(place)
        mark.write_text(_recipe())
    trees = tuple((f"linux/{path.name}", path) for path in sorted(place.iterdir()) if path.is_dir())
    sizes = [path.stat().st_size for _, tree in trees for path in tree.rglob("*") if path.is_file()]
    return Workload(name, trees, len(sizes), sum(sizes))


def _recipe() -> str:
    """What the trees depend on."""
    hasher = hashlib.sha256(Path(__file__).read_bytes())
    for tree in TREES:
        hasher.update(_fixture(tree))
    return hasher.hexdigest()


def _maker(name: str) -> Callable[[Path], None]:
    kind, _, number = name.partition("-")
    if kind == "files" and number.isdigit():
        return lambda place: _small_files(place / "amd64", int(number))
    if kind == "bytes" and number.isdigit():
        return lambda place: _large_files(place / "amd64", int(number))
    makers = {
        "p1": _extension,
        "p2": lambda place: _small_files(place / "amd64", 10_000),
        "p3": lambda place: _large_files(place / "amd64", GIB // 2),
        "big": lambda place: _large_files(place / "amd64", 4 * GIB),
    }
    if name not in makers:
        raise SystemExit(f"no workload {name!r}: one of {', '.join(makers)}, files-N, bytes-N")
    return makers[name]


def machine_code(fixture: bytes, size: int, *, seed: int) -> Iterator[bytes]:
    """Pieces of as many bytes that compress as machine code does, the same each time."""
    chance = random.Random(seed)
    tables = [_relocations(len(fixture) // 3, chance) for _ in range(8)]
    values = list(range(256))
    while size > 0:
        chance.shuffle(values)
        piece = (fixture + chance.choice(tables)).translate(bytes(values))[:size]
        yield piece
        size -= len(piece)


def _relocations(size: int, chance: random.Random) -> bytes:
    """A table such as `.rela.dyn`: where, how, and an address that mostly grows."""
    parts, address = [], 0
    for number in range(size // 24):
        address = (address + chance.randrange(64) * 16) % 2**24
        parts.append(struct.pack("<QQQ", 0x400000 + 8 * number, 8, address))
    return b"".join(parts)


def small_text(count: int, *, seed: int = 0) -> Iterator[bytes]:
    """The texts of small files."""
    chance = random.Random(seed)
    line = b"  { latitude = 31.64, longitude = 7.52, height = 89 },\n"
    for number in range(count):
        numbers = chance.choices(range(10_000), k=_ROWS * 3)
        rows = b"".join(b"%d,%d,%d\n" % tuple(numbers[at : at + 3]) for at in range(0, len(numbers), 3))
        head = b"# table %06d\n%b" % (number, rows)
        yield (head + line * (_SMALL // len(line)))[: _SMALL - 1] + b"\n"


def _fixture(tree: Path) -> bytes:
    (library,) = tree.rglob("*.so")
    return library.read_bytes()


def _extension(place: Path) -> None:
    for number, tree in enumerate(TREES):
        root = place / tree.parent.name
        scripts = root / "share/extension"
        scripts.mkdir(parents=True)
        (root / "lib").mkdir()
        found = _fixture(tree)
        # Behind what the headers tell of, where the loader and the checks do not look.
        with open(root / "lib/pgrx_hello.so", "wb") as file:
            file.write(found)
            file.writelines(machine_code(found, _LIBRARY - len(found), seed=number))
        (given,) = tree.rglob("extension")
        for name in ("pgrx_hello.control", "pgrx_hello--0.2.0.sql"):
            shutil.copyfile(given / name, scripts / name)
        versions = [*(f"0.1.{number}" for number in range(30)), "0.2.0"]
        for at, (start, end) in enumerate(itertools.pairwise(versions)):
            (scripts / f"pgrx_hello--{start}--{end}.sql").write_text(_upgrade(at))


def _upgrade(number: int) -> str:
    chance = random.Random(number)
    types = ("bigint", "text", "timestamptz", "jsonb", "boolean", "uuid", "numeric(12, 4)")
    nouns = ("stream", "table", "refresh", "delta", "frontier", "source", "schedule", "graph", "policy", "slot")
    parts = [f"-- Upgrade {number}: generated.\n"]
    for at in range(12):
        name = f"{chance.choice(nouns)}_{chance.choice(nouns)}_{number}_{at}"
        columns = ",\n".join(
            f"    {chance.choice(nouns)}_{chance.choice(nouns)}_{column} {chance.choice(types)} NOT NULL"
            for column in range(chance.randrange(2, 9))
        )
        parts.append(f"CREATE TABLE {name} (\n{columns}\n);\n")
        parts.append(f"COMMENT ON TABLE {name} IS 'the {chance.choice(nouns)} of a {chance.choice(nouns)}';\n")
    return "\n".join(parts)


def _small_files(root: Path, count: int) -> None:
    for number, text in enumerate(small_text(count)):
        folder = root / f"share/data/{number // _FOLDER:04}"
        if number % _FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"{number:06}.txt").write_bytes(text)


def _large_files(root: Path, size: int) -> None:
    folder = root / "share/data"
    folder.mkdir(parents=True)
    for number in range(8):
        with open(folder / f"part-{number}.bin", "wb") as file:
            file.writelines(machine_code(_fixture(TREES[0]), size // 8 + (number < size % 8), seed=number))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=["p1", "p2", "p3"])
    options = parser.parse_args(arguments)
    for name in options.names:
        found = make(name, options.folder)
        trees = " ".join(f"{platform}={path}" for platform, path in found.trees)
        print(f"{name}: {found.files:,} files, {found.size:,} bytes: {trees}")


if __name__ == "__main__":
    main()
