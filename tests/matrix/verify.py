"""A row of the matrix: build the golden cases here, compare, and say as one JSON object what they were built on.

    python tests/matrix/verify.py [--golden DIR] [--cpu NAME] [--out FILE] [-- OCIBUILD...]

For any Python that has ocibuild installed, and needs nothing else. After `--` stands the command line to try, where it is
not the `ocibuild` installed beside this Python. Exit 1, with the names, when a digest is another.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
AMBIENT = ("SOURCE_DATE_EPOCH", "PYTHONHASHSEED")
"""What the environment may say about a build; no row may depend on it."""


def flat(tree: Mapping[str, object], path: str = "") -> dict[str, str]:
    """The leaves of nested objects, by their path."""
    found: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{path}/{key}" if path else key
        found.update(flat(value, name) if isinstance(value, dict) else {name: str(value)})
    return found


def from_library() -> dict[str, str]:
    """Every digest that the library gives."""
    from tests.support.golden import MAKERS

    return flat({make.__name__: dict(make()) for make in MAKERS})


def from_command(command: list[str]) -> dict[str, str]:
    """The digests of the fixture's image that the command line prints."""
    from tests.support.golden import TREES

    environment = {key: value for key, value in os.environ.items() if key not in AMBIENT}
    with tempfile.TemporaryDirectory(prefix="ocibuild-row-") as work:
        # A relative place: a drive's letter has a colon too.
        arguments = [*command, "build", *map(str, TREES), "-o", "oci:x", "--json"]
        result = subprocess.run(
            arguments, cwd=work, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    if result.returncode:
        raise SystemExit(f"{' '.join(arguments)} exited {result.returncode}\n{result.stdout}\n{result.stderr}")
    built = json.loads(result.stdout)
    platforms = {item["platform"]: item["digest"] for item in built["platforms"]}
    return flat({"command": {"index": built["digest"], **platforms}})


def wanted(golden: Path) -> dict[str, str]:
    """Every pinned digest; those of the command line are the fixture's."""
    files = ("layers", "images", "pgrx_hello")
    pinned = flat({name: json.loads((golden / f"{name}.json").read_text(encoding="utf-8")) for name in files})
    commands = {
        "command/" + name.removeprefix("pgrx_hello/").removesuffix("/manifest"): digest
        for name, digest in pinned.items()
        if name == "pgrx_hello/index" or name.endswith("/manifest")
    }
    return pinned | commands


def installed() -> list[str]:
    """The command line beside this Python, or the module."""
    script = shutil.which("ocibuild", path=sysconfig.get_path("scripts"))
    return [script] if script else [sys.executable, "-m", "ocibuild"]


def report(golden: Path, cpu: str | None, command: list[str]) -> dict[str, object]:
    """What this ran on, and which digests agreed."""
    import ocibuild  # the installed one: found before the checkout is on the path

    sys.path.insert(0, str(ROOT))
    from tests.matrix.machine import facts

    pinned, got = wanted(golden), from_library() | from_command(command)
    names = sorted(pinned.keys() | got.keys())
    return {
        **facts(cpu),
        "ocibuild": ocibuild.__version__,
        "goldens": hashlib.sha256(json.dumps(pinned, sort_keys=True).encode()).hexdigest(),
        "agreed": [name for name in names if pinned.get(name) == got.get(name)],
        "differ": {
            name: {"wanted": pinned.get(name), "got": got.get(name)}
            for name in names
            if pinned.get(name) != got.get(name)
        },
    }


def main() -> int:
    """Print the report; 1 when a digest is another."""
    parser = argparse.ArgumentParser(description="Build the golden cases on this machine and compare.")
    parser.add_argument("--golden", type=Path, default=ROOT / "tests" / "golden")
    parser.add_argument("--cpu", help="the processor that is emulated")
    parser.add_argument("--out", type=Path, help="write the object to a file too")
    parser.add_argument("command", nargs="*", help="the command line to try, after --")
    options = parser.parse_args()
    found = report(options.golden, options.cpu, options.command or installed())
    text = json.dumps(found, indent=2)  # ASCII, whatever the console's encoding
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="ascii")
    for name in found["differ"] if isinstance(found["differ"], dict) else ():
        print(f"another digest: {name!a}", file=sys.stderr)
    return 1 if found["differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
