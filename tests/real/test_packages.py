"""Real extensions of Debian's sid: built for two platforms, and what the checks say of each, kept in a golden file.

python -m tests.real.test_packages      # write tests/golden/checks.json anew, to be reviewed
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ocibuild import MemoryStore, postgres
from ocibuild.describe import describe
from ocibuild.postgres import Source, open_source
from tests.support.debian import EXTENSIONS, packages
from tests.support.tools import ROOT

GOLDEN = ROOT / "tests" / "golden" / "checks.json"


def sources(name: str) -> list[Source]:
    return [open_source(path) for path in packages()[name]]


def findings(name: str, distro: str) -> list[dict[str, str]]:
    """The findings, without the folder that the packages were fetched to."""
    given = sources(name)
    folder = f"{given[0].where.parent}/"
    report = postgres.check(given, distro=distro, name=name)
    return [
        {key: value.replace(folder, "") for key, value in finding.to_dict().items() if key != "hint" and value}
        for finding in report.findings
    ]


def verdicts(name: str) -> dict[str, str]:
    report = postgres.check(sources(name), name=name)
    return {
        verdict.distro: "; ".join(sorted({finding.message for finding in verdict.findings})) or "loads"
        for verdict in report.verdicts
    }


@pytest.mark.parametrize("name", EXTENSIONS)
def test_findings_on_a_real_package(name: str) -> None:
    expected = json.loads(GOLDEN.read_text())[name]
    assert findings(name, "sid") == expected["sid"]
    assert verdicts(name) == expected["verdicts"]


@pytest.mark.parametrize("name", EXTENSIONS)
def test_a_real_package_becomes_an_image_of_two_platforms(name: str) -> None:
    given = sources(name)
    image = postgres.build_extension(given, into=MemoryStore(), distro="trixie")
    shown = describe(image)
    assert [str(one.platform) for one in shown.images] == ["linux/amd64", "linux/arm64"]
    assert postgres.image_name(given) is not None
    assert shown.annotations["io.cloudnativepg.image.base.pgmajor"] == "18"
    assert shown.annotations["org.opencontainers.image.version"] == given[0].version
    roots = postgres.image_roots(given)
    kept = {path.split("/")[0] for root in roots for path in root.entries}
    assert kept <= {"bin", "lib", "licenses", "share"}
    assert any(path.startswith("licenses/") for path in roots[0].entries)


def test_pgvector_of_sid_on_bookworm() -> None:
    report = postgres.check(sources("pgvector"), distro="bookworm")
    messages = {finding.message for finding in report.errors if finding.id == "symbol-version"}
    assert len(messages) == 1
    assert "GLIBC_2.38 (__isoc23_strtol)" in messages.pop()
    assert not postgres.check(sources("pgvector"), distro="sid").errors


def write_golden() -> None:
    """Write down what the checks say today."""
    found: dict[str, Any] = {name: {"sid": findings(name, "sid"), "verdicts": verdicts(name)} for name in EXTENSIONS}
    Path(GOLDEN).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    write_golden()
