"""Where the processor time of a build goes, by py-spy: all threads, what is native by the Python that calls it.

    python -m tests.benchmarks.profile [--work p1,p2,p3] [--runs N] [--json FILE] [--dir DIR]

Each workload is built N times under `py-spy record`. A sample is put to the innermost frame that says what was done:
the codec, the hash, reading a file, loading a module, a part of ours. The build runs in one process: what is forked ahead ends
before py-spy has found it, and does the same. py-spy is no dependency of the tests: `pip install py-spy` first.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from .build import open_folder
from .peers import find_tools
from .workloads import make

RATE = 250

# The first that fits the stack, which is written from the outermost frame to the innermost.
PARTS: tuple[tuple[str, str], ...] = (
    ("libdeflate", r"^_member \("),
    ("sha256", r"\.member \(|^_told \(|\bFileWriter\.write \("),
    ("loading Python modules", r"<frozen importlib|_find_and_load|_load_unlocked"),
    ("archive: reading files, headers", r"ocibuild/layer/(?:tar|pack)\.py"),
    ("waiting", r"\bTask\.result|\bWorkers\._work|\.ready \(|\bworkers\.py"),
    ("listing trees", r"ocibuild/layer/(?:tree|plan|entry)\.py"),
    ("checks", r"ocibuild/postgres/checks|ocibuild/elf|ocibuild/postgres/policies"),
    ("sources, labels, image", r"ocibuild/(?:postgres|image|oci|describe)"),
    ("writing the layout", r"ocibuild/store"),
    ("the command line", r"ocibuild/cli|argparse"),
)
OTHER = "the interpreter's own start, and the rest"


def part_of(stack: str) -> str:
    """What a sampled stack was about."""
    frames = stack.split(";")
    # From the innermost frame outwards, so that a library that is loaded by a check is loading.
    name, pattern = PARTS[2]
    if re.search(pattern, stack):
        return name
    for frame in reversed(frames):
        for name, pattern in PARTS:
            if re.search(pattern, frame):
                return name
    return OTHER


def profile(command: list[str], folder: Path) -> Counter[str]:
    """The samples of one run, by part.

    Raises:
        AssertionError: py-spy failed.
    """
    raw = folder / "raw"
    spy = Path(sys.executable).with_name("py-spy")
    line = [str(spy), "record", "--nonblocking", "--rate", str(RATE), "--format", "raw", "--output", str(raw)]
    done = subprocess.run([*line, "--", *command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: Counter[str] = Counter()
    for item in raw.read_text().splitlines():
        stack, _, count = item.rpartition(" ")
        found[part_of(stack)] += int(count)
    del found["waiting"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="p1,p2,p3", help="which, with commas between")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--dir", type=Path, help="where the trees stay")
    options = parser.parse_args()
    results: dict[str, Any] = {"kind": "profile", "runs": options.runs, "work": {}}
    with open_folder(options.dir) as folder:
        tool = find_tools(None, folder)[0]
        for name in options.work.split(","):
            work = make(name, folder)
            [[_, *arguments]] = tool.steps(work)
            command = [sys.executable, "-c", "import sys; from ocibuild.cli import main; sys.exit(main())", *arguments]
            total: Counter[str] = Counter()
            for _ in range(options.runs):
                place = folder / "profiled"
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                total += profile(command, place)
            shutil.rmtree(folder / "profiled", ignore_errors=True)
            results["work"][name] = dict(total.most_common())
            print(f"{name}:")
            for part, count in total.most_common():
                print(f"  {part:40}{count / total.total():7.1%}{count * 1000 / RATE / options.runs:9.0f} ms")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
