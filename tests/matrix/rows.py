"""The rows of the matrix: how each comes to a Python that has ocibuild."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.matrix import machine, musl
from tests.matrix.roots import MINUTES, Cache, UnavailableError, call, copy_project, needs

MODELS = ("Nehalem", "Haswell", "max")
"""x86-64 without AVX, with AVX2, and all that qemu can do: codecs choose their code by what the processor has."""

X86 = ("manylinux_2_28_x86_64", "manylinux2014_x86_64")
ARM = ("manylinux_2_28_aarch64", "manylinux2014_aarch64")
MUSL = ("musllinux_1_2_x86_64", "musllinux_1_1_x86_64")

_CHROOT = """
root=$1 shared=$2
shift 2
mount --rbind /proc "$root/proc" && mount --rbind /dev "$root/dev" && mount -t tmpfs tmpfs "$root/tmp" &&
mkdir -p "$root$shared" && mount --bind "$shared" "$root$shared" && exec chroot "$root" "$@"
"""


@dataclass(frozen=True)
class Launch:
    """How to start a Python that has ocibuild.

    Attributes:
        python: The command of the interpreter.
        path: What PYTHONPATH names.
        cpu: The processor, where it is emulated.
        command: The ocibuild command line, where it is not the one beside the interpreter.
        proof: What the report must say, or the row was run on something else than its name.
    """

    python: Sequence[str | Path]
    path: Sequence[Path] = ()
    cpu: str = ""
    command: Sequence[str | Path] = ()
    proof: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One machine of the matrix: its name, and how it is had."""

    name: str
    launch: Callable[[Cache], Launch] = field(repr=False)


@dataclass(frozen=True)
class Outcome:
    """What came of a row.

    Attributes:
        row: Its name.
        state: `agrees`, `differs`, `failed` or `not run`.
        reason: What differs or failed, or why it was not run.
        report: What `verify.py` printed.
    """

    row: str
    state: str
    reason: str = ""
    report: Mapping[str, Any] = field(default_factory=dict)


def rows() -> list[Row]:
    """Every row, in the order of the table."""
    pythons = [path for path in os.environ.get("OCIBUILD_PYTHONS", "").split(os.pathsep) if path]
    return [
        Row("this Python", this_python),
        *(Row(path, other_python(path)) for path in pythons),
        *([] if pythons else [Row("other Pythons", no_other_python)]),
        Row("Debian bookworm", debian("bookworm")),
        Row("Debian sid", debian("sid")),
        Row("musl", musl_python),
        *(Row(f"x86-64 as {model}", emulated_model(model)) for model in MODELS),
        Row("arm64 emulated", emulated_arm),
    ]


def run(row: Row, cache: Cache) -> Outcome:
    """Run one row; what cannot be had says why."""
    try:
        launch = row.launch(cache)
        program = cache.program
    except UnavailableError as error:
        return Outcome(row.name, "not run", str(error))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, launch.path)), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*launch.python, program, *(["--cpu", launch.cpu] if launch.cpu else []), "--", *launch.command]
    try:
        result = subprocess.run(
            [str(item) for item in command], env=environment, cwd=cache.kit, capture_output=True, encoding="utf-8",
            errors="replace", check=False, timeout=30 * MINUTES,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return Outcome(row.name, "failed", str(error))
    outcome = judge(row.name, result.returncode, result.stdout, result.stderr)
    for key, start in launch.proof.items():
        if outcome.report and not str(outcome.report[key]).startswith(start):
            return dataclasses.replace(outcome, state="failed", reason=f"{key} is not {start}")
    return outcome


def judge(name: str, code: int, stdout: str, stderr: str) -> Outcome:
    """What the row's program said."""
    try:
        report = json.loads(stdout)
        differ = report["differ"]
    except (ValueError, TypeError, KeyError):
        last = (stderr.strip() or stdout.strip()).splitlines() or ["nothing was said"]
        return Outcome(name, "failed", f"exit {code}: {last[-1]}")
    if differ:
        return Outcome(name, "differs", ", ".join(differ), report)
    if code or not report["agreed"]:
        return Outcome(name, "failed", f"exit {code}, {len(report['agreed'])} digests", report)
    return Outcome(name, "agrees", "", report)


def this_python(_cache: Cache) -> Launch:
    """The interpreter that runs the matrix, with the ocibuild it has."""
    call([sys.executable, "-c", "import ocibuild"], cwd=Path(sys.prefix))
    return Launch([sys.executable])


def other_python(path: str) -> Callable[[Cache], Launch]:
    """An interpreter that has pip: ocibuild is installed as a user installs it."""

    def launch(cache: Cache) -> Launch:
        folder = Path(tempfile.mkdtemp(prefix="venv-", dir=cache.kit))
        call([path, "-m", "venv", folder])
        python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        copy_project(folder / "source")
        call([python, "-m", "pip", "install", "--quiet", folder / "source"])
        return Launch([python])

    return launch


def no_other_python(_cache: Cache) -> Launch:
    raise UnavailableError("OCIBUILD_PYTHONS names no interpreter")


def debian(suite: str) -> Callable[[Cache], Launch]:
    """The Python and glibc of a release of Debian, in a root that only this row's process sees."""

    def launch(cache: Cache) -> Launch:
        _linux_on_x86()
        alone = _unshare()
        root = cache.debian(suite, "amd64", "python3")
        version = _version(root)
        inside: list[str | Path] = [*alone, "sh", "-c", _CHROOT, "sh", root, cache.folder]
        return Launch([*inside, f"/usr/bin/python{version}"], [cache.site, cache.wheels(version, *X86)])

    return launch


def musl_python(cache: Cache) -> Launch:
    """A CPython linked with musl, with the wheels for musl."""
    _linux_on_x86()
    return Launch([musl.python(cache)], [cache.site, cache.wheels(musl.PYTHON, *MUSL)], proof={"libc": "musl"})


def emulated_model(model: str) -> Callable[[Cache], Launch]:
    """This Python on another processor, by qemu."""

    def launch(cache: Cache) -> Launch:
        _linux_on_x86()
        this_python(cache)
        qemu: list[str | Path] = [_qemu(cache, "x86_64"), "-cpu", model]
        python = [*qemu, sys.executable]
        cpu = f"{model} {machine.level(qemu)}".rstrip()
        return Launch(python, cpu=cpu, command=[*python, "-m", "ocibuild"])

    return launch


def emulated_arm(cache: Cache) -> Launch:
    """Debian's Python for arm64, by qemu."""
    _linux_on_x86()
    root = cache.debian("bookworm", "arm64", "python3")
    version = _version(root)
    program = root / "usr" / "bin" / f"python{version}"
    python: list[str | Path] = [_qemu(cache, "aarch64"), "-cpu", "max", "-L", root, program]
    path = [cache.site, cache.wheels(version, *ARM)]
    command = [*python, "-m", "ocibuild"]
    return Launch(python, path, cpu="max (aarch64)", command=command, proof={"machine": "aarch64"})


def _qemu(cache: Cache, architecture: str) -> Path:
    root = cache.debian("bookworm", "amd64", "qemu-user-static")
    return root / "usr" / "bin" / f"qemu-{architecture}-static"


def _version(root: Path) -> str:
    """The version of a root's Python, as in 3.11."""
    found = os.readlink(root / "usr" / "bin" / "python3").removeprefix("python")
    if not (root / "usr" / "bin" / f"python{found}").exists():
        raise UnavailableError(f"no Python in {root}")
    return found


def _linux_on_x86() -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise UnavailableError("written for Linux on x86-64")


def _unshare() -> list[str]:
    """The command that gives a process mounts of its own: they end with it."""
    needs("unshare", "mount", "chroot")
    command = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        command.append("--map-root-user")
    try:
        call([*command, "true"])
    except UnavailableError:
        raise UnavailableError("needs root, or user namespaces") from None
    return command
