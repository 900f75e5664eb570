"""A campaign of kills: a build killed (SIGKILL) at random moments leaves nothing, or a store that opens.

    python -m tests.property.kill [--count 200] [--seed 1]

Six cases in turn: a new layout, a layout that holds an older image, a new archive, an archive that holds an older
image, and a new layout and archive of plain trees, which processes of their own pack. After each kill every image that is named must be whole and the older one still there; then the next build must
give the digest that an undisturbed one gives, leave nothing beside its output, and sweep what the killed one left.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ocibuild import LocalStore, open_artifact, open_store
from ocibuild.store import walk
from ocibuild.store.graph import platform_images
from ocibuild.unpack import unpack
from tests.support.tools import ROOT, TREES

CASES = ("oci new", "oci old", "oci-archive new", "oci-archive old", "oci ahead", "oci-archive ahead")


def command(sources: Sequence[str], place: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", "ocibuild", "build", *sources, "-o", place, "--json", *flags]


def build(sources: Sequence[str], place: str, *flags: str) -> str:
    result = subprocess.run(command(sources, place, *flags), cwd=ROOT, capture_output=True, text=True, check=True)
    return str(json.loads(result.stdout)["digest"])


def plain_trees(place: str, folder: Path) -> list[str]:
    """What an image holds, as trees to build it of once more."""
    found = []
    for platform, image in platform_images(open_artifact(place)):
        unpack(image, folder / platform.architecture)
        found.append(f"{platform}={folder / platform.architecture}")
    return found


def whole(store: LocalStore) -> list[str]:
    """The tags of a store, once every blob that they reach has been read."""
    for root in store.tags().values():
        for item in walk(store, root):
            with store.fetch(item) as stream:
                stream.read()
    return list(store.tags())


def one(work: Path, case: str, sources: Sequence[str], delay: float, expected: str) -> str:
    transport, state = case.split()
    path = work / "out" / ("x.tar" if transport == "oci-archive" else "x")
    place = f"{transport}:{path}"
    old = build(sources, place, "-t", "old", "--label", "state=old") if state == "old" else None
    process = subprocess.Popen(command(sources, place), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(delay)
    process.kill()
    process.communicate()
    outcome = "finished" if process.returncode == 0 else "killed early"
    if path.exists():
        tags = whole(open_store(place))
        if old is not None:
            assert open_artifact(f"{place}:old").digest == old
        if process.returncode != 0:
            outcome = "killed, tagged" if "0.2.0" in tags else "killed, opens"
    else:
        assert old is None, f"{path} is gone"
    assert build(sources, place) == expected
    assert open_artifact(f"{place}:0.2.0").digest == expected
    left = [item.name for item in path.parent.iterdir() if item != path]
    assert not left, left
    if transport == "oci":
        assert sorted(item.name for item in path.iterdir()) == ["blobs", "index.json", "oci-layout"]
    shutil.rmtree(work / "out")
    return outcome


def campaign(count: int, seed: int) -> Counter[str]:
    """Run the cases; how they ended."""
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        packages = [str(tree) for tree in TREES]
        start = time.monotonic()
        expected = build(packages, f"oci:{work}/x")
        took = time.monotonic() - start
        plain = plain_trees(f"oci:{work}/x", work / "trees")
        for number in range(count):
            case = CASES[number % len(CASES)]
            # Most of the writing is in the last third.
            delay = took * chance.choice((chance.random(), chance.uniform(0.5, 1.05)))
            sources = plain if case.endswith("ahead") else packages
            outcomes[f"{case}: {one(work, case, sources, delay, expected)}"] += 1
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for outcome, times in sorted(campaign(options.count, options.seed).items()):
        print(f"{times:>5}  {outcome}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
