"""How the cost of a build grows: with the number of files, and with their bytes.

    python -m tests.benchmarks.scaling [--quick] [--runs N] [--json FILE] [--dir DIR] [--only TOOL]...

1, 10 and 100 thousand small files, and 0.1, 1 and 4 GiB in eight files: the median of each, the most memory, and the slope of
a line through the points on a log-log plot, by least squares. A slope of 1 is linear. A process takes its time before it
reads a byte, so the slope is told of the whole, and of what is left when the time for one file is taken off; also of
processor time, which other work on the machine moves least.
`--quick` leaves out the largest. ocibuild alone is measured, or the tools of `--only`, named as in `build.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .build import measure, open_folder, versions
from .peers import Tool, find_tools
from .workloads import GIB, make

__all__ = ["slope"]

FILES = (1_000, 10_000, 100_000)
BYTES = (GIB // 10, GIB, 4 * GIB)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the line through points on a log-log plot, by least squares."""
    logs = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    return statistics.linear_regression(*zip(*logs, strict=True)).slope if len(logs) > 1 else math.nan


def _series(kind: str, numbers: Sequence[int], tools: Sequence[Tool], folder: Path, runs: int) -> list[dict[str, Any]]:
    """The measurements of each tool: one for each number, and the slopes."""
    results: dict[str, dict[str, Any]] = {
        tool.name: {"tool": tool.name, "by": kind, "points": [], "start": 0.0, "start_cpu": 0.0} for tool in tools
    }
    for number in (1, *numbers):
        work = make(f"{kind}-{number}", folder)
        for found in measure(work, tools, folder, runs):
            row = found.fields()
            series = results[row["tool"]]
            if number == 1:
                series["start"], series["start_cpu"] = row["wall"], row["cpu"]
                continue
            series["points"].append({"at": number, **{name: row[name] for name in ("wall", "cpu", "peak", "size")}})
            print(
                f"  {row['tool']:16}{number:>14,} {kind:6}{row['wall']:9.3f} s{row['cpu']:9.3f} s of processor"
                f"{row['peak'] / 1e6:8.1f} MB",
                flush=True,
            )
        if number >= GIB:
            shutil.rmtree(folder / work.name)
    for series in results.values():
        points = series["points"]
        series["slope"] = round(slope([(point["at"], point["wall"]) for point in points]), 3)
        series["net"] = round(slope([(point["at"], point["wall"] - series["start"]) for point in points]), 3)
        series["net_cpu"] = round(slope([(point["at"], point["cpu"] - series["start_cpu"]) for point in points]), 3)
        print(
            f"  {series['tool']:16} slope {series['slope']:.3f}; {series['net']:.3f} without the "
            f"{series['start']:.3f} s of one, and {series['net_cpu']:.3f} of processor time"
        )
    return list(results.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="leave out the largest")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--dir", type=Path, help="where trees and outputs lie (default: a temporary folder)")
    parser.add_argument("--only", action="append", metavar="TOOL", help="measure these tools (default ocibuild)")
    options = parser.parse_args()
    wanted = options.only or ["ocibuild"]
    last = -1 if options.quick else None
    load = os.getloadavg()[0]
    with open_folder(options.dir) as folder:
        # Once is enough: what a second build costs is told by build.py.
        tools = [tool.once for tool in find_tools(None, folder) if tool.name in wanted]
        found = [
            *_series("files", FILES[:last], tools, folder, options.runs),
            *_series("bytes", BYTES[:last], tools, folder, options.runs),
        ]
    print(f"  load {load:.2f} before, {os.getloadavg()[0]:.2f} after")
    if options.json:
        facts = {"kind": "scaling", "runs": options.runs, "cores": os.cpu_count(), "load": load, "versions": versions()}
        options.json.write_text(json.dumps({**facts, "series": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
