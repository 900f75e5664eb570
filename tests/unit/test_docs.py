"""What the pages say is what happens: commands run, examples run, outputs match, links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Result
from tests.support.tools import ROOT

Cli = Callable[..., Result]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "fixtures/README.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [match[2] for match in BLOCK.finditer(page.read_text()) if match[1] == language]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a clone, to be written to."""
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)
    return tmp_path


PYTHON = [(page, index) for page in PAGES for index in range(len(blocks(page, "python")))]


@pytest.mark.parametrize(("page", "index"), PYTHON, ids=lambda item: getattr(item, "name", str(item)))
def test_python_examples(checkout: Path, page: Path, index: int) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", blocks(page, "python")[index]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_the_readmes_two_commands(cli: Cli, checkout: Path) -> None:
    main_job, *_, tests = (block.strip() for block in blocks(ROOT / "README.md", "sh"))
    # The second one is what CI runs, and nothing more.
    assert tests in (ROOT / ".ci/run").read_text()
    command = main_job.split(" && ")[-1].split()
    assert command[:2] == [".venv/bin/ocibuild", "build"]
    sources = sorted(str(path) for path in Path().glob(command[2]))
    result = cli("build", *sources)
    assert result.code == 0, result.err
    [shown] = blocks(ROOT / "README.md", "text")
    assert result.out == shown


CONSOLE = [(page, block) for page in PAGES for block in blocks(page, "console")]


@pytest.mark.parametrize(("page", "block"), CONSOLE, ids=lambda item: getattr(item, "name", item)[:40])
def test_console_sessions(cli: Cli, checkout: Path, page: Path, block: str) -> None:
    """Lines that start with `$ ocibuild` are run in order; what follows each is what it prints, `...` for any lines."""
    commands = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    for item in commands:
        line, _, expected = item.partition("\n")
        words = line.split(" #")[0].split()
        assert words[0] == "ocibuild"
        arguments = [str(path) for word in words[1:] for path in (sorted(Path().glob(word)) if "*" in word else [word])]
        result = cli(*arguments)
        pattern = re.escape(expected.strip()).replace(re.escape("..."), ".*")
        assert re.fullmatch(pattern, (result.err + result.out).strip(), re.DOTALL), (line, result)


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page}: {link}"


def test_the_command_reference_names_every_option() -> None:
    from ocibuild.cli import COMMANDS, _parser

    page = (ROOT / "docs/reference/cli.md").read_text()
    for command in COMMANDS:
        parser = _parser(command)[1]
        assert parser is not None
        help_text = parser.format_help()
        assert f"## `ocibuild {command}" in page
        for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", help_text)) - {"--help"}:
            assert option in page, f"{command} {option}"
