"""Fixtures that every kind of test uses."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings

from ocibuild import Artifact, LayoutStore, copy, postgres
from ocibuild.cli import main
from tests.support.registry import registry
from tests.support.tools import PACKAGES, ROOT, TREES

settings.register_profile("default", deadline=None)
settings.register_profile("long", deadline=None, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test depends on the caller's clock, colours or folder."""
    for name in ("SOURCE_DATE_EPOCH", "NO_COLOR", "OCIBUILD_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(ROOT)
    yield


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry on loopback that a module's tests share."""
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="module")
def address(upstream: str) -> str:
    """The same, where nothing stands in front of it."""
    return upstream


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cli() -> Callable[..., Result]:
    """Run a command line in this process."""

    def call(*arguments: str | Path) -> Result:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main([str(item) for item in arguments])
            except SystemExit as error:
                code = int(error.code or 0)
        return Result(code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def packages(tmp_path: Path) -> tuple[Path, Path]:
    """Writable copies of the two package trees."""
    shutil.copytree(PACKAGES, tmp_path / "packages")
    return tmp_path / "packages/amd64/pgrx_hello-pg18", tmp_path / "packages/arm64/pgrx_hello-pg18"


@pytest.fixture(scope="session")
def hello(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with the fixture's image, tag 0.2.0. Not to be written to."""
    path = tmp_path_factory.mktemp("hello") / "layout"
    with LayoutStore(path) as layout:
        image: Artifact = postgres.build_extension([postgres.open_source(tree) for tree in TREES], into=layout)
        copy(image, layout, tags=["0.2.0"])
    return path
