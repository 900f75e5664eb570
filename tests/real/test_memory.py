"""How much memory large blobs take: a little, whatever their size."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.benchmarks.large import build_large, there_and_back
from tests.support.registry import registry

pytestmark = pytest.mark.real

MB = 1000 * 1000


def test_a_large_blob_goes_up_and_down_in_little_memory(tmp_path: Path) -> None:
    # Not left to pytest, which keeps the folders of its last runs.
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        folder = Path(name)
        layout = build_large(folder / "layout", 300 * MB)
        with registry(folder) as address:
            up, down = there_and_back(layout, str(address), {**os.environ, "DOCKER_CONFIG": str(folder)})
    assert up.peak < 100 * MB
    assert down.peak < 100 * MB
