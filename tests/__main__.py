"""The project's test command: `python -m tests [pytest arguments]`.

As root on Debian it installs what the tests against real components need (skopeo, umoci, docker-registry) and says so;
elsewhere those tests say what they lack and are skipped. Then: lint, types, import contracts, tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.tools import DEBIAN

CHECKS = (
    ["ruff", "check", "."],
    ["ruff", "format", "--check", "."],
    ["mypy"],
    ["lint-imports"],
)


def install_tools() -> None:
    """Install the real components with apt, where that can be done without asking."""
    missing = [package for name, package in DEBIAN.items() if not shutil.which(name)]
    if not missing or not shutil.which("apt-get") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    print(f"installing with apt: {' '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "-qq", "update"],
        ["apt-get", "-qq", "install", "-y", "--no-install-recommends", *missing],
    ):
        result = subprocess.run(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
        )
        if result.returncode:
            print(f"apt failed, their tests will say so: {result.stderr.strip()}", flush=True)
            return


def main() -> int:
    root = Path(__file__).parent.parent
    install_tools()
    bin_folder = Path(sys.executable).parent
    for command in CHECKS:
        tool = bin_folder / command[0]
        result = subprocess.run([tool, *command[1:]], cwd=root, capture_output=True, text=True, check=False)
        print(f"{' '.join(command)}: {'ok' if result.returncode == 0 else 'failed'}", flush=True)
        if result.returncode:
            print(result.stdout + result.stderr)
            return result.returncode
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "auto", *sys.argv[1:]], cwd=root, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
