"""Builds, beside every peer that is installed, in one run: time, processor, memory and size.

    python -m tests.benchmarks.build [--work p1,p2,p3] [--runs N] [--json FILE] [--dir DIR] [--only TOOL]...

Each tool packs the trees of `workloads.py` as whole processes, from the start of the first step to the end of the last, in
turn with the others (A B A B, and every second round backwards). The first round warms the page cache and does not count;
the median of the others does. Trees and outputs lie on one file system; outputs go to a fresh folder each time, and what
earlier ones left is written out before the clock starts. Nobody's own waiting for the disk is taken out: ocibuild syncs
what it writes, the peers do not.

`--only NAME` (more than once) leaves the other tools out. With `--dir`, the trees stay there for the next run. The peers
are those of `OCIBUILD_PEERS` or PATH; crane needs docker-registry.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.registry import registry

from .peers import Tool, find_tools, folder_size
from .workloads import Workload, make

__all__ = ["Runs", "launch", "measure", "open_folder", "table", "versions"]

OURS = "ocibuild"


@dataclass(slots=True)
class Runs:
    """What was measured of one tool on one workload."""

    tool: str
    kind: str
    walls: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    size: int = 0

    def fields(self) -> dict[str, Any]:
        return {
            "tool": self.tool,
            "kind": self.kind,
            "wall": round(statistics.median(self.walls), 4),
            "least": round(min(self.walls), 4),
            "most": round(max(self.walls), 4),
            "cpu": round(statistics.median(self.cpus), 4),
            "peak": max(self.peaks),
            "size": self.size,
            "walls": [round(item, 4) for item in self.walls],
        }


def launch(steps: Sequence[Sequence[str]], folder: Path) -> dict[str, Any]:
    """Run the steps in a folder by `launch.py`; its result.

    Raises:
        AssertionError: A step failed.
    """
    log = folder / "log"
    job = {"steps": [list(step) for step in steps], "log": str(log), "clock": "clock"}
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py"))]
    os.sync()  # what was written before is not for this one to wait for
    done = subprocess.run(
        launcher,
        input=json.dumps(job),
        capture_output=True,
        text=True,
        cwd=folder,
        env=_environment(folder),
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    assert not result["failed"], f"{result['failed']}\n{log.read_text(errors='replace')[-2000:]}"
    return result


def _environment(folder: Path) -> dict[str, str]:
    """Nobody's settings, but where programs are."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "PEERS_ROOT") if name in os.environ}
    # peers/run finds its root below HOME.
    return kept | {"HOME": os.environ.get("HOME", str(folder)), "TMPDIR": str(folder)}


def measure(work: Workload, tools: Sequence[Tool], folder: Path, runs: int) -> list[Runs]:
    """Every tool in turn, so many times and once before."""
    found: dict[str, Runs] = {}
    for tool in tools:
        found[tool.name] = Runs(tool.name, tool.kind)
        if tool.again:
            found[tool.again] = Runs(tool.again, "again")
    for number in range(runs + 1):
        for tool in tools if number % 2 else reversed(tools):
            with _fresh(folder, tool) as place:
                _record(found[tool.name], launch(tool.steps(work), place), place / tool.output, number > 0)
                if tool.again:
                    _record(found[tool.again], launch(tool.steps(work), place), place / tool.output, number > 0)
    return list(found.values())


@contextmanager
def _fresh(folder: Path, tool: Tool) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if tool.needs_registry:
            shutil.rmtree(tool.output, ignore_errors=True)


def _record(runs: Runs, result: Mapping[str, Any], output: Path, counts: bool) -> None:
    size = folder_size(output)
    assert size, f"{runs.tool} left nothing"
    runs.size = size
    if counts:
        runs.walls.append(result["wall"])
        runs.cpus.append(result["cpu"])
        runs.peaks.append(result["peak"])


def table(work: Workload, found: Sequence[Runs]) -> str:
    """Medians, and the ratio of ocibuild's time (with zstd, that of its zstd) to each."""
    rows = [item.fields() for item in found]
    walls = {row["tool"]: row["wall"] for row in rows}
    lines = [
        f"{work.name}: {work.files:,} files, {work.size:,} bytes",
        f"  {'':18}{'wall s':>9}{'least':>9}{'most':>9}{'cpu s':>9}{'peak MB':>9}{'output MB':>11}{'ours/it':>9}",
    ]
    for row in rows:
        ours = walls.get("ocibuild zstd" if row["kind"] == "zstd" else OURS)
        ratio = f"{ours / row['wall']:9.2f}" if ours else " " * 9
        lines.append(
            f"  {row['tool']:18}{row['wall']:9.3f}{row['least']:9.3f}{row['most']:9.3f}{row['cpu']:9.3f}"
            f"{row['peak'] / 1e6:9.1f}{row['size'] / 1e6:11.3f}{ratio}"
        )
    rivals = [row for row in rows if row["kind"] == "layout" and row["tool"] != OURS]
    own = next((row for row in rows if row["tool"] == OURS), None)
    if rivals and own:
        best = min(rivals, key=lambda row: row["wall"])
        lines.append(
            f"  to {best['tool']}, the fastest that leaves a gzip image: {own['wall'] / best['wall']:.2f} of the time, "
            f"{own['size'] / best['size']:.3f} of the size"
        )
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """What was measured with."""
    import platform
    from importlib.metadata import version

    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("ocibuild", "deflate", "zstandard")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="p1,p2,p3", help="workloads, by name (default p1,p2,p3)")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--dir", type=Path, help="where trees and outputs lie (default: a temporary folder)")
    parser.add_argument("--only", action="append", metavar="TOOL", help="measure this tool only")
    options = parser.parse_args()
    with open_folder(options.dir) as folder, _registry(folder) as address:
        tools = find_tools(address, folder / "registry/registry")
        if options.only:
            tools = [tool for tool in tools if tool.name in options.only]
        results: dict[str, Any] = {}
        for name in options.work.split(","):
            work = make(name, folder)
            before = os.getloadavg()[0]
            found = measure(work, tools, folder, options.runs)
            print(f"{table(work, found)}\n  load {before:.2f} before, {os.getloadavg()[0]:.2f} after\n", flush=True)
            rows = [item.fields() for item in found]
            results[name] = {"files": work.files, "size": work.size, "load": before, "tools": rows}
    if options.json:
        facts = {"kind": "build", "runs": options.runs, "cores": os.cpu_count(), "versions": versions()}
        options.json.write_text(json.dumps({**facts, "work": results}, indent=1) + "\n")


@contextmanager
def open_folder(given: Path | None) -> Iterator[Path]:
    """The folder to work in: the one given, or one that goes away."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="ocibuild-bench-") as folder:
        yield Path(folder)


@contextmanager
def _registry(folder: Path) -> Iterator[str | None]:
    if not shutil.which("docker-registry"):
        yield None
        return
    place = folder / "registry"
    place.mkdir(exist_ok=True)
    with registry(place) as address:
        yield address
    shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
