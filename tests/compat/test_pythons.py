"""Other CPythons give the same digests.

OCIBUILD_PYTHONS names interpreters, separated as in PATH. Each gets a virtual environment of its own, with ocibuild
installed by pip, and builds the fixture and the golden layers.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.tools import ROOT, TREES, run

pytestmark = pytest.mark.compat

PYTHONS = [path for path in os.environ.get("OCIBUILD_PYTHONS", "").split(os.pathsep) if path]


@pytest.mark.skipif(not PYTHONS, reason="needs other Pythons: the interpreters that OCIBUILD_PYTHONS names")
@pytest.mark.parametrize("python", PYTHONS or [""])
def test_the_same_digests(python: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("ocibuild", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    run([python, "-m", "venv", tmp_path / "venv"])
    run([tmp_path / "venv/bin/pip", "install", "--quiet", source, "pytest", "hypothesis"])
    built = run(
        [tmp_path / "venv/bin/ocibuild", "build", *TREES, "-o", f"oci:{tmp_path}/x", "--json"], cwd=tmp_path
    ).stdout
    golden = json.loads((ROOT / "tests/golden/pgrx_hello.json").read_text())["index"]
    assert json.loads(built)["digest"] == golden
    run([tmp_path / "venv/bin/python", "-m", "pytest", "-q", ROOT / "tests/unit/test_golden.py"], cwd=ROOT)
