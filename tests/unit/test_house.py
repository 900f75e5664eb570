"""The rules of the house that a machine can hold: the root, start-up, the public surface, the edges."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ocibuild
from tests.support.tools import ROOT

HEAVY = {
    "oras",
    "requests",
    "cryptography",
    "rich",
    "elftools",
    "zstandard",
    "nacl",
    "cyclonedx",
    "packageurl",
    "urllib3",
    "http.client",
    "socket",
    "asyncio",
}


def modules() -> Iterator[str]:
    yield "ocibuild"
    for item in pkgutil.walk_packages(ocibuild.__path__, "ocibuild."):
        if item.name != "ocibuild.__main__":
            yield item.name


def test_the_root_holds_what_it_should() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs a git checkout")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    visible = {name for name in top if not name.startswith(".")}
    assert visible <= {"pyproject.toml", "ocibuild", "tests", "fixtures", "docs", "README.md", "LICENSE"}


@pytest.mark.parametrize(
    "arguments", [["-c", "import ocibuild"], ["-m", "ocibuild", "--help"], ["-m", "ocibuild", "--version"]]
)
def test_start_up_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import json, runpy, sys
sys.argv = ["ocibuild", *{arguments[2:]!r}]
try:
    {"import ocibuild" if arguments[0] == "-c" else "runpy.run_module('ocibuild', run_name='__main__')"}
except SystemExit:
    pass
print("\\n" + json.dumps(sorted(sys.modules)))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not HEAVY & set(json.loads(out.splitlines()[-1]))


def test_every_public_name_exists_is_documented_and_typed() -> None:
    for name in modules():
        module = importlib.import_module(name)
        assert module.__doc__, name
        for public in getattr(module, "__all__", ()):
            value = getattr(module, public)
            if callable(value):
                assert value.__doc__, f"{name}.{public}"


def test_no_public_name_hides_a_module() -> None:
    names = {item.name for item in pkgutil.iter_modules(ocibuild.__path__)}
    assert not names & set(ocibuild.__all__)
    assert sorted(dir(ocibuild)) == sorted(ocibuild.__all__)
    with pytest.raises(AttributeError):
        ocibuild.nothing  # noqa: B018


def sources(folder: str = "") -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / "ocibuild" / folder).rglob("*.py")):
        yield path, ast.parse(path.read_text())


def test_the_environment_is_read_at_the_edge() -> None:
    for path, tree in sources():
        # The command line, and what reads credentials from where the container tools keep them.
        if path.is_relative_to(ROOT / "ocibuild/cli") or path == ROOT / "ocibuild/registry/credentials.py":
            continue
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not used & {"environ", "getenv", "expanduser", "putenv"}, path


def test_the_library_neither_prints_nor_exits_nor_unpacks_blindly() -> None:
    for path, tree in sources():
        if path.is_relative_to(ROOT / "ocibuild/cli") or path.name == "__main__.py":
            continue
        called = {
            node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
        }
        assert not called & {"print", "exit", "extractall", "eval", "exec", "system"}, path


def test_modules_are_small() -> None:
    for path, _ in sources():
        assert len(path.read_text().splitlines()) <= 400, path


def test_no_path_of_a_machine_is_committed() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        data = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        assert str(ROOT).encode() + b"/" not in data, name


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    import shutil
    import zipfile

    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    hatchling = subprocess.run([sys.executable, "-c", "import hatchling"], capture_output=True, check=False)
    if hatchling.returncode:
        pytest.skip("needs hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "ocibuild").rglob("*")
        if path.suffix in (".py", ".typed", ".json")
    }
    assert names == expected
