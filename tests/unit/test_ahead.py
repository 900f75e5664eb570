"""Trees packed ahead by processes of their own: the same bytes, the same errors, and nothing left behind."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ocibuild.cli import main

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks")


SCRIPT = """
import hashlib, json, sys
from ocibuild import MemoryStore, build_layer, read_tree
from ocibuild.layer.ahead import Ahead, can_fork
from ocibuild.layer.compress import Compression

assert can_fork()
trees, mtime = sys.argv[2:], int(sys.argv[1])
told = []
with Ahead(trees, mtime=mtime) as ahead:
    for tree in trees:
        entries = ahead.read(tree)
        assert entries == read_tree(tree)
        assert ahead.packed(entries[:-1], compression=Compression.GZIP, mtime=mtime) is None
        assert ahead.packed(entries, compression=Compression.GZIP, mtime=mtime + 1) is None
        assert ahead.packed(entries, compression=Compression.ZSTD, mtime=mtime) is None
        packed = ahead.packed(entries, compression=Compression.GZIP, mtime=mtime, on_progress=told.append)
        assert packed is not None
        assert ahead.packed(entries, compression=Compression.GZIP, mtime=mtime) is None, "taken once"
        ours = build_layer(entries, into=MemoryStore(), mtime=mtime, packed=packed)
        assert ours == build_layer(read_tree(tree), into=MemoryStore(), mtime=mtime)
        assert sum(told) == ours.uncompressed_size
        told.clear()
        print(ours.diff_id)
"""


def make_tree(folder: Path, files: int = 40, size: int = 70_000) -> Path:
    for number in range(files):
        path = folder / f"share/extension/{number % 7}/file {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size + number) if number % 2 else b"select 1;\n" * number)
    (folder / "link").symlink_to("share/extension")
    (folder / "lib").mkdir()
    (folder / "lib/run.sh").write_text("#!/bin/sh\n")
    (folder / "lib/run.sh").chmod(0o755)
    return folder


def python(script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ocibuild", "build", *map(str, arguments), "--json", "--check=off"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_what_is_packed_ahead_is_what_is_packed(tmp_path: Path) -> None:
    trees = [make_tree(tmp_path / "a", files=60), make_tree(tmp_path / "b", files=3, size=3_000_000)]
    assert len(python(SCRIPT, 1_700_000_000, *trees).splitlines()) == 2


def test_a_listing_larger_than_a_pipe(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(9_000):
        (tree / f"{number:0120}").touch()
    python(SCRIPT, 0, tree)


def test_the_program_gives_the_digest_that_the_library_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make_tree(tmp_path / "tree")
    source = f"linux/amd64={tree}"
    ahead = build(tmp_path, source, "--name", "x", "-o", "oci:one", "--created", "1700000000")
    assert ahead.returncode == 0, ahead.stderr
    arguments = ["--name", "x", "-o", f"oci:{tmp_path}/two", "--created", "1700000000", "--json", "--check=off"]
    assert main(["build", source, *arguments]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert json.loads(ahead.stdout)["digest"] == plain["digest"]


@pytest.mark.parametrize("fault", ["fifo", "unreadable", "set-id", "name"])
def test_errors_are_those_of_the_plain_way(tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    tree = make_tree(tmp_path / "tree", files=3)
    if fault == "fifo":
        os.mkfifo(tree / "pipe")
    elif fault == "unreadable":
        if os.geteuid() == 0:
            (tree / "escape").symlink_to("../..")
        else:
            (tree / "lib").chmod(0)
    elif fault == "set-id":
        (tree / "lib/run.sh").chmod(0o4755)
    else:
        (tree / os.fsdecode(b"\xff")).touch()
    source = f"linux/amd64={tree}"
    ahead = build(tmp_path, source, "--name", "x", "-o", "oci:one")
    code = main(["build", source, "--name", "x", "-o", f"oci:{tmp_path}/one", "--json", "--check=off"])
    assert (ahead.returncode, json.loads(ahead.stdout)) == (code, json.loads(capsys.readouterr().out))
    assert code
    assert not (tmp_path / "one").exists()
    (tree / "lib").chmod(0o755)


def test_paths_are_told_as_they_were_given(tmp_path: Path) -> None:
    os.mkfifo(make_tree(tmp_path / "tree", files=3) / "pipe")
    result = build(tmp_path, "linux/amd64=tree", "-o", "oci:one")
    assert json.loads(result.stdout)["where"] == "tree/pipe"


def test_without_a_process_to_spare_it_is_done_in_this_one(tmp_path: Path) -> None:
    script = """
import os, sys
from ocibuild import read_tree
from ocibuild.layer.ahead import Ahead
from ocibuild.layer.compress import Compression

def refuse():
    raise BlockingIOError(11, "Resource temporarily unavailable")

os.fork = refuse
before = os.listdir("/proc/self/fd")
with Ahead(sys.argv[1:]) as ahead:
    entries = ahead.read(sys.argv[1])
    assert entries == read_tree(sys.argv[1])
    assert ahead.packed(entries, compression=Compression.GZIP, mtime=0) is None
assert os.listdir("/proc/self/fd") == before
"""
    python(script, make_tree(tmp_path / "tree", files=3))


def test_what_is_wrong_with_a_child_is_raised_here(tmp_path: Path) -> None:
    script = """
import sys
from ocibuild.layer import ahead

def broken(tree):
    raise ZeroDivisionError("a fault")

read_tree, ahead.read_tree = ahead.read_tree, broken
with ahead.Ahead(sys.argv[1:]) as begun:
    try:
        begun.read(sys.argv[1])
    except ZeroDivisionError as error:
        print(error)
"""
    assert python(script, make_tree(tmp_path / "tree", files=3)) == "a fault\n"


def test_a_child_that_dies_is_told(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from ocibuild.errors import SourceError
from ocibuild.layer.ahead import Ahead
from ocibuild.layer.compress import Compression
with Ahead(sys.argv[1:]) as ahead:
    entries = ahead.read(sys.argv[1])
    packed = ahead.packed(entries, compression=Compression.GZIP, mtime=0)
    os.kill(packed._process, signal.SIGKILL)
    try:
        print(len(list(packed)))
    except SourceError as error:
        print(error.found)
"""
    tree = make_tree(tmp_path / "tree", files=90, size=900_000)
    assert python(script, tree) == "the process that packs it has ended\n"


def test_nothing_runs_on_when_the_checks_fail_or_the_program_is_stopped(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", files=200, size=1_000_000)
    (tree / "share/extension/x.control").write_text("default_version = 1\nbroken\n")
    done = subprocess.run(
        [sys.executable, "-m", "ocibuild", "build", f"linux/amd64={tree}", "-o", "oci:one"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        start_new_session=True,
    )
    assert done.returncode in (3, 4), done.stderr
    assert not (tmp_path / "one").exists()
    (tree / "share/extension/x.control").unlink()
    command = [sys.executable, "-m", "ocibuild", "build", f"linux/amd64={tree}", "-o", "oci:one", "--check=off"]
    for kind in (signal.SIGTERM, signal.SIGKILL):
        running = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE)
        while not (children := _children(running.pid)) and running.poll() is None:
            time.sleep(0.002)
        assert children, running.stderr and running.stderr.read()
        running.send_signal(kind)
        running.communicate()
        until = time.monotonic() + 20
        while any(os.path.exists(f"/proc/{child}") for child in children) and time.monotonic() < until:
            time.sleep(0.01)
        assert not any(os.path.exists(f"/proc/{child}") for child in children)


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As under nohup, or in the background of a script."""
    tree = make_tree(tmp_path / "tree", files=200, size=500_000)
    command = [sys.executable, "-m", "ocibuild", "build", f"linux/amd64={tree}", "-o", "oci:one", "--check=off"]
    shell = f"trap '' INT HUP; exec {shlex.join(command)}"
    running = subprocess.Popen(["bash", "-c", shell], cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE)
    while not (children := _children(running.pid)) and running.poll() is None:
        time.sleep(0.002)
    assert children, running.stderr and running.stderr.read()
    for name in (signal.SIGINT, signal.SIGHUP):
        os.killpg(running.pid, name)
    _, told = running.communicate()
    assert running.returncode == 0, told


def _children(process: int) -> list[int]:
    try:
        return [int(item) for item in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []
