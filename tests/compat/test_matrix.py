"""Every machine that can be had gives the same digests: the rows of `python -m tests.matrix`.

OCIBUILD_PYTHONS names interpreters, separated as in PATH; each gets ocibuild by pip. OCIBUILD_MATRIX=1, or a folder to keep
roots in, runs the other rows too: they fetch Debian packages, wheels and CPython's source, and build with musl for minutes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.matrix.__main__ import faults, main, table
from tests.matrix.roots import Cache, UnavailableError, default_cache, opened
from tests.matrix.rows import Launch, Row, rows, run
from tests.support.tools import ROOT, missing

WANTED = os.environ.get("OCIBUILD_MATRIX", "")
PYTHONS = [path for path in os.environ.get("OCIBUILD_PYTHONS", "").split(os.pathsep) if path]
PROGRAM = ROOT / "tests" / "matrix" / "verify.py"
WORKFLOW = ROOT / ".github" / "workflows" / "verify.yml"
UNITS = [row for row in rows() if row.name not in {"other Pythons", *PYTHONS}]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    if WANTED in {"", "0"}:
        folder = tmp_path_factory.mktemp("matrix")
    else:
        folder = default_cache() if WANTED == "1" else Path(WANTED)
    with opened(folder) as made:
        yield made


def agrees(row: Row, cache: Cache) -> None:
    outcome = run(row, cache)
    if outcome.state == "not run":
        missing(f"{row.name}: {outcome.reason}")
    assert outcome.state == "agrees", outcome


@pytest.mark.compat
@pytest.mark.skipif(not PYTHONS, reason="needs other Pythons: the interpreters that OCIBUILD_PYTHONS names")
@pytest.mark.parametrize("python", PYTHONS or [""])
def test_the_same_digests_with_another_python(python: str, cache: Cache) -> None:
    agrees(next(row for row in rows() if row.name == python), cache)


@pytest.mark.compat
@pytest.mark.skipif(WANTED in {"", "0"}, reason="needs OCIBUILD_MATRIX: 1, or the folder to keep the roots in")
@pytest.mark.parametrize("row", UNITS, ids=lambda row: row.name)
def test_the_same_digests_on_another_machine(row: Row, cache: Cache) -> None:
    agrees(row, cache)


def verify(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROGRAM, *arguments], capture_output=True, encoding="utf-8", check=False, cwd=ROOT
    )


def test_a_row_says_what_it_ran_on_and_what_agreed() -> None:
    result = verify("--", sys.executable, "-m", "ocibuild")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert all(report[key] for key in ("cpu", "machine", "system", "release", "libc", "python", "goldens"))
    assert set(report["codecs"]) == {"deflate", "zstandard", "zstd", "msgspec"}
    assert {"command/index", "layers/names/gzip", "images/index", "pgrx_hello/linux/arm64/layer"} <= set(
        report["agreed"]
    )
    assert report["differ"] == {}


def test_a_row_names_the_digest_that_differs(tmp_path: Path) -> None:
    wrong, golden = "sha256:" + "0" * 64, tmp_path / "golden"
    shutil.copytree(ROOT / "tests" / "golden", golden)
    pinned = json.loads((golden / "layers.json").read_text(encoding="utf-8"))
    pinned["names"]["zstd"] = wrong
    (golden / "layers.json").write_text(json.dumps(pinned), encoding="utf-8")
    result = verify("--golden", golden, "--out", tmp_path / "row.json", "--", sys.executable, "-m", "ocibuild")
    assert result.returncode == 1
    assert "'layers/names/zstd'" in result.stderr
    differ = json.loads(result.stdout)["differ"]
    assert list(differ) == ["layers/names/zstd"]
    assert differ["layers/names/zstd"]["wanted"] == wrong
    assert json.loads((tmp_path / "row.json").read_text())["differ"] == differ


def test_a_row_tries_the_command_line_itself(tmp_path: Path) -> None:
    """A command line of other bytes than the library's is noticed."""
    other = tmp_path / "other.py"
    other.write_text("import sys\nfrom ocibuild.cli import main\nsys.exit(main([*sys.argv[1:], '--label', 'a=b']))\n")
    result = verify("--", sys.executable, other)
    assert result.returncode == 1, result.stderr
    assert set(json.loads(result.stdout)["differ"]) == {"command/index", "command/linux/amd64", "command/linux/arm64"}


def test_a_row_that_is_another_machine_than_its_name_fails(tmp_path: Path) -> None:
    row = Row("elsewhere", lambda _: Launch([sys.executable], [ROOT], proof={"machine": "s390x"}))
    with opened(tmp_path) as made:
        outcome = run(row, made)
    assert (outcome.state, outcome.reason) == ("failed", "machine is not s390x")


def test_a_row_that_breaks_or_cannot_be_had_says_why(tmp_path: Path) -> None:
    def absent(_: Cache) -> Launch:
        raise UnavailableError("needs a VAX")

    with opened(tmp_path) as made:
        broken = run(Row("broken", lambda _: Launch([sys.executable, "-c", "1/0"])), made)
        nowhere = run(Row("nowhere", lambda _: Launch([tmp_path / "none"])), made)
        away = run(Row("away", absent), made)
    assert broken.state == nowhere.state == "failed"
    assert "ZeroDivisionError" in broken.reason
    assert (away.state, away.reason) == ("not run", "needs a VAX")
    assert "not run: needs a VAX" in table([away])
    good = dataclasses.replace(away, state="agrees", reason="")
    assert faults([good, away], None) == []
    assert faults([good, away], None, strict=True) == ["away: not run, needs a VAX"]


@pytest.mark.skipif(sys.platform == "win32", reason="roots are made on Linux")
def test_a_root_is_made_once_and_a_half_made_one_anew(tmp_path: Path) -> None:
    def half(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("no more")

    def whole(folder: Path) -> None:
        (folder / "whole").touch()

    with opened(tmp_path) as made:
        with pytest.raises(OSError, match="no more"):
            made.made("root", half)
        folder = made.made("root", whole)
        assert {path.name for path in folder.iterdir()} == {"whole", ".made"}
        assert made.made("root", half) == folder
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root", "root.lock"]


@pytest.fixture(scope="module")
def report() -> dict[str, object]:
    found: dict[str, object] = json.loads(verify("--", sys.executable, "-m", "ocibuild").stdout)
    return found


def test_reports_are_read_back(report: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.json").write_text(json.dumps(report))
    assert main(["--read", str(tmp_path), "--expect", "2"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["row", "one", "two"]
    assert main(["--read", str(tmp_path), "--expect", "3"]) == 1
    assert "2 reports, wanted 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"goldens": "others"}, "different goldens"),
        ({"differ": {"images/index": {}}}, "two: differs, images/index"),
        ({"agreed": []}, "two: failed"),
    ],
)
def test_reports_that_do_not_agree_are_told(
    change: dict[str, object], said: str, report: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.json").write_text(json.dumps(report))
    (tmp_path / "two.json").write_text(json.dumps(report | change))
    assert main(["--read", str(tmp_path)]) == 1
    assert said in capsys.readouterr().err


def test_no_report_is_no_agreement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--read", str(tmp_path)]) == 1
    (tmp_path / "cut.json").write_text("{")
    assert main(["--read", str(tmp_path)]) == 1
    assert "cut: failed" in capsys.readouterr().err


def test_the_workflow_counts_its_jobs_and_pins_its_actions() -> None:
    text = WORKFLOW.read_text(encoding="utf-8")
    assert "\t" not in text
    assert re.search(r"^permissions:\n  contents: read\n", text, re.MULTILINE)
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", item) for item in used)
    jobs = re.split(r"^  (\w+):\n", text.partition("\njobs:\n")[2], flags=re.MULTILINE)
    by_name = dict(zip(jobs[1::2], jobs[2::2], strict=True))
    expected = 0
    for job in by_name.values():
        axes = re.findall(r"^ {8}(?:os|python): \[(.*)\]", job, re.MULTILINE)
        if axes:
            expected += len(axes[0].split(",")) * len(axes[1].split(","))
        elif models := re.search(r"for model in (.*); do", job):
            expected += len(models[1].split())
    assert f"--expect {expected}\n" in text
    needed = re.search(r"needs: \[(.*)\]", by_name["agree"])
    assert needed
    assert {*needed[1].split(", "), "agree"} == set(by_name)
    with contextlib.suppress(ImportError):  # PyYAML is no part of the tests
        yaml = importlib.import_module("yaml")
        jobs = yaml.safe_load(text)["jobs"]
        assert set(jobs) == set(by_name)
        assert all("run" in step or "uses" in step for job in jobs.values() for step in job["steps"])
