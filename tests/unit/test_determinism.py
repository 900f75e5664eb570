"""The same input gives the same digest, whatever the machine looks like around it. Each build is its own process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tools import PACKAGES, ROOT

GOLDEN = json.loads((ROOT / "tests/golden/pgrx_hello.json").read_text())["index"]


def build(
    packages: Path,
    work: Path,
    *flags: str,
    prefix: tuple[str, ...] = (),
    umask: int = 0o022,
    environment: dict[str, str] | None = None,
) -> str:
    sources = sorted(packages.glob("*/pgrx_hello-pg18"))
    command = [
        *prefix,
        sys.executable,
        "-m",
        "ocibuild",
        "build",
        *map(str, sources),
        "-o",
        f"oci:{work}/out",
        "--json",
        *flags,
    ]
    clean = {
        key: value for key, value in os.environ.items() if key not in ("LANG", "LC_ALL", "TZ", "SOURCE_DATE_EPOCH")
    }
    result = subprocess.run(
        command, cwd=ROOT, env=clean | (environment or {}), umask=umask, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result
    return str(json.loads(result.stdout)["digest"])


def test_as_it_is(tmp_path: Path) -> None:
    assert build(PACKAGES, tmp_path) == GOLDEN


@pytest.mark.parametrize(
    "environment",
    [
        {"TZ": "Pacific/Kiritimati"}, {"TZ": "America/St_Johns"}, {"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"},
        {"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"}, {"PYTHONUTF8": "0", "LC_ALL": "POSIX"}, {"HOME": "/nonexistent"},
        {"PYTHONOPTIMIZE": "2"},
    ],
    ids=lambda item: " ".join(f"{key}={value}" for key, value in item.items()),
)  # fmt: skip
def test_environments(tmp_path: Path, environment: dict[str, str]) -> None:
    assert build(PACKAGES, tmp_path, environment=environment) == GOLDEN


def test_threads(tmp_path: Path) -> None:
    """On a tree of several gzip members, each process with its own number."""
    (tmp_path / "packages").mkdir()
    tree = tmp_path / "packages/tree"
    tree.mkdir()
    (tree / "big").write_bytes(b"".join(b"%d " % (number * number) for number in range(500_000)))
    digests = set()
    for threads in ("1", "2", "7"):
        command = [sys.executable, "-m", "ocibuild", "build", f"linux/amd64={tree}", "-o", f"oci:{tmp_path}/{threads}"]
        out = subprocess.run(
            [*command, "--json", "--threads", threads], cwd=ROOT, capture_output=True, check=True
        ).stdout
        digests.add(json.loads(out)["digest"])
    assert len(digests) == 1
    assert (tree / "big").stat().st_size > 3 << 20


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_umasks(tmp_path: Path, umask: int) -> None:
    """Of the build, and of the tree: an artifact store drops modes."""
    tree = tmp_path / "tree"
    previous = os.umask(umask)
    try:
        shutil.copytree(PACKAGES, tree, copy_function=shutil.copyfile)
    finally:
        os.umask(previous)
    assert build(tree, tmp_path, umask=umask) == GOLDEN


def test_another_folder_other_times_and_modes_and_another_order(tmp_path: Path) -> None:
    tree = tmp_path / "a folder with é and spaces"
    names = sorted((path for path in PACKAGES.rglob("*") if path.is_file()), reverse=True)
    for number, path in enumerate(names):
        target = tree / path.relative_to(PACKAGES)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Removed neighbours make the folder list its files in another order.
        (target.parent / f"{number}").touch()
        shutil.copyfile(path, target)
        (target.parent / f"{number}").unlink()
        os.utime(target, (number, number * 1000))
        target.chmod(0o777 if number % 2 else 0o400)
    assert build(tree, tmp_path) == GOLDEN


def test_shuffled_listings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file system lists in whatever order, in this process."""
    import contextlib
    import random
    from collections.abc import Iterator

    from ocibuild import postgres

    real = os.scandir
    chance = random.Random(7)

    @contextlib.contextmanager
    def shuffled(path: bytes) -> Iterator[list[os.DirEntry[bytes]]]:
        with real(path) as found:
            items = list(found)
        chance.shuffle(items)
        yield items

    monkeypatch.setattr("ocibuild.layer.tree.os.scandir", shuffled)
    for _ in range(5):
        sources = [postgres.open_source(path) for path in sorted(PACKAGES.glob("*/pgrx_hello-pg18"))]
        chance.shuffle(sources)
        assert postgres.build_extension(sources).digest == GOLDEN


def test_another_user(tmp_path: Path) -> None:
    """Root without any right of root's, and another uid where that may run this Python."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv to become another user")
    work = tmp_path / "work"
    work.mkdir()
    work.chmod(0o777)
    # Another uid, with only the right to pass through folders, which a Python below /root needs.
    prefix = (
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search", "--bounding-set=-all,+dac_read_search",
    )  # fmt: skip
    assert build(PACKAGES, work, prefix=prefix) == GOLDEN
    assert (work / "out").stat().st_uid == 65534


def test_where_it_goes_does_not_matter(tmp_path: Path) -> None:
    from ocibuild import ArchiveStore, MemoryStore, copy, postgres

    sources = [postgres.open_source(path) for path in sorted(PACKAGES.glob("*/pgrx_hello-pg18"))]
    assert postgres.build_extension(sources, into=MemoryStore()).digest == GOLDEN
    for number in (1, 2):
        with ArchiveStore(tmp_path / f"{number}.tar") as archive:
            copy(postgres.build_extension(sources, into=archive), archive, tags=["0.2.0"])
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()
