"""What a Python runs on: processor, system, C library, codecs. Only the standard library, on any system."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

_LOADER = "/lib64/ld-linux-x86-64.so.2"
_ARM_PARTS = {
    ("0x41", "0xd0c"): "Neoverse N1",
    ("0x41", "0xd40"): "Neoverse V1",
    ("0x41", "0xd49"): "Neoverse N2",
    ("0x41", "0xd4f"): "Neoverse V2",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
}
"""The cores of Linux machines that are commonly rented, by implementer and part."""


def facts(cpu: str | None = None) -> dict[str, object]:
    """What this interpreter runs on; `cpu` names a processor that is emulated, for the system tells the real one."""
    return {
        "cpu": cpu or processor(),
        "machine": platform.machine(),
        "system": platform.system(),
        "release": platform.release(),
        "libc": " ".join(libc()),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "codecs": codecs(),
    }


def codecs() -> dict[str, str]:
    """The versions of the packages that give bytes."""
    import zstandard

    found = {name: metadata.version(name) for name in ("deflate", "zstandard", "msgspec")}
    return {**found, "zstd": ".".join(map(str, zstandard.ZSTD_VERSION))}


def libc() -> tuple[str, str]:
    """Name and version of the C library."""
    if sys.platform == "win32":
        return "ucrt", platform.version()
    if sys.platform == "darwin":
        return "libSystem", platform.mac_ver()[0]
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        name = version = ""
    if name:
        return name, version
    for loader in _mapped("musl"):
        said = _said([loader], both=True)
        if found := re.search(r"^Version (\S+)", said, re.MULTILINE):
            return "musl", found[1]
    return platform.libc_ver()


def processor() -> str:
    """The model of the processor, with the level of x86-64 that the C library's loader finds in it."""
    if sys.platform == "darwin":
        return _said(["sysctl", "-n", "machdep.cpu.brand_string"]).strip() or platform.machine()
    fields: dict[str, str] = {}
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    core = (fields.get("CPU implementer", ""), fields.get("CPU part", ""))
    model = fields.get("model name") or _ARM_PARTS.get(core) or " ".join(filter(None, core))
    return " ".join(filter(None, (model or platform.processor() or platform.machine(), level())))


def level(emulator: Sequence[str | Path] = ()) -> str:
    """The highest level of x86-64 that glibc's loader would take libraries for; empty where it does not tell."""
    if not Path(_LOADER).exists():
        return ""
    levels = re.findall(r"(x86-64-v\d) \(supported", _said([*map(str, emulator), _LOADER, "--help"]))
    return f"({max(levels)})" if levels else ""


def _mapped(word: str) -> list[str]:
    """Files in this process's memory that are named so."""
    lines = _read("/proc/self/maps").splitlines()
    paths = {line.split(maxsplit=5)[5] for line in lines if line.count("/") and len(line.split(maxsplit=5)) == 6}
    return sorted(path for path in paths if (word in path and "/ld-musl" in path) or path.endswith("musl/libc.so"))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _said(command: list[str], *, both: bool = False) -> str:
    """What a command says on standard output, or on both; nothing where it cannot be run."""
    try:
        result = subprocess.run(command, capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (result.stdout + (result.stderr if both else b"")).decode("utf-8", "replace")
