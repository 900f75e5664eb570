"""Pushes to a registry that is far away, next to crane, oras and skopeo; and a large blob's way there and back.

    python -m tests.benchmarks.push [--runs N] [--rtt SECONDS] [--tls] [--chain] [--json]
    python -m tests.benchmarks.push --big

The registry is docker-registry on loopback, behind the relay of `latency.py`. Each tool pushes the same layout as a process
of its own, start to end, in turn with the others, first to a new repository and then once more: fresh, and already there.
The digest that the registry then has is checked. crane, oras and skopeo are those on PATH or, under OCIBUILD_PEERS, the
programs in the peers' root, started directly. The median of the runs counts.

Over plain HTTP crane first tries TLS, which costs it a connection and two round trips that it would not need elsewhere; with
--tls all speak https, where the Go tools use one HTTP/2 connection. Only plain HTTP can be read on its way: --chain is for that.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ocibuild import LayoutStore, copy, postgres
from tests.benchmarks.large import measure_large
from tests.benchmarks.latency import Exchange, Far, far_away
from tests.support.certificates import Certificates, make_certificates
from tests.support.registry import registry, seen
from tests.support.tools import TREES

TAG = "0.2.0"
TAGS = ("{version}", "{major}.{minor}", "latest")
LIBRARY = 8 * 1024 * 1024


@dataclass(slots=True)
class Runs:
    """What was measured of one tool doing one thing."""

    tool: str
    walls: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)
    connections: list[int] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    methods: dict[str, int] = field(default_factory=dict)
    strange: int = 0
    chain: tuple[Exchange, ...] = ()
    begun: float = 0.0

    def fields(self) -> dict[str, Any]:
        return {
            "tool": self.tool,
            "wall": round(statistics.median(self.walls), 4),
            "least": round(min(self.walls), 4),
            "most": round(max(self.walls), 4),
            "cpu": round(statistics.median(self.cpus), 4),
            "connections": statistics.median_low(self.connections),
            "requests": statistics.median_low(self.requests),
            "not_http": self.strange,
            "methods": self.methods,
            "walls": [round(item, 4) for item in self.walls],
        }


Command = Callable[[Path, str], list[str]]
"""The command that pushes a layout to a repository."""


def program(name: str) -> str | None:
    """A peer's program, to be started without the script that gives it a root of its own: that costs time."""
    if os.environ.get("OCIBUILD_PEERS"):
        root = Path(os.environ.get("PEERS_ROOT") or Path.home() / ".cache/peers")
        path = root / "usr/bin" / name
        if path.is_file() and subprocess.run([path, "version"], capture_output=True, check=False).returncode == 0:
            return str(path)
    return shutil.which(name)


def launch(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> tuple[float, float]:
    """Run a process to its end: seconds by the clock, and of processor."""
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=said, env=dict(environment), cwd=cwd)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        assert process.returncode == 0, f"{list(command)} exited {process.returncode}\n{said.read().decode()}"
    return wall, usage.ru_utime + usage.ru_stime


def clean_environment(folder: Path, authority: Path | None) -> dict[str, str]:
    """Nobody's credentials, proxies or caches."""
    kept = ("PATH", "LANG", "SYSTEMROOT", "VIRTUAL_ENV")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    for name in ("HOME", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        (folder / name.lower()).mkdir(exist_ok=True)
        found[name] = str(folder / name.lower())
    # Else root's skopeo keeps what it remembers in a place of the system's.
    found["_CONTAINERS_ROOTLESS_UID"] = "1000"
    if authority is not None:
        found["SSL_CERT_FILE"] = str(authority)
    return found


def build_layouts(folder: Path) -> dict[str, Path]:
    """The fixture's image of two platforms, and one with large libraries."""
    small = _build(folder / "small", TREES)
    large = []
    for number, tree in enumerate(TREES):
        copied = folder / f"tree{number}"
        shutil.copytree(tree, copied)
        (library,) = copied.rglob("*.so")
        with open(library, "ab") as file:
            file.write(half_random(LIBRARY, seed=number))
        large.append(copied)
    return {"small": small, "large": _build(folder / "large", large)}


def _build(path: Path, trees: Sequence[Path]) -> Path:
    with LayoutStore(path) as store:
        image = postgres.build_extension([postgres.open_source(tree) for tree in trees], into=store)
        copy(image, store, tags=[TAG])
    return path


def half_random(size: int, *, seed: int) -> bytes:
    """Bytes that compress to about half, the same each time."""
    source = random.Random(seed)
    text = b"".join(b"%016d symbol_of_a_library\n" % source.randrange(100) for _ in range(2000))
    parts: list[bytes] = []
    for _ in range(0, size, 128 * 1024):
        parts += (source.randbytes(64 * 1024), text[: 64 * 1024])
    return b"".join(parts)[:size]


def tools(ca: Certificates | None) -> dict[str, Command]:
    """The tools that are here, and how each pushes a layout."""
    own = [sys.executable, "-m", "ocibuild", "push"]
    trust = ["--ca-file", str(ca.authority)] if ca else []
    found: dict[str, Command] = {
        "ocibuild": lambda layout, name: [*own, f"oci:{layout}:{TAG}", f"{name}:{TAG}", *trust],
    }
    if crane := program("crane"):
        # With --index it would push an index that names the image's index; without, the one image that is there.
        found["crane push"] = lambda layout, name: [crane, "push", str(layout), f"{name}:{TAG}"]
    if oras := program("oras"):
        how = ["--to-ca-file", str(ca.authority)] if ca else ["--to-plain-http"]
        found["oras cp"] = lambda layout, name: [
            oras, "cp", "--no-tty", "--from-oci-layout", f"{layout}:{TAG}", *how, f"{name}:{TAG}",
        ]  # fmt: skip
    if skopeo := program("skopeo"):
        check = [f"--dest-cert-dir={ca.authority.parent}/only-ca"] if ca else ["--dest-tls-verify=false"]
        policy = ["--insecure-policy"]
        found["skopeo copy"] = lambda layout, name: [
            skopeo, *policy, "copy", "--all", "--quiet", *check, f"oci:{layout}:{TAG}", f"docker://{name}:{TAG}",
        ]  # fmt: skip
    three = [item for tag in TAGS for item in ("--tag", tag)]
    found["ocibuild, 3 tags"] = lambda layout, name: [*own, f"oci:{layout}:{TAG}", name, *three, *trust]
    return found


@dataclass(slots=True)
class Place:
    """A registry, near and far, and what its clients need."""

    near: str
    far: Far
    folder: Path
    environment: dict[str, str]
    context: ssl.SSLContext | None
    asked: int = 0

    def requests(self) -> dict[str, int]:
        """How many requests the registry has answered since the last call, by method, as its own log says."""
        lines = seen(self.folder)
        fresh, self.asked = lines[self.asked :], len(lines)
        methods = sorted({line.method for line in fresh})
        return {method: sum(line.method == method for line in fresh) for method in methods}

    def digest(self, repository: str) -> str:
        """What the tag names, asked without the relay."""
        if self.context is not None:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(self.near, context=self.context)
        else:
            connection = http.client.HTTPConnection(self.near)
        accept = "application/vnd.oci.image.index.v1+json"
        connection.request("HEAD", f"/v2/{repository}/manifests/{TAG}", headers={"Accept": accept})
        answer = connection.getresponse()
        connection.close()
        assert answer.status == 200, f"{repository}: {answer.status}"
        return answer.headers["Docker-Content-Digest"]


def measure(place: Place, layout: Path, commands: Mapping[str, Command], runs: int) -> dict[str, list[Runs]]:
    """Push and push again with each tool in turn. A first round warms files and caches, and does not count."""
    from ocibuild import open_artifact

    wanted = str(open_artifact(f"oci:{layout}:{TAG}").digest)
    fresh = {name: Runs(name) for name in commands}
    again = {name: Runs(name) for name in commands}
    for number in range(runs + 1):
        order = list(commands.items())
        for name, command in order if number % 2 else reversed(order):
            repository = f"bench/{layout.name}-{''.join(filter(str.isalnum, name))}-{number}"
            # skopeo would mount what it remembers to have pushed elsewhere.
            environment = {**place.environment, "XDG_DATA_HOME": str(place.folder / "data" / repository)}
            for found in (fresh[name], again[name]):
                begun = time.monotonic()
                wall, cpu = launch(command(layout, f"{place.far.address}/{repository}"), environment, place.folder)
                traffic, methods = place.far.traffic(), place.requests()
                assert place.digest(repository) == wanted, f"{name} pushed another image"
                place.requests()
                if number:
                    found.walls.append(wall)
                    found.cpus.append(cpu)
                    found.connections.append(traffic.connections)
                    found.requests.append(sum(methods.values()))
                    found.methods, found.chain, found.begun = methods, traffic.exchanges, begun
                    found.strange = traffic.unreadable
    return {"fresh": list(fresh.values()), "already there": list(again.values())}


def show(title: str, found: Sequence[Runs]) -> None:
    """A table. Ratios are to the quicker of crane and oras."""
    rivals = [statistics.median(item.walls) for item in found if item.tool in ("crane push", "oras cp")]
    print(f"\n{title}\n  {'':18}{'median':>8}{'least':>8}{'most':>8}{'cpu':>8}{'ratio':>8}{'conns':>7}{'requests':>10}")
    for item in found:
        fields = item.fields()
        ratio = f"{fields['wall'] / min(rivals):8.2f}" if rivals else " " * 8
        methods = ", ".join(f"{count} {method}" for method, count in item.methods.items())
        if item.strange and item.chain:
            methods += f"; {item.strange} connection that tried TLS"
        times = "".join(f"{fields[name]:8.3f}" for name in ("wall", "least", "most", "cpu"))
        print(f"  {item.tool:18}{times}{ratio}{fields['connections']:7}{fields['requests']:10}  {methods}")


def show_chain(found: Sequence[Runs]) -> None:
    """The requests of the last run, in milliseconds since the process began; the first on a connection with its handshake."""
    for item in found:
        print(f"\n  {item.tool}: {item.walls[-1] * 1000:.0f} ms")
        for exchange in item.chain:
            start, end = ((moment - item.begun) * 1000 for moment in (exchange.sent, exchange.answered))
            path = exchange.path.partition("/v2/")[2].partition("/")[2].partition("/")[2] or exchange.path
            told = f"{exchange.status} {exchange.method} {path[:60]}"
            print(f"    {start:6.0f} ..{end:6.0f}  #{exchange.connection % 1000:<4} {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--rtt", type=float, default=0.05, help="seconds (default 0.05)")
    parser.add_argument("--tls", action="store_true", help="a registry that speaks https")
    parser.add_argument("--chain", action="store_true", help="show the requests of the last run of each tool")
    parser.add_argument("--layout", choices=["small", "large"], help="only this image")
    parser.add_argument("--big", action="store_true", help="a blob of 2 GB, up and down, instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ocibuild-bench-")))
        if options.big:
            measure_large(folder, clean_environment(folder, None), program("skopeo"), is_json=options.json)
            return
        ca = make_certificates(folder / "certificates") if options.tls else None
        if ca is not None:
            (ca.authority.parent / "only-ca").mkdir()
            shutil.copy(ca.authority, ca.authority.parent / "only-ca/ca.crt")
        near = str(stack.enter_context(registry(folder, tls=ca)))
        far = stack.enter_context(far_away(near, folder, options.rtt))
        context = ssl.create_default_context(cafile=str(ca.authority)) if ca else None
        place = Place(near, far, folder, clean_environment(folder, ca.authority if ca else None), context)
        commands = tools(ca)
        load = os.getloadavg()[0]
        results = {
            name: measure(place, layout, commands, options.runs)
            for name, layout in build_layouts(folder).items()
            if options.layout in (None, name)
        }
        if options.json:
            kinds = {name: {kind: [item.fields() for item in runs] for kind, runs in found.items()}
                     for name, found in results.items()}  # fmt: skip
            print(json.dumps({"rtt": options.rtt, "runs": options.runs, "tls": options.tls, "load": load, **kinds}))
            return
        print(f"{options.rtt * 1000:.0f} ms of round trip, {options.runs} runs, load {load:.1f} before and "
              f"{os.getloadavg()[0]:.1f} after")  # fmt: skip
        for name, found in results.items():
            for kind, runs in found.items():
                show(f"{name} image, {kind}", runs)
                if options.chain:
                    show_chain(runs)


if __name__ == "__main__":
    main()
