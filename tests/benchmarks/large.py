"""A large blob from a layout to a registry and back: time, and the most memory it takes."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ocibuild import Compression, File, LayoutStore, Platform, build_image, build_layer, copy, open_artifact
from tests.support.registry import registry

__all__ = ["Finished", "build_large", "measure_large", "there_and_back", "watched"]

GB = 1000 * 1000 * 1000
TAG = "1"

_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that has ended: seconds by the clock, seconds of processor, and the most memory it had, in bytes."""

    wall: float
    cpu: float
    peak: int


def watched(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Finished:
    """Run a process to its end and look at its memory meanwhile.

    The kernel keeps the peak, so a look now and then misses no more than the last moment's growth. What wait4 tells is
    no use here: it counts the memory of whoever started the process, too.
    """
    with tempfile.TemporaryFile() as said:
        start, peak = time.perf_counter(), 0
        process = subprocess.Popen(command, stdout=said, stderr=said, env=dict(environment), cwd=cwd)
        done, status, usage = 0, 0, None
        while not done:
            peak = max(peak, _high_water(process.pid))
            time.sleep(0.005)
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        assert process.returncode == 0, f"{list(command)} exited {process.returncode}\n{said.read().decode()}"
    assert usage is not None
    assert peak, "no look at its memory"
    return Finished(wall, usage.ru_utime + usage.ru_stime, peak)


def _high_water(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    # A process that has ended has no memory left to tell of.
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def build_large(path: Path, size: int) -> Path:
    """A layout with an image whose one layer holds a file of that size, which does not compress."""
    source = path.parent / "large.bin"
    with open(source, "wb") as file:
        file.writelines(_blocks(size))
    with LayoutStore(path) as store:
        layer = build_layer([File(path="lib/large.bin", content=source)], into=store, compression=Compression.NONE)
        copy(build_image([layer], platform=Platform.parse("linux/amd64"), into=store), store, tags=[TAG])
    source.unlink()
    return path


def _blocks(size: int) -> Iterable[bytes]:
    """Random bytes, but made quickly: one block over and over, each with its number."""
    block = random.Random(0).randbytes(_BLOCK - 8)
    whole, rest = divmod(size, _BLOCK)
    for number in range(whole):
        yield number.to_bytes(8, "big") + block
    yield block[:rest]


def there_and_back(
    layout: Path, address: str, environment: Mapping[str, str], skopeo: str | None = None
) -> tuple[Finished, Finished]:
    """Copy to a registry and to another layout, with ocibuild or with skopeo; the digest must stay."""
    back = layout.parent / "back"
    far = f"{address}/large/{'skopeo' if skopeo else 'ocibuild'}:{TAG}"
    ends = ((f"oci:{layout}:{TAG}", f"docker://{far}"), (f"docker://{far}", f"oci:{back}:{TAG}"))
    found = []
    for number, (source, target) in enumerate(ends):
        if skopeo:
            check = ["--dest-tls-verify=false", "--src-tls-verify=false"][number]
            # Without --preserve-digests it would compress the layer.
            command = [skopeo, "--insecure-policy", "copy", "--quiet", "--preserve-digests", check, source, target]
        else:
            command = [sys.executable, "-m", "ocibuild", "copy", source, target]
        os.sync()  # what was written before is not for this one to wait for
        found.append(watched(command, environment, layout.parent))
    assert open_artifact(f"oci:{back}:{TAG}").digest == open_artifact(f"oci:{layout}:{TAG}").digest
    shutil.rmtree(back)
    up, down = found
    return up, down


def measure_large(
    folder: Path, environment: Mapping[str, str], skopeo: str | None, *, size: int = 2 * GB, is_json: bool = False
) -> None:
    """Both ways without added latency, and show it."""
    layout = build_large(folder / "layout", size)
    results = {}
    with registry(folder) as address:
        for name, program in (("ocibuild copy", None), *([("skopeo copy", skopeo)] if skopeo else [])):
            results[name] = there_and_back(layout, str(address), environment, program)
    if is_json:
        kinds = {
            name: {
                way: {"wall": done.wall, "cpu": done.cpu, "peak": done.peak}
                for way, done in zip(("up", "down"), both, strict=True)
            }
            for name, both in results.items()
        }
        print(json.dumps({"size": size, **kinds}))
        return
    print(f"a blob of {size / GB:g} GB, no added latency\n  {'':16}{'way':>6}{'wall':>8}{'cpu':>8}{'peak MB':>9}")
    for name, both in results.items():
        for way, done in zip(("up", "down"), both, strict=True):
            print(f"  {name:16}{way:>6}{done.wall:8.2f}{done.cpu:8.2f}{done.peak / 1e6:9.1f}")
