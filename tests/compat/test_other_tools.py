"""docs/explanation/other-tools.md: the commands of that page, run with the peers, and what it says that they print."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from difflib import unified_diff
from pathlib import Path

import pytest

from ocibuild import LayoutStore, copy, postgres
from tests.conftest import Result
from tests.support.planted import load, write
from tests.support.registry import registry
from tests.support.tools import ROOT, TREES, peer, require, run
from tests.unit.test_docs import BLOCK
from tests.unit.test_planted import ROWS, check_cause

pytestmark = pytest.mark.compat

Cli = Callable[..., Result]
PAGE = ROOT / "docs/explanation/other-tools.md"
ADDRESS = "localhost:5000"


def test_the_page(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)
    storage = [f"--root={tmp_path}/storage", f"--runroot={tmp_path}/run", "--storage-driver=vfs"]
    commands = {
        "umoci": peer("umoci"),
        "buildah": [*peer("buildah"), *storage],
        "crane": peer("crane"),
        "tar": ["tar"],
    }
    with ExitStack() as stack:
        address = stack.enter_context(registry(tmp_path)).replace("127.0.0.1", "localhost")
        for match in BLOCK.finditer(PAGE.read_text()):
            language, text = match[1], match[2].replace(ADDRESS, address)
            if language == "sh":
                for line in text.splitlines():
                    name, *arguments = shlex.split(line)
                    if name == "ocibuild":
                        result = cli(*arguments)
                        assert result.code == 0, result
                    else:
                        run([*commands[name], *arguments], cwd=tmp_path)
            else:
                for item in re.split(r"^\$ ocibuild ", text, flags=re.MULTILINE)[1:]:
                    line, _, expected = item.partition("\n")
                    result = cli(*line.split())
                    assert result.code == 1, result
                    pattern = re.escape(expected.strip()).replace(re.escape("..."), ".*")
                    assert re.fullmatch(pattern, result.out.strip(), re.DOTALL), result.out


@pytest.mark.parametrize(
    "name", ["rodata", "mode", "mtime-of-all", "script", "gzip-level", "label", "platform-missing"]
)
def test_fewer_lines_and_no_second_tool(cli: Cli, tmp_path: Path, name: str) -> None:
    skopeo = require("skopeo")
    diffoscope = shutil.which("diffoscope")
    if diffoscope is None:
        pytest.skip("needs diffoscope on PATH")
    with LayoutStore(tmp_path / "base") as store:
        sources = [postgres.open_source(tree) for tree in TREES]
        image = postgres.build_extension(sources, into=store, labels={"licenses": "Apache-2.0"})
        copy(image, store, tags=["1"])
    row = next(row for row in ROWS if row.name == name)
    whole = load(tmp_path / "base")
    a, b = write(row.base(whole), tmp_path / "a"), write(row.plant(row.base(whole)), tmp_path / "b")
    ours = cli("diff", a, b).out
    check_cause(row, ours)
    theirs = subprocess.run(
        [diffoscope, "--no-progress", "a", "b"], capture_output=True, text=True, check=False, cwd=tmp_path
    ).stdout
    one, other = (run([skopeo, "inspect", f"oci:{side}"], cwd=tmp_path).stdout.splitlines() for side in "ab")
    differing = list(unified_diff(one, other, n=0))
    assert len(ours.splitlines()) < len(theirs.splitlines())
    for words in ("\n".join(differing), theirs):
        with pytest.raises(AssertionError):
            check_cause(row, words)
